//! The request as it is kept with the connection.

use std::io::Write;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, request::Parts};

/// Copies the fields and the target of a request into memory of their own size.
///
/// An HTTP server hands out slices of the buffer that it read the request into, so that a
/// connection would keep all of that, 8 KiB and more, for a few hundred bytes.
pub(crate) fn compacted(mut request: Parts) -> Parts {
    request.headers = fitting(request.headers);
    // One piece of memory for all of it.
    let values = request.headers.values().map(HeaderValue::len);
    let mut copied = Vec::with_capacity(longest(&request.uri) + values.sum::<usize>());
    // Writing to a vector cannot fail.
    let _ = write!(copied, "{}", request.uri);
    let target = copied.len();
    for value in request.headers.values() {
        copied.extend_from_slice(value.as_bytes());
    }
    let mut copied = Bytes::from(copied);
    // What was parsed can be parsed again.
    request.uri = Uri::from_maybe_shared(copied.split_to(target)).unwrap_or_default();
    for value in request.headers.values_mut() {
        if let Ok(mut copy) = HeaderValue::from_maybe_shared(copied.split_to(value.len())) {
            copy.set_sensitive(value.is_sensitive());
            *value = copy;
        }
    }
    request
}

/// Returns the most bytes in which a target is written.
fn longest(uri: &Uri) -> usize {
    let scheme = uri.scheme_str().map_or(0, |scheme| scheme.len() + 3);
    let authority = uri
        .authority()
        .map_or(0, |authority| authority.as_str().len());
    // The path of a target that has none is a slash.
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    scheme + authority + path.max(1)
}

/// Returns a map that has no room for twice its fields.
fn fitting(headers: HeaderMap) -> HeaderMap {
    if headers.capacity() / 2 < headers.keys_len() {
        return headers;
    }
    let mut smaller = HeaderMap::with_capacity(headers.keys_len());
    smaller.extend(headers);
    smaller
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, Request, header};

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
            let (request, ()) = Request::get(&uri).body(()).unwrap().into_parts();
            assert_eq!(compacted(request).uri, uri, "{target}");
            assert!(longest(&uri) >= uri.to_string().len(), "{target}");
        }
    }

    #[test]
    fn keeps_no_room_for_twice_the_fields() {
        let mut request = Request::new(());
        let headers = request.headers_mut();
        for number in 0..7_u16 {
            headers.append(
                HeaderName::try_from(format!("x-{number}")).unwrap(),
                number.into(),
            );
        }
        headers.append("x-3", HeaderValue::from_static("again"));
        let (mut request, ()) = request.into_parts();
        let fields = request.headers.clone();
        let fits = fields.capacity();
        request.headers.reserve(100);
        let kept = compacted(request).headers;
        assert_eq!(kept, fields);
        assert_eq!(kept.capacity(), fits);
        assert_eq!(kept["x-3"], "3");
    }
}
