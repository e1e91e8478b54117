//! The traffic of a connection before it is idle, and the memory that each host may keep of it.

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::sleep;
use tower_websocket::WebSocket;

#[cfg(feature = "deflate")]
use super::compressed;
use super::{
    KIB, MIB, MOMENT,
    client::{
        Peer, answers, asks, asks_in_halves, asks_in_pieces, drains, drains_in_halves, drains_late,
        pings,
    },
    server::{
        cancels, echoes, echoes_in_halves, echoes_late, fills, flushes, receives_in_vain, sends,
        sends_elsewhere,
    },
};

/// The traffic of the server's side, before it only receives.
pub(crate) type Act = fn(WebSocket) -> BoxFuture<'static, WebSocket>;
/// The traffic of the client's side until then.
type Drive = fn(Peer) -> BoxFuture<'static, Peer>;

#[derive(Clone, Copy)]
pub(crate) struct History {
    pub(crate) name: &'static str,
    pub(crate) act: Act,
    pub(crate) drive: Drive,
    /// How many bytes more than a connection that did nothing each of the hosts may keep.
    pub(crate) most: &'static [isize],
}

/// Measured alone: the first is what the others are compared with, and when the second takes place is
/// random.
pub(crate) const ALONE: [History; 2] = [
    History {
        name: "nothing",
        act: |socket| async { socket }.boxed(),
        drive: |peer| async { peer }.boxed(),
        most: &[4096, 4096, 2400, 2400],
    },
    History {
        name: "a ping of the keepalive answered",
        act: |socket| async { socket }.boxed(),
        drive: |peer| answers(peer).boxed(),
        most: &[16, 16, 16, 16],
    },
];

#[cfg(feature = "deflate")]
pub(crate) const ALONE_COMPRESSED: [History; 1] = [History {
    most: &[4096, 4096],
    ..ALONE[0]
}];

pub(crate) const HISTORIES: &[History] = &[
    History {
        name: "64 x 32 B by `send`",
        act: |socket| sends(socket, 64, 32).boxed(),
        drive: |peer| drains(peer, 64 * 34).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "60 x 1,000 B by `send`",
        act: |socket| sends(socket, 60, 1000).boxed(),
        drive: |peer| drains(peer, 60 * 1004).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "1,000 x 2,000 B by `send`",
        act: |socket| sends(socket, 1000, 2000).boxed(),
        drive: |peer| drains(peer, 1000 * 2004).boxed(),
        most: &[144, 144, 144, 144],
    },
    History {
        name: "1 MiB by `send`",
        act: |socket| sends(socket, 1, MIB).boxed(),
        drive: |peer| drains(peer, MIB + 10).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "1,000 x 2,000 B by `send`, read in two halves",
        act: |socket| sends(socket, 1000, 2000).boxed(),
        drive: |peer| drains_in_halves(peer, 1000 * 2004).boxed(),
        most: &[144, 144, 144, 144],
    },
    History {
        name: "60 x 1,000 B fed to a `Sink`",
        act: |socket| flushes(socket, 0, 60).boxed(),
        drive: |peer| drains(peer, 60 * 1004).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "60 x 1,000 B fed to a `Sink`, a flush, 5 B sent",
        act: |socket| flushes(socket, 1, 60).boxed(),
        drive: |peer| drains(peer, 60 * 1004 + 7).boxed(),
        most: &[96, 96, 80, 64],
    },
    History {
        name: "2 flushes in one poll, 10 KB each, 5 B sent",
        act: |socket| flushes(socket, 2, 10).boxed(),
        drive: |peer| drains(peer, 2 * 10 * 1004 + 7).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "2 flushes in one poll, 60 KB each, 5 B sent",
        act: |socket| flushes(socket, 2, 60).boxed(),
        drive: |peer| drains(peer, 2 * 60 * 1004 + 7).boxed(),
        most: &[64, 64, 80, 64],
    },
    History {
        name: "64 x 32 B by a `Sender` in another task",
        act: |socket| sends_elsewhere(socket, 1, 64, 32).boxed(),
        drive: |peer| drains(peer, 64 * 34).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "1,000 x 2,000 B by a `Sender` in another task",
        act: |socket| sends_elsewhere(socket, 1, 1000, 2000).boxed(),
        drive: |peer| drains(peer, 1000 * 2004).boxed(),
        most: &[144, 144, 144, 144],
    },
    History {
        name: "64 KiB by a `Sender` in each of 20 tasks",
        act: |socket| sends_elsewhere(socket, 20, 1, 64 * KIB).boxed(),
        drive: |peer| drains_late(peer, 20 * (64 * KIB + 10)).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "an outbox full of 32 B drained",
        act: |socket| fills(socket, 32).boxed(),
        drive: |peer| drains_late(peer, 1024 * 34).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "an outbox full of 2,000 B drained",
        act: |socket| fills(socket, 2000).boxed(),
        drive: |peer| drains_late(peer, 523 * 2004).boxed(),
        most: &[144, 144, 144, 144],
    },
    History {
        name: "an outbox full of 8 KiB drained",
        act: |socket| fills(socket, 8 * KIB).boxed(),
        drive: |peer| drains_late(peer, 127 * 8196).boxed(),
        most: &[144, 144, 144, 144],
    },
    History {
        name: "an outbox full of 1,000 B drained, 10 `send` cancelled",
        act: |socket| cancels(socket).boxed(),
        drive: |peer| drains_late(peer, 1024 * 1004).boxed(),
        most: &[144, 144, 144, 144],
    },
    History {
        name: "100 `recv` cancelled",
        act: |socket| receives_in_vain(socket).boxed(),
        drive: |peer| sleep(200 * MOMENT).map(|()| peer).boxed(),
        most: &[0, 0, 0, 0],
    },
    History {
        name: "32 B echoed",
        act: |socket| echoes(socket, 1).boxed(),
        drive: |peer| asks(peer, 1, 32).boxed(),
        most: &[112, 112, 112, 112],
    },
    History {
        name: "64 x 32 B echoed",
        act: |socket| echoes(socket, 64).boxed(),
        drive: |peer| asks(peer, 64, 32).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "64 x 1,000 B echoed",
        act: |socket| echoes(socket, 64).boxed(),
        drive: |peer| asks(peer, 64, 1000).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "64 x 1,000 B echoed, received late",
        act: |socket| echoes_late(socket, 64).boxed(),
        drive: |peer| asks(peer, 64, 1000).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "12 x 10 KB echoed by split halves",
        act: |socket| echoes_in_halves(socket, 12).boxed(),
        drive: |peer| asks(peer, 12, 10_000).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "1 MiB echoed",
        act: |socket| echoes(socket, 1).boxed(),
        drive: |peer| asks(peer, 1, MIB).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "1 MiB echoed, in 64 frames",
        act: |socket| echoes(socket, 1).boxed(),
        drive: |peer| asks_in_pieces(peer, MIB).boxed(),
        most: &[64, 64, 64, 64],
    },
    History {
        name: "256 KiB echoed, in 64 frames that come in halves, pings between",
        act: |socket| echoes(socket, 1).boxed(),
        drive: |peer| asks_in_halves(peer, 256 * KIB).boxed(),
        most: &[96, 96, 96, 96],
    },
    History {
        name: "150 pings of 125 B",
        act: |socket| async { socket }.boxed(),
        drive: |peer| pings(peer, 150).boxed(),
        most: &[0, 0, 0, 0],
    },
    History {
        name: "150 pings of 125 B, one at a time",
        act: |socket| async { socket }.boxed(),
        drive: |peer| pings(peer, 1).boxed(),
        most: &[16, 16, 16, 16],
    },
];

#[cfg(feature = "deflate")]
pub(crate) const COMPRESSED_HISTORIES: &[History] = &[
    History {
        name: "4 x 10 KB compressed by `send`",
        act: |socket| sends(socket, 4, 10_000).boxed(),
        drive: |peer| compressed::drains_some(peer).boxed(),
        most: &[64, 64],
    },
    History {
        name: "64 KiB compressed echoed",
        act: |socket| echoes(socket, 1).boxed(),
        drive: |peer| compressed::asks(peer, 1).boxed(),
        most: &[64, 64],
    },
    History {
        name: "64 KiB compressed echoed, in 16 frames",
        act: |socket| echoes(socket, 1).boxed(),
        drive: |peer| compressed::asks(peer, 16).boxed(),
        most: &[64, 64],
    },
    History {
        name: "16 KiB of noise echoed",
        act: |socket| echoes(socket, 1).boxed(),
        drive: |peer| compressed::makes_noise(peer).boxed(),
        most: &[64, 64],
    },
];
