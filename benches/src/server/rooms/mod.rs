//! Servers of one room: every connection is a member, and a message of one goes to all, also to its sender.

mod bare;
#[cfg(feature = "hub")]
mod ours;
mod peers;

use tokio::net::TcpListener;

use crate::BoxError;

/// A server of a room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Room {
    /// The baseline: a loop over all connections that writes prepared bytes with `try_write`.
    Bare,
    /// Our hub, under axum.
    Ours,
    /// The same, with `Overflow::DropOldest`.
    DropOldest,
    /// axum's `extract::ws` with a broadcast channel of tokio, as in its example.
    AxumWs,
    /// socketioxide, under axum.
    Socketioxide,
}

pub(super) async fn serve(room: Room, listener: TcpListener) -> Result<(), BoxError> {
    match room {
        Room::Bare => bare::serve(&listener).await,
        #[cfg(feature = "hub")]
        Room::Ours => ours::serve(listener, None).await,
        #[cfg(feature = "hub")]
        Room::DropOldest => {
            let overflow = tower_websocket::hub::Overflow::DropOldest;
            ours::serve(listener, Some(overflow)).await
        }
        #[cfg(not(feature = "hub"))]
        Room::Ours | Room::DropOldest => Err("built without the feature hub".into()),
        Room::AxumWs => peers::axum_ws(listener).await,
        Room::Socketioxide => peers::socketioxide(listener).await,
    }
}
