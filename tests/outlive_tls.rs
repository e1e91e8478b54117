//! No connection over TLS outlives its peer, whatever that sent before and whatever the handler does.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/outlive/mod.rs"]
mod outlive;
#[path = "support/pipe.rs"]
mod pipe;
#[path = "support/wire.rs"]
mod wire;

use std::sync::Arc;

use outlive::{
    Stream,
    network::{Cable, Kind, run},
};
use pipe::Served;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor, TlsConnector, client,
    rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Tls {
    fn new() -> Self {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(certificate.signing_key.serialize_der().into());
        let provider = Arc::new(ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.cert.der().clone()], key)
            .unwrap();
        let mut trusted = RootCertStore::empty();
        trusted.add(certificate.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(trusted)
            .with_no_client_auth();
        Self {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
        }
    }
}

impl Kind for Tls {
    const STREAM: Stream = Stream::Tls;
    type Socket = client::TlsStream<Cable>;
    type Session = ();

    fn serve(&self, stream: TcpStream, service: impl Served) {
        let accept = self.acceptor.accept(stream);
        tokio::spawn(async {
            if let Ok(stream) = accept.await {
                pipe::serve_on(stream, service);
            }
        });
    }

    async fn open(&self, cable: Cable) -> (Self::Socket, ()) {
        let name = "localhost".try_into().unwrap();
        let mut stream = self.connector.connect(name, cable).await.unwrap();
        wire::upgrade(&mut stream, &wire::handshake("/")).await;
        (stream, ())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_over_tls_end_with_their_peers() {
    run(Tls::new()).await;
}
