//! An open WebSocket connection: the API for handlers, and the code that serves the stream.
//!
//! | File | Holds |
//! | --- | --- |
//! | `websocket` | the API of the connection's holder: [`WebSocket`] |
//! | `events` | the events that the registry gets |
//! | `traffic` | counts of messages |
//! | `sender` | the API for other tasks: [`Sender`] |
//! | `halves` | the API of a socket in two tasks: [`WriteHalf`], [`ReadHalf`] |
//! | `part` | the parts of a socket that keep its connection open |
//! | `sending` | the future of a send |
//! | `error` | the errors of receiving and sending |
//! | `json` | sending and receiving JSON |
//! | `handler_error` | the Close for a handler's error |
//! | `link` | the state that connection, holder and senders share |
//! | `inbox` | messages that wait for the handler |
//! | `waiters` | the queue of tasks that wait for room to send |
//! | `info` | facts from the handshake, and the application's values |
//! | `setup` | settings that are fixed before a connection is served |
//! | `session` | one task for a handler and its connection |
//! | `driver` | when to read, write, close and give up |
//! | `receiver` | bytes that were read, and their decoder |
//! | `input` | the shared read buffers |
//! | `engine` | the stream, and the frames that are being written |
//! | `transport` | the stream that a server hands over |
//! | `io` | fast paths for TCP |
//! | `tcp_write` | writing to a TCP socket without tokio's readiness |
//! | `lender` | streams that connections lend to rooms |
//! | `http2` | streams of HTTP/2 |
//! | `budget` | limits on the work of one poll |
//! | `sync` | the lock of a connection: of std, or of `loom` for its models |
//! | `timer` | one timer for all deadlines of a connection |
//! | `byte_stream` | a socket as a stream of bytes: [`ByteStream`] |
//! | `ping` | the API for pings |
//! | `streams` | `Stream` and `Sink` of the socket and its senders |
//! | `report` | log lines and spans |

// rustdoc lists the methods of a type in the order of these modules, so the main ones come first.
mod websocket;

mod halves;
mod sender;

mod budget;
mod byte_stream;
#[cfg(all(test, feature = "deflate", not(tower_websocket_loom)))]
mod compressing_tests;
mod driver;
mod engine;
mod error;
mod events;
mod handler_error;
pub(crate) mod http2;
mod inbox;
mod info;
mod input;
mod io;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "hub")]
mod lender;
mod link;
#[cfg(test)]
#[cfg(tower_websocket_loom)]
pub(crate) mod loom;
mod part;
mod ping;
mod receiver;
pub(crate) mod report;
mod sending;
mod session;
mod setup;
mod streams;
pub(crate) mod sync;
mod tcp_write;
mod timer;
mod traffic;
mod transport;
mod waiters;

#[cfg(feature = "json")]
pub use self::json::{RecvJsonError, SendJsonError, SendingJson};
#[cfg(feature = "hub")]
pub(crate) use self::link::{Entered, Turn};
pub use self::{
    byte_stream::ByteStream,
    error::{RecvError, SendError, SendTimeoutError, SocketError, TryRecvError, TrySendError},
    halves::{ReadHalf, ReuniteError, WriteHalf},
    sender::{Buffered, Sender},
    sending::Sending,
    traffic::Traffic,
    websocket::WebSocket,
};
pub(crate) use self::{
    events::{Events, Hook, Registration},
    info::{HandshakeInfo, Values},
    link::Link,
    session::{EndHooks, Session, detached_in, serve},
    setup::{Served, Setup},
    timer::now,
    transport::Transport,
};
