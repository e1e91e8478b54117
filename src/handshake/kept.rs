//! The request as it is kept with the connection.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Uri, request::Parts};

/// Copies the fields and the target of a request into memory of their own size.
///
/// An HTTP server hands out slices of the buffer that it read the request into, so that a
/// connection would keep all of that, 8 KiB and more, for a few hundred bytes.
pub(crate) fn compacted(mut request: Parts) -> Parts {
    request.uri = compacted_uri(&request.uri);
    request.headers = compacted_headers(&request.headers);
    request
}

fn compacted_uri(uri: &Uri) -> Uri {
    // What was parsed can be parsed again.
    Uri::from_maybe_shared(Bytes::from(uri.to_string())).unwrap_or_default()
}

fn compacted_headers(headers: &HeaderMap) -> HeaderMap {
    let len = headers.values().map(HeaderValue::len).sum();
    let mut all = BytesMut::with_capacity(len);
    let mut compacted = HeaderMap::with_capacity(headers.keys_len());
    for (name, value) in headers {
        all.extend_from_slice(value.as_bytes());
        let bytes = all.split().freeze();
        if let Ok(mut copy) = HeaderValue::from_maybe_shared(bytes) {
            copy.set_sensitive(value.is_sensitive());
            compacted.append(name.clone(), copy);
        }
    }
    compacted
}

#[cfg(test)]
mod tests {
    use http::{Request, header};

    use super::*;

    #[test]
    fn keeps_everything_in_memory_of_its_own() {
        let read = Bytes::from_static(b"/ws?a=b%20c http://example.com:81/ws value \xfc");
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_maybe_shared(read.slice(..11)).unwrap();
        let headers = request.headers_mut();
        for field in [read.slice(37..42), read.slice(43..), Bytes::new()] {
            let mut value = HeaderValue::from_maybe_shared(field).unwrap();
            value.set_sensitive(true);
            headers.append("x-several", value);
        }
        headers.insert(header::HOST, HeaderValue::from_static("example.com"));
        let (request, ()) = request.into_parts();
        let (uri, headers) = (request.uri.clone(), request.headers.clone());

        let kept = compacted(request);
        assert_eq!(kept.uri, uri);
        assert_eq!(kept.headers, headers);
        assert!(kept.headers["x-several"].is_sensitive());
        let within = read.as_ptr_range();
        for value in kept.headers.values().filter(|value| !value.is_empty()) {
            assert!(!within.contains(&value.as_bytes().as_ptr()), "{value:?}");
        }
        assert!(!within.contains(&kept.uri.path().as_ptr()));
    }

    #[test]
    fn keeps_targets_of_every_form() {
        for target in [
            "/",
            "/ws?",
            "*",
            "http://example.com:81/ws?q",
            "example.com:443",
        ] {
            let uri: Uri = target.parse().unwrap();
            assert_eq!(compacted_uri(&uri), uri, "{target}");
        }
    }
}
