//! Without a feature for TLS there is no connector, and the compiler takes out what would use one.

use tokio::net::TcpStream;

use super::ConnectError;

/// There are no values of it.
pub(super) enum Connector {}

pub(super) async fn connector() -> Result<Connector, ConnectError> {
    Err(ConnectError::NeedsTls)
}

impl Connector {
    pub(super) async fn connect(
        &self,
        _host: &str,
        _stream: TcpStream,
    ) -> Result<TcpStream, ConnectError> {
        match *self {}
    }
}
