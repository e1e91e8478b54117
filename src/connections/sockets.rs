//! Connections that no layer has opened: streams that are open already, and clients.

use std::{any::Any, sync::Arc};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(feature = "client")]
use super::Permit;
use super::{AdmitError, Connections, permit::Opening};
use crate::{
    codec::Role,
    config::Config,
    handshake::Identity,
    socket::{
        HandshakeInfo, Served, Setup, WebSocket, detached_in,
        report::{self, Name},
    },
};

impl Connections {
    /// Takes over a stream on which the opening handshake is already done, as its server, like
    /// [`WebSocket::from_io`].
    ///
    /// The connection counts and is closed and waited for like those of a layer. It is over when the closing
    /// handshake is complete, and its place among the connections comes back then.
    ///
    /// # Errors
    ///
    /// [`AdmitError`] if there is no place for it. The stream is dropped then, and nothing is sent on it.
    /// [`Counts::refused`](crate::Counts::refused) and observers have handshakes of layers only.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime, or in one without its time driver.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{Config, Connections, error::AdmitError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), AdmitError> {
    /// let connections = Connections::new();
    /// let (server, _client) = tokio::io::duplex(1024);
    /// let socket = connections.from_io(server, Config::new())?;
    /// assert!(connections.get(socket.id()).is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_io<IO>(&self, io: IO, config: Config) -> Result<WebSocket, AdmitError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.take_over(io, config, Identity::default())
    }

    /// Takes over a stream as [`from_io`](Self::from_io) does, and gives the connection a value by which the
    /// application knows it again, as [`Accept::identify`](crate::Accept::identify) does for a layer.
    ///
    /// # Errors
    ///
    /// As those of [`from_io`](Self::from_io).
    ///
    /// # Panics
    ///
    /// As [`from_io`](Self::from_io).
    pub fn from_io_with<IO>(
        &self,
        io: IO,
        config: Config,
        value: impl Any + Send + Sync,
    ) -> Result<WebSocket, AdmitError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.take_over(io, config, Identity::new(value))
    }

    fn take_over<IO>(
        &self,
        io: IO,
        config: Config,
        identity: Identity,
    ) -> Result<WebSocket, AdmitError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let permit = self.admit()?;
        let config = Arc::new(config);
        let opening = Opening {
            role: Role::Server,
            name: Name {
                handler: "Connections::from_io",
                path: "".into(),
            },
            config: Arc::clone(&config),
            identity: identity.clone(),
        };
        let span = report::connection(permit.id, || None, "");
        let link = permit.spawn(opening, |link, permit| {
            let served = Served {
                io,
                early: Bytes::new(),
                link,
                setup: Setup::new(config),
            };
            span.around(detached_in(served, permit))
        })?;
        let handshake_info = HandshakeInfo {
            identity,
            ..HandshakeInfo::default()
        };
        Ok(WebSocket::new(link, Box::new(handshake_info)))
    }
}

#[cfg(feature = "client")]
impl Permit {
    /// Takes over a stream on which the opening handshake is already done, as its client.
    ///
    /// `early` has been read from it behind the handshake.
    pub(crate) fn dialled<IO>(
        self,
        io: IO,
        early: Bytes,
        setup: Setup,
        handshake_info: HandshakeInfo,
    ) -> Result<WebSocket, AdmitError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let opening = Opening {
            role: Role::Client,
            name: Name {
                handler: "client",
                path: handshake_info.request.path().into(),
            },
            config: Arc::clone(&setup.config),
            identity: handshake_info.identity.clone(),
        };
        let span = report::connection(self.id, || None, handshake_info.request.path());
        let link = self.spawn(opening, |link, permit| {
            let served = Served {
                io,
                early,
                link,
                setup,
            };
            span.around(detached_in(served, permit))
        })?;
        Ok(WebSocket::new(link, Box::new(handshake_info)))
    }
}
