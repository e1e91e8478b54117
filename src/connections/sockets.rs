//! Connections that no layer has opened: streams with a completed handshake, and clients.

use std::{any::Any, sync::Arc};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    AdmitError, Connections,
    permit::{Opening, Permit},
};
use crate::{
    codec::Role,
    config::Config,
    handshake::{Carried, Identity},
    socket::{HandshakeInfo, Served, Setup, Values, WebSocket, detached_in, report},
};

impl Connections {
    /// Takes over the server's end of a stream on which the opening handshake is already done, like
    /// [`WebSocket::from_io`].
    ///
    /// The connection is counted, limited, closed and waited for like those of a layer. It frees its place when its
    /// closing handshake is complete.
    ///
    /// # Errors
    ///
    /// [`AdmitError`] if the limit is reached or a shutdown has begun. The stream is then dropped, and nothing is
    /// sent on it. [`Counts::refused`](crate::Counts::refused) and observers do not report this: they report only
    /// handshakes of layers.
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

    /// Takes over a stream as [`from_io`](Self::from_io) does, and gives the connection a value.
    ///
    /// [`Connection::value`](crate::Connection::value) returns it. For a layer,
    /// [`Accept::identify`](crate::Accept::identify) does the same.
    ///
    /// # Errors
    ///
    /// The same as those of [`from_io`](Self::from_io).
    ///
    /// # Panics
    ///
    /// The same as [`from_io`](Self::from_io).
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
        let setup = Setup::new(Arc::new(config));
        let info = HandshakeInfo {
            handler: "Connections::from_io",
            ..HandshakeInfo::default()
        };
        let permit = self.admit()?;
        let values = Values::new(Carried::default(), identity);
        permit.take_over(Role::Server, io, Bytes::new(), setup, (info, values))
    }
}

impl Permit {
    /// Serves a stream on which the opening handshake is already done, in a task of its own.
    ///
    /// `early` are bytes that were read from it after the handshake.
    pub(crate) fn take_over<IO>(
        self,
        role: Role,
        io: IO,
        early: Bytes,
        setup: Setup,
        (info, values): (HandshakeInfo, Values),
    ) -> Result<WebSocket, AdmitError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let span = report::connection(self.id, || None, info.request.path());
        let opening = Opening {
            role,
            info,
            config: Arc::clone(&setup.config),
            identity: values.shared_identity(),
        };
        let link = self.spawn(opening, |link, permit| {
            let served = Served {
                io,
                early,
                link,
                setup,
            };
            span.spawn(detached_in(served, permit))
        })?;
        Ok(WebSocket::new(link, values))
    }
}
