//! A client that connects through an HTTP proxy, with a `CONNECT` tunnel.
//!
//! ```text
//! cargo run --features rustls-tls-webpki-roots --example client_proxy -- \
//!     http://user:password@127.0.0.1:3128 wss://example.com/ws
//! ```
//!
//! It sends `hello` and prints messages until the server closes. For a `wss://` URL, TLS runs between the
//! client and the server, inside the tunnel. The proxy sees only the server's name.
//!
//! The proxy's default port is 80. In the proxy's user and password, percent-encode `@`, `:`, `/` and
//! `%`: `pa%40ss` stands for `pa@ss`.

use std::{env, io, process::ExitCode, sync::Arc, time::Duration};

use data_encoding::BASE64;
use http::Uri;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use tower_websocket::{
    Error, WebSocket,
    client::{Handshake, connect_with},
};

/// The maximum size of the head of a proxy's response, in bytes.
const MAX_HEAD: u64 = 8 * 1024;

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run().await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("{error}");
    ExitCode::FAILURE
}

async fn run() -> Result<(), Error> {
    let mut arguments = env::args().skip(1);
    let (Some(proxy), Some(url)) = (arguments.next(), arguments.next()) else {
        return Err(Error::new("usage: client_proxy PROXY URL"));
    };
    let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    // `connect_with` has a timeout for the handshake, but not for the proxy.
    let socket = timeout(Duration::from_secs(10), connect(&proxy, &url, roots));
    let mut socket = socket.await??;
    socket.send("hello").await?;
    while let Some(message) = socket.recv().await? {
        println!("{}", String::from_utf8_lossy(message.as_bytes()));
    }
    Ok(())
}

/// Connects to a `ws://` or `wss://` URL through a proxy.
pub(crate) async fn connect(
    proxy: &str,
    url: &str,
    roots: RootCertStore,
) -> Result<WebSocket, Error> {
    // Reports an invalid URL before connecting.
    let handshake = Handshake::new(url)?;
    let to: Uri = url.parse()?;
    let is_encrypted = to.scheme_str() == Some("wss");
    let host = to.host().ok_or_else(|| Error::new("the URL has no host"))?;
    let port = to.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
    let tunnel = tunnel(proxy, &format!("{host}:{port}")).await?;
    let (socket, _response) = match is_encrypted {
        true => connect_with(handshake, encrypt(host, tunnel, roots).await?).await?,
        false => connect_with(handshake, tunnel).await?,
    };
    Ok(socket)
}

/// Opens a tunnel to a host and port through a proxy.
///
/// Returns the `BufReader`, because its buffer may hold bytes that followed the proxy's response.
async fn tunnel(proxy: &str, to: &str) -> Result<BufReader<TcpStream>, Error> {
    let (address, user) = read(proxy)?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;

    let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
    if let Some(user) = user {
        let user = BASE64.encode(&user);
        request.push_str(&format!("Proxy-Authorization: Basic {user}\r\n"));
    }
    request.push_str("\r\n");
    let mut stream = BufReader::new(stream);
    stream.write_all(request.as_bytes()).await?;

    let mut head = (&mut stream).take(MAX_HEAD);
    let mut line = String::new();
    head.read_line(&mut line).await?;
    if !(line.starts_with("HTTP/1.1 2") || line.starts_with("HTTP/1.0 2")) {
        return Err(Error::new(format!("the proxy answers: {}", line.trim())));
    }
    while !line.trim_end_matches(['\r', '\n']).is_empty() {
        line.clear();
        if head.read_line(&mut line).await? == 0 {
            return Err(Error::new("the head of the proxy's answer has no end"));
        }
    }
    Ok(stream)
}

/// Returns the address of a proxy, and `user:password` if its URL has them.
pub(crate) fn read(proxy: &str) -> Result<(String, Option<Vec<u8>>), Error> {
    let proxy: Uri = proxy.parse()?;
    // A URL without a scheme is a host and a port.
    if proxy.scheme_str().is_some_and(|scheme| scheme != "http") {
        return Err(Error::new("the proxy's URL does not begin with http://"));
    }
    let authority = proxy.authority();
    let authority = authority.ok_or_else(|| Error::new("the proxy has no host"))?;
    let port = authority.port_u16().unwrap_or(80);
    let address = format!("{}:{port}", authority.host());
    let user = authority.as_str().rsplit_once('@');
    Ok((address, user.map(|(user, _)| decode(user))))
}

/// Decodes percent-encoding. A `%` without two hexadecimal digits stays as it is.
fn decode(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part
            .get(..2)
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match digits {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => {
                bytes.push(b'%');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    bytes
}

async fn encrypt(
    host: &str,
    stream: BufReader<TcpStream>,
    roots: RootCertStore,
) -> io::Result<TlsStream<BufReader<TcpStream>>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}
