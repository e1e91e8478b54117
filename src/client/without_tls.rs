//! Replaces `tls` without a feature for TLS. `Connector` is empty, so the compiler removes the code that uses it.

use tokio::net::TcpStream;

use super::ConnectError;

/// Has no values.
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
