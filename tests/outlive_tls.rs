//! No connection over TLS outlives its peer, for all messages of the peer and all kinds of handler.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "outlive/mod.rs"]
mod outlive;
mod support;

use outlive::{
    Stream,
    network::{Cable, Kind, run},
};
use pipe::Served;
use support::{pipe, tls, wire};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

struct Tls(TlsAcceptor, TlsConnector);

impl Kind for Tls {
    const STREAM: Stream = Stream::Tls;
    type Socket = client::TlsStream<Cable>;
    type Session = ();

    fn serve(&self, stream: TcpStream, service: impl Served) {
        let accept = self.0.accept(stream);
        tokio::spawn(async {
            if let Ok(stream) = accept.await {
                pipe::serve_on(stream, service);
            }
        });
    }

    async fn open(&self, cable: Cable) -> (Self::Socket, ()) {
        let name = "localhost".try_into().unwrap();
        let mut stream = self.1.connect(name, cable).await.unwrap();
        wire::upgrade(&mut stream, &wire::handshake("/")).await;
        (stream, ())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_over_tls_end_with_their_peers() {
    let (acceptor, connector) = tls::pair();
    run(Tls(acceptor, connector)).await;
}
