//! A peer that floods and never reads.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, sleep, timeout},
};
use tower_websocket::{Config, WebSocket, error::RecvError};

use super::{PIPE, SECOND, run, unlimited, unread::Swallows};
use crate::support::{
    handlers::receive,
    memory::{Growth, KIB, MIB},
    tap::Tapped,
    wire::{FIN, PING, PONG, frame},
};

/// The outcome of a flood.
struct Flooded {
    pub(crate) sent: usize,
    total: usize,
    gone_after: Option<Duration>,
    pub(crate) error: Option<RecvError>,
    pub(crate) growth: Growth,
}

impl Flooded {
    pub(crate) fn assert_within(&self, bound: usize) {
        println!(
            "- sent {} of {} KiB; gone after {:?}: {:?}",
            self.sent / KIB,
            self.total / KIB,
            self.gone_after,
            self.error
        );
        self.growth.assert_within(bound, "growth");
    }
}

/// Sends 200 MiB, one every 40 ms if the server takes them, and reads nothing.
async fn flood(config: Config, frames: &[u8]) -> Flooded {
    let (server, client) = duplex(PIPE);
    flood_through(server, client, config, frames, 200 * MIB).await
}

async fn flood_through(
    server: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut client: DuplexStream,
    config: Config,
    frames: &[u8],
    total: usize,
) -> Flooded {
    let bytes = frames.repeat(64 * KIB / frames.len());
    let mut growth = Growth::start();
    let start = Instant::now();
    let receiver = receive(WebSocket::from_io(server, config));
    let mut sent = 0;
    let mut gone_after = None;
    let mut rest = &*bytes;
    let mut next = MIB;
    while sent < total {
        let most = rest.len().min(total - sent);
        match timeout(60 * SECOND, client.write(&rest[..most]))
            .await
            .unwrap()
        {
            Ok(written) => {
                sent += written;
                rest = &rest[written..];
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
                gone_after = Some(start.elapsed());
                break;
            }
        }
        if rest.is_empty() {
            rest = &bytes;
        }
        if sent >= next {
            next += MIB;
            growth.sample();
            sleep(Duration::from_millis(40)).await;
        }
    }
    growth.sample();
    let error = if gone_after.is_some() {
        receiver.await.unwrap()
    } else {
        receiver.abort();
        None
    };
    Flooded {
        sent,
        total,
        gone_after,
        error,
        growth,
    }
}

/// The limit cuts the peer off, and it is gone when the time for the closing is over.
pub(crate) fn pings() {
    run(async {
        let flooded = flood(Config::new(), &frame(FIN | PING, b"")).await;
        flooded.assert_within(256 * KIB);
        assert!(matches!(
            flooded.error,
            Some(RecvError::TooManyControlFrames)
        ));
        assert!(flooded.gone_after.unwrap() <= 10 * SECOND);
    });
}

/// The pongs block the output before the limit is reached.
pub(crate) fn long_pings() {
    run(async {
        let flooded = flood(Config::new(), &frame(FIN | PING, &[1; 125])).await;
        flooded.assert_within(256 * KIB);
        assert!(flooded.gone_after.unwrap() <= 10 * SECOND);
    });
}

pub(crate) fn unlimited_pings() {
    run(async {
        let flooded = flood(unlimited(), &frame(FIN | PING, b"")).await;
        flooded.assert_within(256 * KIB);
        assert!(matches!(flooded.error, Some(RecvError::Stalled)));
        assert!(flooded.sent < MIB, "reading stops");
        assert_eq!(flooded.gone_after, Some(10 * SECOND));
    });
}

pub(crate) fn unlimited_long_pings() {
    run(async {
        let flooded = flood(unlimited(), &frame(FIN | PING, &[1; 125])).await;
        flooded.assert_within(256 * KIB);
        assert!(matches!(flooded.error, Some(RecvError::Stalled)));
        assert!(flooded.sent < MIB, "reading stops");
        assert_eq!(flooded.gone_after, Some(10 * SECOND));
    });
}

/// The bytes of a flood whose frames are decoded one by one. Tests are not optimized, so it is small.
const DECODED: usize = 20 * MIB;

/// Pongs have no answer, so all of them are read.
pub(crate) fn unlimited_pongs() {
    run(async {
        let (server, client) = duplex(PIPE);
        let frames = frame(FIN | PONG, &[1; 125]);
        let flooded = flood_through(server, client, unlimited(), &frames, DECODED).await;
        flooded.assert_within(256 * KIB);
        assert_eq!((flooded.gone_after, flooded.sent), (None, DECODED));
    });
}

/// Somebody on the way takes all the pongs, so that nothing blocks the output.
pub(crate) fn swallowed_pongs() {
    run(async {
        let (stream, client) = duplex(PIPE);
        let server = Tapped::new(stream, Swallows(true));
        let frames = frame(FIN | PING, &[1; 125]);
        let flooded = flood_through(server, client, unlimited(), &frames, DECODED).await;
        flooded.assert_within(256 * KIB);
        assert_eq!((flooded.gone_after, flooded.sent), (None, DECODED));
    });
}
