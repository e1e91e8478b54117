//! The URL that is dialled, and what follows from it: the address, `Host` and the target.
//!
//! Source: [RFC 6455 §3](https://www.rfc-editor.org/rfc/rfc6455#section-3).

use http::{
    HeaderValue, Uri,
    uri::{Authority, PathAndQuery},
};

use super::ConnectError;

/// Reads a URL with a host and one of the schemes that are ours.
pub(super) fn parse(url: &str) -> Result<Uri, ConnectError> {
    // `Uri` drops them, and RFC 6455 §3 has none.
    if url.contains('#') {
        return Err(ConnectError::request("the url has a fragment"));
    }
    let uri: Uri = url.parse().map_err(ConnectError::request)?;
    let _ = is_encrypted(&uri)?;
    let _ = host_field(&uri)?;
    Ok(uri)
}

/// Returns the host and port to connect to without encryption.
pub(super) fn address(uri: &Uri) -> Result<(String, u16), ConnectError> {
    if is_encrypted(uri)? {
        return Err(ConnectError::NeedsTls);
    }
    let authority = uri.authority().ok_or_else(no_host)?;
    let host = authority.host();
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let port = match authority.port_u16() {
        Some(port) => port,
        None => default_port(uri)?,
    };
    Ok((literal.unwrap_or(host).to_owned(), port))
}

/// Returns what stands in `Host`: host and port, without the port that goes without saying. `None`
/// for a URL that is just a path.
pub(super) fn host_field(uri: &Uri) -> Result<Option<HeaderValue>, ConnectError> {
    let Some(authority) = uri.authority() else {
        return Ok(None);
    };
    if authority.as_str().contains('@') {
        return Err(ConnectError::request("the url names a user"));
    }
    let host = authority.host();
    if host.is_empty() {
        return Err(no_host());
    }
    let field = match port(authority)? {
        Some(port) if uri.scheme().is_none() || port != default_port(uri)? => {
            format!("{host}:{port}")
        }
        _ => host.to_owned(),
    };
    HeaderValue::try_from(field)
        .map(Some)
        .map_err(ConnectError::request)
}

/// Returns what stands in the first line: the path and the query, `/` at least.
pub(super) fn target(uri: &Uri) -> Uri {
    let path = uri.path_and_query();
    // `/?q` is in the URL `ws://host?q` as well.
    let path = path.cloned().unwrap_or(PathAndQuery::from_static("/"));
    Uri::from(path)
}

pub(super) fn no_host() -> ConnectError {
    ConnectError::request("there is no host")
}

/// Tells which of the two kinds a URL is (RFC 6455 §3), in the names that requests of HTTP have for
/// them, too.
fn is_encrypted(uri: &Uri) -> Result<bool, ConnectError> {
    let scheme = uri.scheme_str().unwrap_or_default();
    let is_one_of = |names: [&str; 2]| names.iter().any(|name| scheme.eq_ignore_ascii_case(name));
    if is_one_of(["ws", "http"]) {
        Ok(false)
    } else if is_one_of(["wss", "https"]) {
        Ok(true)
    } else {
        Err(ConnectError::request(
            "the url is not one of ws:// or wss://",
        ))
    }
}

fn default_port(uri: &Uri) -> Result<u16, ConnectError> {
    Ok(if is_encrypted(uri)? { 443 } else { 80 })
}

/// Returns the port if one is given, which has to be one.
fn port(authority: &Authority) -> Result<Option<u16>, ConnectError> {
    match authority.as_str().strip_prefix(authority.host()) {
        Some("" | ":") => Ok(None),
        _ => match authority.port_u16() {
            Some(port) if port != 0 => Ok(Some(port)),
            _ => Err(ConnectError::request("the url's port is none")),
        },
    }
}
