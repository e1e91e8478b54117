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
    handshake::Identity,
    socket::{
        HandshakeInfo, Served, Setup, WebSocket, detached_in,
        report::{self, Name},
    },
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
        let handshake_info = HandshakeInfo {
            identity,
            ..HandshakeInfo::default()
        };
        let side = (Role::Server, "Connections::from_io");
        let permit = self.admit()?;
        permit.take_over(side, io, Bytes::new(), setup, handshake_info)
    }
}

impl Permit {
    /// Takes over the client's end of a stream on which the opening handshake is already done.
    ///
    /// `early` are the bytes after the handshake that have already been read.
    #[cfg(feature = "client")]
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
        self.take_over((Role::Client, "client"), io, early, setup, handshake_info)
    }

    /// Serves a stream in a task. The second value of `side` is the name of the handler in the log.
    fn take_over<IO>(
        self,
        (role, handler): (Role, &'static str),
        io: IO,
        early: Bytes,
        setup: Setup,
        handshake_info: HandshakeInfo,
    ) -> Result<WebSocket, AdmitError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // A stream has no request, whose path is "/" by default.
        let path = match role {
            Role::Server => "",
            Role::Client => handshake_info.request.path(),
        };
        let opening = Opening {
            role,
            name: Name {
                handler,
                path: path.into(),
            },
            config: Arc::clone(&setup.config),
            identity: handshake_info.identity.clone(),
        };
        let span = report::connection(self.id, || None, path);
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
