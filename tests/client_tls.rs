//! `wss://` URLs: whom the client trusts, and what it says of a server that it does not.

#![cfg(any(
    feature = "rustls-tls-native-roots",
    feature = "rustls-tls-webpki-roots"
))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::net::SocketAddr;

use rcgen::{CertifiedKey, KeyPair};
use support::{
    pipe, tcp,
    tls::{acceptor, certificate},
    within,
};
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tower_websocket::{
    Echo, WebSocketLayer,
    client::{ConnectError, Handshake, connect},
};

/// Serves `Echo` behind TLS. The server prefers HTTP/2, which it does not speak.
async fn serve(certificate: &CertifiedKey<KeyPair>) -> SocketAddr {
    let acceptor = acceptor(certificate, &[b"h2", b"http/1.1"]);
    let (listener, address) = tcp::listen().await;
    let service = WebSocketLayer::new(Echo::new()).into_service();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, service) = (acceptor.clone(), service.clone());
            tokio::spawn(async move {
                // The client asserts the result of the TLS handshake.
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
                pipe::serve_on(stream, service);
            });
        }
    });
    address
}

#[tokio::test]
async fn refuses_a_server_that_nobody_vouches_for() {
    let address = serve(&certificate()).await;
    let url = format!("wss://localhost:{}/", address.port());
    let error = within(connect(url)).await.map(drop).unwrap_err();
    assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
    let text = error.to_string();
    // A system may have no roots at all.
    assert!(
        text.starts_with("no TLS connection to the server: invalid peer certificate: ")
            || text.ends_with("root certificates"),
        "{text}"
    );
}

#[tokio::test]
async fn refuses_a_server_without_tls() {
    let address = support::tcp::serve(WebSocketLayer::new(Echo::new()).into_service()).await;
    let error = within(connect(format!("wss://{address}/"))).await;
    let error = error.map(drop).unwrap_err();
    assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
    // A system may have no roots at all, and then nothing is dialled.
    let text = error.to_string();
    assert!(
        text == "no TLS connection to the server: the server seems not to speak TLS: use a ws:// URL"
            || text.ends_with("root certificates"),
        "{text}"
    );
}

#[tokio::test]
async fn names_tls_when_a_server_speaks_it_to_a_plain_client() {
    let address = serve(&certificate()).await;
    let error = within(connect(format!("ws://{address}/"))).await;
    let error = error.map(drop).unwrap_err();
    assert!(
        matches!(error, ConnectError::InvalidResponse(_)),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(text.contains("seems to speak TLS"), "{text}");
}

#[tokio::test]
async fn says_nothing_of_tls_about_a_server_that_speaks_something_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
        stream
    });
    let error = within(connect(url)).await.map(drop).unwrap_err();
    server.abort();
    assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
    assert!(!error.to_string().contains("seems not"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn bounds_the_time_of_the_tls_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("wss://{}/", listener.local_addr().unwrap());
    let error = connect(Handshake::new(url).unwrap()).await;
    let error = error.map(drop).unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut), "{error:?}");
}

/// The variables of the process in which the system trusts the certificate of a test.
#[cfg(feature = "rustls-tls-native-roots")]
const PORT: &str = "TOWER_WEBSOCKET_TEST_PORT";

#[cfg(feature = "rustls-tls-native-roots")]
#[tokio::test]
async fn trusts_the_roots_of_the_system() {
    let certificate = certificate();
    let address = serve(&certificate).await;
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let roots = folder.join(format!("client_tls.{}.pem", std::process::id()));
    std::fs::write(&roots, certificate.cert.pem()).unwrap();
    // The roots are loaded once in a process.
    let output = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "in_a_process_that_trusts", "--ignored"])
        .env("SSL_CERT_FILE", &roots)
        .env_remove("SSL_CERT_DIR")
        .env(PORT, address.port().to_string())
        .kill_on_drop(true)
        .output();
    let output = within(output).await.unwrap();
    std::fs::remove_file(roots).unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("1 passed"), "{output}");
}

#[cfg(feature = "rustls-tls-native-roots")]
#[tokio::test]
#[ignore = "run by trusts_the_roots_of_the_system, in a process of its own"]
async fn in_a_process_that_trusts() {
    let port = std::env::var(PORT).unwrap();
    for scheme in ["wss", "https"] {
        let url = format!("{scheme}://localhost:{port}/");
        let (mut socket, _) = within(connect(url)).await.unwrap();
        let large = "x".repeat(1 << 20);
        for text in ["hello", &large] {
            socket.send(text).await.unwrap();
            let answer = within(socket.recv()).await.unwrap().unwrap();
            assert!(answer.into_text().unwrap() == *text);
        }
        within(socket.close(1000.try_into().unwrap(), ""))
            .await
            .unwrap();
    }
    // The certificate is that of another name.
    let error = within(connect(format!("wss://127.0.0.1:{port}/"))).await;
    let error = error.map(drop).unwrap_err();
    assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[cfg(feature = "rustls-tls-native-roots")]
#[tokio::test]
async fn says_that_roots_were_not_loaded() {
    let address = serve(&certificate()).await;
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = |name| folder.join(format!("client_tls.{name}.{}", std::process::id()));
    let (missing, not_pem) = (file("missing"), file("not_pem"));
    std::fs::write(&not_pem, "no certificate").unwrap();
    for (roots, why) in [
        (&missing, "(os error 2)"),
        (&not_pem, "it has no certificate in PEM format"),
    ] {
        let output = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "in_a_process_without_roots",
                "--ignored",
                "--nocapture",
            ])
            .env("SSL_CERT_FILE", roots)
            .env_remove("SSL_CERT_DIR")
            .env(PORT, address.port().to_string())
            .kill_on_drop(true)
            .output();
        let output = within(output).await.unwrap();
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        let named = format!("SSL_CERT_FILE is {}: ", roots.display());
        assert!(
            output.contains("no TLS connection to the server: "),
            "{output}"
        );
        assert!(output.contains(&named) && output.contains(why), "{output}");
    }
    std::fs::remove_file(not_pem).unwrap();
}

#[cfg(feature = "rustls-tls-native-roots")]
#[tokio::test]
#[ignore = "run by says_that_roots_were_not_loaded, in a process of its own"]
async fn in_a_process_without_roots() {
    let port = std::env::var(PORT).unwrap();
    let url = format!("wss://localhost:{port}/");
    let error = within(connect(url)).await.map(drop).unwrap_err();
    println!("{error}");
}
