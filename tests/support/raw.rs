//! A client of HTTP/1 on TCP that sends a head written line by line, right or wrong, and reads what comes back byte
//! by byte. It is for tests of the handshake; `wire` is for frames.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{fmt, net::SocketAddr};

use http::{Request, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{wire, within};

/// The key of RFC 6455 §1.3, and the answer that the RFC gives to it.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ANSWER: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A valid handshake as a service gets it without a server: there is no `OnUpgrade` in it.
pub(crate) fn handshake_head() -> Request<()> {
    Request::get("/ws")
        .header(header::HOST, "example.com")
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_KEY, KEY)
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .body(())
        .unwrap()
}

/// The head of a request, and the bytes after it.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    line: String,
    fields: Vec<(String, String)>,
    rest: Vec<u8>,
}

/// A valid handshake for `/ws`. Tests change its lines.
pub(crate) fn handshake() -> Head {
    request("GET /ws HTTP/1.1")
        .with("Host", "example.com")
        .with("Upgrade", "websocket")
        .with("Connection", "Upgrade")
        .with("Sec-WebSocket-Key", KEY)
        .with("Sec-WebSocket-Version", "13")
}

pub(crate) fn request(line: &str) -> Head {
    Head {
        line: line.to_owned(),
        fields: Vec::new(),
        rest: Vec::new(),
    }
}

impl Head {
    pub(crate) fn line(mut self, line: &str) -> Self {
        line.clone_into(&mut self.line);
        self
    }

    /// Adds a line, even if the field is already there.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        let before = self.fields.len();
        self.fields.retain(|(other, _)| other != name);
        assert!(self.fields.len() < before, "there is no {name}");
        self
    }

    /// Replaces all lines of a field by one, in the place of the first.
    pub(crate) fn replaced(mut self, name: &str, value: &str) -> Self {
        let place = self.fields.iter().position(|(other, _)| other == name);
        self = self.without(name);
        let field = (name.to_owned(), value.to_owned());
        self.fields.insert(place.unwrap(), field);
        self
    }

    pub(crate) fn followed_by(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.rest.extend_from_slice(bytes.as_ref());
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.to_string().as_bytes(), &self.rest].concat()
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\r\n", self.line)?;
        for (name, value) in &self.fields {
            write!(f, "{name}: {value}\r\n")?;
        }
        f.write_str("\r\n")
    }
}

/// A response as it came over the wire.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case, in the order of the wire.
    pub(crate) fields: Vec<(String, String)>,
    /// All bytes after the head.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Parses all the bytes that a server sent.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end =
            end.unwrap_or_else(|| panic!("no head in {:?}", bytes.escape_ascii().to_string()));
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap();
        let status = line.strip_prefix("HTTP/1.1 ").map(|line| &line[..3]);
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Self {
            status: status.and_then(|status| status.parse().ok()).unwrap(),
            fields: fields.collect(),
            body: bytes[end + 4..].to_vec(),
        }
    }

    /// Returns every line of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.fields.iter().filter(|(other, _)| other == name);
        fields.map(|(_, value)| value.as_str()).collect()
    }

    /// Returns the value of a field, or `None`. Panics if there are several.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let lines = self.all(name);
        assert!(lines.len() < 2, "{name} is repeated: {lines:?}");
        lines.first().copied()
    }

    /// Returns the names of all fields, sorted.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }
}

/// A client that writes any bytes.
#[derive(Debug)]
pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) async fn connect(server: SocketAddr) -> Self {
        let stream = within(TcpStream::connect(server)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.0.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Reads a response without its body.
    pub(crate) async fn head(&mut self) -> Reply {
        Reply::parse(within(wire::read_head(&mut self.0)).await.as_bytes())
    }

    /// Reads as many bytes as `expected` has, and asserts that they are equal.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &[u8]) -> impl Future<Output = ()> {
        let mut bytes = vec![0; expected.len()];
        let expected = expected.escape_ascii().to_string();
        let read = async move {
            self.0.read_exact(&mut bytes).await.unwrap();
            assert_eq!(bytes.escape_ascii().to_string(), expected);
        };
        within(read)
    }

    /// Reads the text of the next message.
    pub(crate) async fn text(&mut self) -> String {
        let frame = within(wire::read_frame(&mut self.0)).await;
        let frame = frame.expect("a message was expected, not the end");
        assert_eq!(frame.first, wire::FIN | wire::TEXT, "{frame:?}");
        String::from_utf8(frame.payload).unwrap()
    }

    /// Reads a Close, and returns its code.
    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        let frame = within(wire::read_frame(&mut self.0)).await;
        frame
            .expect("a Close was expected, not the end")
            .close_code()
    }

    /// Reads until the server closes the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        within(self.0.read_to_end(&mut bytes)).await.unwrap();
        bytes
    }
}

/// Sends a request on a connection of its own and reads until the server closes that.
pub(crate) async fn exchange(server: SocketAddr, request: &Head) -> Vec<u8> {
    let mut client = Client::connect(server).await;
    client.write(request.bytes()).await;
    client.rest().await
}

/// Sends a handshake, which has to be accepted.
pub(crate) async fn upgrade(server: SocketAddr, request: &Head) -> (Client, Reply) {
    let mut client = Client::connect(server).await;
    client.write(request.bytes()).await;
    let reply = client.head().await;
    assert_eq!(reply.status, 101, "answer to\n{request}");
    (client, reply)
}

/// Builds a whole text message.
pub(crate) fn text(text: &str) -> Vec<u8> {
    wire::frame(wire::FIN | wire::TEXT, text.as_bytes())
}
