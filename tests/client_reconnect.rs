//! One connection after the other: when a client tries again, how long it waits, and what it gives up on.

#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    future::pending,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http::{Response, header::RETRY_AFTER};
use support::{tcp::serve, within};
use tokio::{
    io::duplex,
    time::{Instant, advance, sleep, timeout},
};
use tower_websocket::{
    Accept, BoxError, CloseCode, CloseFrame, Config, Echo, Refusal, WebSocket, WebSocketLayer,
    client::{ConnectError, Handshake, Reconnect},
    decide,
};

type Connected = Result<(WebSocket, Response<()>), ConnectError>;

fn connected() -> Connected {
    let (io, _) = duplex(64);
    Ok((WebSocket::from_io(io, Config::new()), Response::new(())))
}

fn unreachable() -> Connected {
    Err(ConnectError::Io(io::ErrorKind::ConnectionRefused.into()))
}

fn refused(status: u16) -> ConnectError {
    let response = Response::builder().status(status).body(Bytes::new());
    ConnectError::Refused(Box::new(response.unwrap()))
}

/// When attempts began.
#[derive(Clone, Default)]
struct Attempts(Arc<Mutex<Vec<Instant>>>);

impl Attempts {
    /// Returns a `Reconnect` whose first `failures` attempts are unreachable. Later attempts connect at once.
    fn of_which_fail(&self, failures: usize) -> Reconnect {
        let attempts = self.clone();
        Reconnect::with(move || {
            let number = attempts.begin();
            async move {
                match number < failures {
                    true => unreachable(),
                    false => connected(),
                }
            }
        })
    }

    /// Notes an attempt, and returns how many there were before.
    fn begin(&self) -> usize {
        let mut begun = self.0.lock().unwrap();
        begun.push(Instant::now());
        begun.len() - 1
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The seconds between each attempt and the next one.
    fn gaps(&self) -> Vec<f64> {
        let begun = self.0.lock().unwrap();
        let pairs = begun.windows(2);
        pairs
            .map(|pair| (pair[1] - pair[0]).as_secs_f64())
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn tries_until_it_is_connected() {
    let attempts = Attempts::default();
    let begin = Instant::now();
    attempts.of_which_fail(8).connect().await.unwrap();
    assert_eq!(attempts.count(), 9);
    assert_eq!(
        attempts.0.lock().unwrap()[0],
        begin,
        "the first is made at once"
    );
    let gaps = attempts.gaps();
    // tokio's timer has milliseconds.
    for (gap, ceiling) in gaps.iter().zip([1., 2., 4., 8., 16., 30., 30., 30.]) {
        assert!(*gap <= ceiling + 0.001, "{gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn draws_its_delays_up_to_the_ceiling() {
    let mut delays = Vec::new();
    for _ in 0..200 {
        let attempts = Attempts::default();
        let mut reconnect = attempts
            .of_which_fail(1)
            .delays(Duration::from_secs(8), Duration::from_secs(8));
        reconnect.connect().await.unwrap();
        delays.extend(attempts.gaps());
    }
    assert!(delays.iter().all(|delay| *delay <= 8.001), "{delays:?}");
    assert!(delays.iter().any(|delay| *delay < 2.), "{delays:?}");
    assert!(delays.iter().any(|delay| *delay > 6.), "{delays:?}");
}

#[tokio::test(start_paused = true)]
async fn begins_anew_behind_a_connection_that_was_kept() {
    let attempts = Attempts::default();
    let mut reconnect = attempts.of_which_fail(6);
    for _ in 0..20 {
        let connection = reconnect.connect().await.unwrap();
        advance(Duration::from_secs(10)).await;
        drop(connection);
    }
    // Without the 10 s for which each connection was kept.
    let gaps: Vec<_> = attempts.gaps()[6..].iter().map(|gap| gap - 10.).collect();
    assert!(gaps.iter().all(|gap| *gap <= 1.001), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn waits_longer_and_longer_when_connections_end_at_once() {
    let attempts = Attempts::default();
    let mut reconnect = attempts.of_which_fail(0);
    for _ in 0..30 {
        drop(reconnect.connect().await.unwrap());
        advance(Duration::from_secs(9)).await;
    }
    let longest = attempts.gaps().into_iter().fold(0., f64::max) - 9.;
    // Of 25 delays of up to 30 s all are shorter than 5 s once in 10^19 times.
    assert!((5. ..30.001).contains(&longest), "{longest}");
}

#[tokio::test(start_paused = true)]
async fn is_told_how_long_to_wait_and_for_how_long_to_keep() {
    let attempts = Attempts::default();
    let mut reconnect = attempts
        .of_which_fail(5)
        .delays(Duration::from_millis(100), Duration::from_millis(150))
        .reset_after(Duration::from_secs(1));
    drop(reconnect.connect().await.unwrap());
    let gaps = attempts.gaps();
    assert!(gaps[0] <= 0.101, "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= 0.151), "{gaps:?}");
    advance(Duration::from_secs(1)).await;
    drop(reconnect.connect().await.unwrap());
    let gap = attempts.gaps()[5];
    assert!(gap <= 1.101, "{gap}");
}

#[tokio::test(start_paused = true)]
async fn goes_on_where_a_dropped_call_was() {
    let attempts = Attempts::default();
    let counted = attempts.clone();
    let mut reconnect = Reconnect::with(move || {
        let number = counted.begin();
        async move {
            sleep(Duration::from_secs(5)).await;
            match number {
                0 => unreachable(),
                _ => connected(),
            }
        }
    });
    let begin = Instant::now();
    let mut calls = 1;
    while timeout(Duration::from_millis(100), reconnect.connect())
        .await
        .is_err()
    {
        calls += 1;
        assert!(calls < 1000, "it never gets there");
    }
    assert!(calls >= 100, "{calls} calls");
    assert_eq!(attempts.count(), 2, "neither attempt was given up");
    let took = begin.elapsed().as_secs_f64();
    assert!((10. ..11.2).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn drops_an_attempt_when_it_is_dropped() {
    struct Held(Arc<AtomicBool>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let dropped = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&dropped);
    let mut reconnect = Reconnect::with(move || {
        let held = Held(Arc::clone(&held));
        async move {
            let _held = held;
            pending::<Connected>().await
        }
    });
    let call = timeout(Duration::from_secs(60), reconnect.connect()).await;
    assert!(call.is_err() && !dropped.load(Ordering::Relaxed));
    drop(reconnect);
    assert!(dropped.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn gives_up_on_what_does_not_pass() {
    for status in [301, 400, 401, 403, 404, 410, 426, 501] {
        let attempts = Attempts::default();
        let counted = attempts.clone();
        let mut reconnect = Reconnect::with(move || {
            counted.begin();
            async move { Err(refused(status)) }
        });
        for count in 1..4 {
            let error = reconnect.connect().await.map(drop).unwrap_err();
            assert!(matches!(error, ConnectError::Refused(_)), "{error:?}");
            assert_eq!(attempts.count(), count, "{status}");
        }
        // A call behind an error waits, too.
        let gaps = attempts.gaps();
        assert!(gaps.iter().any(|gap| *gap > 0.), "{gaps:?}");
    }
    let error = ConnectError::InvalidResponse("no".into());
    assert!(!error.is_transient() && !ConnectError::NeedsTls.is_transient());
    assert!(!ConnectError::Tls("no".into()).is_transient());
    assert!(!ConnectError::InvalidRequest("no".into()).is_transient());
}

#[tokio::test(start_paused = true)]
async fn goes_on_behind_what_may_pass() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        assert!(refused(status).is_transient(), "{status}");
    }
    assert!(ConnectError::TimedOut.is_transient());

    let attempts = Attempts::default();
    let counted = attempts.clone();
    let mut reconnect = Reconnect::with(move || {
        let number = counted.begin();
        async move {
            match number {
                0 => Err(refused(401)),
                _ => connected(),
            }
        }
    })
    .retry_if(|error| matches!(error, ConnectError::Refused(response) if response.status() == 401));
    reconnect.connect().await.unwrap();
    assert_eq!(attempts.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn leaves_a_server_alone_for_as_long_as_it_asks() {
    for (asked, least) in [("7", 7.), ("86400", 30.), ("soon", 0.)] {
        let attempts = Attempts::default();
        let counted = attempts.clone();
        let mut reconnect = Reconnect::with(move || {
            let number = counted.begin();
            async move {
                if number > 0 {
                    return connected();
                }
                let response = Response::builder().status(503).header(RETRY_AFTER, asked);
                let response = response.body(Bytes::new()).unwrap();
                Err(ConnectError::Refused(Box::new(response)))
            }
        });
        reconnect.connect().await.unwrap();
        let gap = attempts.gaps()[0];
        assert!((least..=least + 1.001).contains(&gap), "{asked}: {gap}");
    }
}

#[tokio::test(start_paused = true)]
async fn is_a_stream() {
    let attempts = Attempts::default();
    let reconnect = attempts.of_which_fail(3);
    let connections: Vec<_> = reconnect.take(3).try_collect().await.unwrap();
    assert_eq!((connections.len(), attempts.count()), (3, 6));
}

#[tokio::test]
async fn connects_again_to_a_server() {
    let address = serve(WebSocketLayer::new(Echo::new()).into_service()).await;
    let handshake = Handshake::new(format!("ws://{address}/")).unwrap();
    let short = Duration::from_millis(10);
    let mut reconnect = Reconnect::new(handshake).delays(short, short);
    for _ in 0..3 {
        let (mut socket, response) = within(reconnect.connect()).await.unwrap();
        assert_eq!(response.status(), 101);
        socket.send("hello").await.unwrap();
        let answer = within(socket.recv()).await.unwrap().unwrap();
        assert_eq!(answer.into_text().unwrap(), *"hello");
    }
}

#[tokio::test]
async fn lets_a_loop_end_for_a_code_of_the_application() {
    let handler = decide(
        async |_| {
            let frame = CloseFrame::new(CloseCode::new(4401)?, "token expired")?;
            Err::<(Accept, ()), _>(Refusal::close(frame))
        },
        async |_: WebSocket, ()| Ok::<_, BoxError>(()),
    );
    let address = serve(WebSocketLayer::new(handler).into_service()).await;
    let handshake = Handshake::new(format!("ws://{address}/")).unwrap();
    let mut reconnect = Reconnect::new(handshake);
    // The loop of the type's example.
    let frame = within(async {
        loop {
            let (mut socket, _response) = reconnect.connect().await.unwrap();
            while let Ok(Some(_)) = socket.recv().await {}
            if let Some(frame) = socket
                .close_frame()
                .filter(|frame| frame.code().get() >= 4000)
            {
                return frame;
            }
        }
    })
    .await;
    assert_eq!(
        (frame.code().get(), frame.reason()),
        (4401, "token expired")
    );
}

#[test]
fn can_be_sent_to_another_thread() {
    fn sendable<T: Send + 'static>(_: &T) {}
    let mut reconnect = Reconnect::new(Handshake::new("ws://example.com/").unwrap());
    sendable(&reconnect);
    let task = async move { reconnect.connect().await };
    sendable(&task);
}
