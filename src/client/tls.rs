//! TLS for `wss://` URLs, by rustls, with the roots that the features name.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use tokio::{net::TcpStream, task::spawn_blocking};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, RootCertStore,
        crypto::{CryptoProvider, ring},
        pki_types::ServerName,
    },
};

use super::ConnectError;
use crate::any_error::BoxError;

/// Made once: the system's roots are many files, and sessions are resumed with the same settings only.
static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();

/// Encrypts connections that have been dialled.
pub(super) struct Connector(TlsConnector);

/// Returns the connector, with roots that are loaded when it is asked for first.
///
/// # Errors
///
/// [`ConnectError::Tls`] if there are no roots. They are loaded again the next time.
pub(super) async fn connector() -> Result<Connector, ConnectError> {
    let config = match CONFIG.get() {
        Some(config) => config,
        None => {
            let loaded = spawn_blocking(load).await.map_err(ConnectError::tls)??;
            CONFIG.get_or_init(|| Arc::new(loaded))
        }
    };
    Ok(Connector(TlsConnector::from(Arc::clone(config))))
}

impl Connector {
    /// Makes the TLS handshake, in which the server has to prove that it is `host`.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let name = server_name(host)?;
        self.0.connect(name, stream).await.map_err(failure)
    }
}

/// Returns the name that the certificate has to have: for an address it is the address, without a zone.
fn server_name(host: &str) -> Result<ServerName<'static>, ConnectError> {
    let (address, _zone) = host.split_once('%').unwrap_or((host, ""));
    match address.parse::<IpAddr>() {
        Ok(address) => Ok(ServerName::from(address)),
        Err(_) => ServerName::try_from(host.to_owned()).map_err(ConnectError::request),
    }
}

fn failure(error: io::Error) -> ConnectError {
    match error.downcast::<rustls::Error>() {
        Ok(error) => ConnectError::tls(error),
        Err(error) => ConnectError::Io(error),
    }
}

fn load() -> Result<ClientConfig, ConnectError> {
    // The provider that the application has installed, if it has.
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(ring::default_provider()));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ConnectError::tls)?
        .with_root_certificates(roots().map_err(ConnectError::tls)?)
        .with_no_client_auth();
    // A server that also speaks HTTP/2 is told that this connection does not.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn roots() -> Result<RootCertStore, BoxError> {
    let mut roots = RootCertStore::empty();
    #[cfg(feature = "rustls-tls-webpki-roots")]
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    #[cfg(feature = "rustls-tls-native-roots")]
    {
        let native = rustls_native_certs::load_native_certs();
        // A store may hold certificates that are none for rustls.
        roots.add_parsable_certificates(native.certs);
        if roots.is_empty() {
            let why = native.errors.into_iter().next().map(BoxError::from);
            return Err(why.unwrap_or_else(|| "the system has no root certificates".into()));
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_the_certificate_of_a_name_or_an_address() {
        for (host, name) in [
            ("example.com", "example.com"),
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("fe80::1%eth0", "fe80::1"),
        ] {
            assert_eq!(server_name(host).unwrap().to_str(), name, "{host}");
        }
        let error = server_name("under_score..").unwrap_err();
        assert!(
            matches!(error, ConnectError::InvalidRequest(_)),
            "{error:?}"
        );
    }

    #[cfg(feature = "rustls-tls-webpki-roots")]
    #[test]
    fn has_the_roots_that_are_compiled_in() {
        assert!(roots().unwrap().len() >= webpki_roots::TLS_SERVER_ROOTS.len());
    }
}
