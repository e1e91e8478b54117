//! TLS for `wss://` URLs, with rustls and the roots of the enabled features.

use std::{
    error::Error,
    fmt,
    future::{Future, poll_fn},
    io,
    net::IpAddr,
    pin::pin,
    sync::{Arc, OnceLock},
    task::Poll,
};

use tokio::{io::ReadBuf, net::TcpStream, task::spawn_blocking};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, CertificateError, ClientConfig, RootCertStore,
        crypto::{CryptoProvider, ring},
        pki_types::ServerName,
    },
};

use super::ConnectError;

/// The first bytes of a plain HTTP/1 answer.
const HTTP: &[u8] = b"HTTP/";

/// Made once, because the system's roots are many files, and because TLS sessions are resumed only with the same
/// `ClientConfig`.
static SETTINGS: OnceLock<Settings> = OnceLock::new();

struct Settings {
    config: Arc<ClientConfig>,
    /// The reason, if system roots could not be loaded.
    missing: Option<Arc<str>>,
}

/// Makes TLS connections over TCP streams.
pub(super) struct Connector {
    tls: TlsConnector,
    missing: Option<Arc<str>>,
}

/// Returns the connector. The first call loads the roots.
///
/// # Errors
///
/// [`ConnectError::Tls`] if there are no roots. The next call then loads them again.
pub(super) async fn connector() -> Result<Connector, ConnectError> {
    let settings = match SETTINGS.get() {
        Some(settings) => settings,
        None => {
            let loaded = spawn_blocking(load).await.map_err(ConnectError::tls)??;
            SETTINGS.get_or_init(|| loaded)
        }
    };
    Ok(Connector {
        tls: TlsConnector::from(Arc::clone(&settings.config)),
        missing: settings.missing.clone(),
    })
}

impl Connector {
    /// Makes the TLS handshake. The server's certificate has to be valid for `host`.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let mut connecting = pin!(self.tls.connect(server_name(host)?, stream));
        let mut first_bytes = [0; HTTP.len()];
        let mut first_bytes = ReadBuf::new(&mut first_bytes);
        // Peeks at the first bytes before rustls reads them, because rustls drops bytes that are not TLS.
        let connected = poll_fn(|cx| {
            if let (true, Some(stream)) = (first_bytes.filled().is_empty(), connecting.get_ref()) {
                // An error is ignored, because the handshake gets the same one.
                let _: Poll<io::Result<usize>> = stream.poll_peek(cx, &mut first_bytes);
            }
            connecting.as_mut().poll(cx)
        })
        .await;
        connected.map_err(|error| match first_bytes.filled() == HTTP {
            true => ConnectError::tls("the server seems not to speak TLS: use a ws:// URL"),
            false => self.failure(error),
        })
    }

    fn failure(&self, error: io::Error) -> ConnectError {
        let error = match error.downcast::<rustls::Error>() {
            Ok(error) => error,
            Err(error) => return ConnectError::Io(error),
        };
        match (&error, &self.missing) {
            (rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer), Some(missing)) => {
                ConnectError::tls(Untrusted {
                    error,
                    missing: Arc::clone(missing),
                })
            }
            _ => ConnectError::tls(error),
        }
    }
}

/// The error for an untrusted certificate, if roots are missing.
#[derive(Debug)]
struct Untrusted {
    error: rustls::Error,
    missing: Arc<str>,
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (roots are missing: {})", self.error, self.missing)
    }
}

impl Error for Untrusted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Returns the name for which the certificate has to be valid. An IP address is used without its zone.
fn server_name(host: &str) -> Result<ServerName<'static>, ConnectError> {
    let (address, _zone) = host.split_once('%').unwrap_or((host, ""));
    match address.parse::<IpAddr>() {
        Ok(address) => Ok(ServerName::from(address)),
        Err(_) => ServerName::try_from(host.to_owned()).map_err(ConnectError::request),
    }
}

fn load() -> Result<Settings, ConnectError> {
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(ring::default_provider()));
    let Roots { store, missing } = roots();
    if store.is_empty() {
        let why = missing.as_deref();
        let why = why.unwrap_or("the system has no root certificates");
        return Err(ConnectError::tls(why));
    }
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ConnectError::tls)?
        .with_root_certificates(store)
        .with_no_client_auth();
    // Otherwise a server that supports HTTP/2 might choose HTTP/2.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Settings {
        config: Arc::new(config),
        missing,
    })
}

struct Roots {
    store: RootCertStore,
    missing: Option<Arc<str>>,
}

fn roots() -> Roots {
    let mut store = RootCertStore::empty();
    #[cfg(feature = "rustls-tls-webpki-roots")]
    store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    #[cfg(feature = "rustls-tls-native-roots")]
    let missing = {
        let native = rustls_native_certs::load_native_certs();
        let missing = missing(&native.errors);
        // Skips certificates that rustls cannot parse.
        store.add_parsable_certificates(native.certs);
        missing
    };
    #[cfg(not(feature = "rustls-tls-native-roots"))]
    let missing = None;
    Roots { store, missing }
}

/// Returns why roots are missing, if they are. An error of the file in `SSL_CERT_FILE` comes before all others.
#[cfg(feature = "rustls-tls-native-roots")]
fn missing(errors: &[rustls_native_certs::Error]) -> Option<Arc<str>> {
    if let Some(file) = std::env::var_os("SSL_CERT_FILE") {
        let file = std::path::Path::new(&file);
        let named = rustls_native_certs::load_certs_from_paths(Some(file), None);
        if named.certs.is_empty() {
            let why = match named.errors.first() {
                Some(error) => error.to_string(),
                None => "it has no certificate in PEM format".to_owned(),
            };
            return Some(format!("SSL_CERT_FILE is {}: {why}", file.display()).into());
        }
    }
    errors.first().map(|error| error.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_name_of_a_certificate_from_a_host_or_an_address() {
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
    fn has_the_compiled_in_roots() {
        assert!(roots().store.len() >= webpki_roots::TLS_SERVER_ROOTS.len());
    }
}
