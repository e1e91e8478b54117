//! The examples that dial in ways of their own do get through.

#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[cfg(feature = "rustls-tls-webpki-roots")]
#[path = "../examples/client_proxy.rs"]
#[allow(dead_code, reason = "main is not called")]
mod client_proxy;
#[cfg(unix)]
#[path = "../examples/client_unix.rs"]
#[allow(dead_code, reason = "main is not called")]
mod client_unix;
mod support;

use support::within;
use tower_websocket::WebSocket;

/// Sees that a socket leads to `Echo`.
async fn assert_echo(mut socket: WebSocket) {
    for text in ["hello", &"x".repeat(1 << 20)] {
        socket.send(text).await.unwrap();
        let answer = within(socket.recv()).await.unwrap().unwrap();
        assert!(answer.into_text().unwrap() == *text);
    }
}

#[cfg(unix)]
mod unix {
    use std::{env, fs, process};

    use tokio::net::UnixStream;

    use super::{assert_echo, client_unix, within};

    #[tokio::test]
    async fn serves_and_dials_a_unix_socket() {
        let path = env::temp_dir().join(format!("client_unix.{}.sock", process::id()));
        // A file that is left of another server is replaced.
        fs::write(&path, "").unwrap();
        let served = path.clone();
        let server = tokio::spawn(async move { client_unix::serve(&served).await });
        within(async {
            while UnixStream::connect(&path).await.is_err() {
                assert!(!server.is_finished());
                tokio::task::yield_now().await;
            }
        })
        .await;
        let socket = within(client_unix::connect(&path)).await.unwrap();
        assert_echo(socket).await;
        server.abort();
        fs::remove_file(path).unwrap();
    }
}

#[cfg(feature = "rustls-tls-webpki-roots")]
mod proxy {
    use std::net::SocketAddr;

    use tokio::{
        io::{AsyncWriteExt, copy_bidirectional},
        net::{TcpListener, TcpStream},
    };
    use tokio_rustls::rustls::RootCertStore;

    use tower_websocket::{Echo, WebSocketLayer};

    use super::{
        assert_echo, client_proxy,
        support::{
            pipe, tcp,
            tls::{acceptor, certificate},
            wire, within,
        },
    };

    /// Makes tunnels for `user:password`.
    async fn proxy() -> SocketAddr {
        let (listener, address) = tcp::listen().await;
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let head = wire::read_head(&mut stream).await;
                    if !head.contains("\r\nProxy-Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n") {
                        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
                        return stream.write_all(refusal.as_bytes()).await.unwrap();
                    }
                    let line = head.lines().next().unwrap();
                    let to = line.strip_prefix("CONNECT ").unwrap();
                    let to = to.strip_suffix(" HTTP/1.1").unwrap();
                    assert!(head.contains(&format!("\r\nHost: {to}\r\n")), "{head}");
                    let mut server = TcpStream::connect(to).await.unwrap();
                    let answer = "HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    // The client may be gone at any time.
                    let _ = copy_bidirectional(&mut stream, &mut server).await;
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn goes_through_a_proxy() {
        let server = tcp::serve(WebSocketLayer::new(Echo::new()).into_service()).await;
        let (proxy, url) = (proxy().await, format!("ws://{server}/ws"));
        let named = format!("http://user:password@{proxy}");
        let socket = client_proxy::connect(&named, &url, RootCertStore::empty());
        assert_echo(within(socket).await.unwrap()).await;

        // Both are percent-encoded in a URL, so that an @ or a colon can be part of them.
        let encoded = format!("http://us%65r:pass%77ord@{proxy}");
        let socket = client_proxy::connect(&encoded, &url, RootCertStore::empty());
        assert_echo(within(socket).await.unwrap()).await;

        let unnamed = format!("http://{proxy}");
        let socket = client_proxy::connect(&unnamed, &url, RootCertStore::empty());
        let error = within(socket).await.map(drop).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the proxy answers: HTTP/1.1 407 Proxy Authentication Required"
        );
    }

    #[test]
    fn reads_the_url_of_a_proxy() {
        for (url, address, credentials) in [
            ("http://proxy.example", "proxy.example:80", None),
            ("http://[::1]/", "[::1]:80", None),
            ("proxy:3128", "proxy:3128", None),
            (
                "http://ada:pa%40ss@proxy:3128",
                "proxy:3128",
                Some("ada:pa@ss"),
            ),
            (
                "http://a%zz%+4:%C3%A9@proxy",
                "proxy:80",
                Some("a%zz%+4:\u{e9}"),
            ),
        ] {
            let read = client_proxy::read(url).unwrap();
            let credentials = credentials.map(|text| text.as_bytes().to_vec());
            assert_eq!(read, (address.to_owned(), credentials), "{url}");
        }
        for url in ["https://proxy", "socks5://proxy:1080"] {
            let error = client_proxy::read(url).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the proxy's URL does not begin with http://"
            );
        }
    }

    #[tokio::test]
    async fn speaks_tls_through_a_proxy() {
        let certificate = certificate();
        let acceptor = acceptor(&certificate, &[]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = acceptor.accept(stream).await.unwrap();
            let service = WebSocketLayer::new(Echo::new()).into_service();
            pipe::serve_on(stream, service);
        });
        let mut roots = RootCertStore::empty();
        roots.add(certificate.cert.der().clone()).unwrap();
        let named = format!("http://user:password@{}", proxy().await);
        let url = format!("wss://localhost:{port}/");
        let socket = client_proxy::connect(&named, &url, roots);
        assert_echo(within(socket).await.unwrap()).await;
    }
}
