//! Our hub. `GET /room` returns the number of members that are behind, and the times of `send`.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_websocket::{
    BoxError as HandlerError, WebSocket, WebSocketLayer,
    hub::{Hub, HubConfig, Overflow, RoomConfig},
};

use crate::{
    BoxError,
    load::latency::Histogram,
    server::{ours::configured, plain},
};

const ROOM: &str = "room";

pub(super) async fn serve(
    listener: TcpListener,
    overflow: Option<Overflow>,
) -> Result<(), BoxError> {
    let hub: Hub = Hub::with(HubConfig::new().rooms(move |_| match overflow {
        Some(overflow) => RoomConfig::new().overflow(overflow),
        None => RoomConfig::new(),
    }));
    let times = Arc::new(Mutex::new(Histogram::new()));
    let handler = {
        let (hub, times) = (hub.clone(), Arc::clone(&times));
        move |mut socket: WebSocket| {
            let (hub, times) = (hub.clone(), Arc::clone(&times));
            async move {
                let room = hub.room(ROOM).join(&socket, ()).await?;
                while let Some(message) = socket.recv().await? {
                    let begun = Instant::now();
                    room.send(message)?;
                    let took = begun.elapsed();
                    let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
                    times.add(took, 1);
                }
                Ok::<_, HandlerError>(())
            }
        }
    };
    let report = move || {
        let report = report(&hub, &times);
        async move { report }
    };
    let router = Router::new()
        .route("/room", get(report))
        .layer(configured(WebSocketLayer::new(handler)));
    plain::serve_axum(listener, router).await
}

/// Reports the number of members that are behind, and the calls of `send` since the last report: their number, and the
/// median, 99th percentile and maximum of their times in nanoseconds.
fn report(hub: &Hub, times: &Mutex<Histogram>) -> String {
    let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
    let mut report = format!("{} {}", hub.counts().behind, times.count());
    let quantiles = [times.quantile(0.5), times.quantile(0.99), times.slowest()];
    for time in quantiles {
        let _ = write!(report, " {}", time.as_nanos());
    }
    *times = Histogram::new();
    report
}
