//! The compact copy of the request that a connection keeps.

use std::{fmt, str};

use http::{
    Extensions, HeaderName, HeaderValue, Method, Request, Uri, Version, request::Parts,
    uri::PathAndQuery,
};

/// A flag in the stored length of a value: the value is sensitive.
const SENSITIVE: u32 = 1 << 31;

/// The request of an opening handshake, kept until the end of its connection.
///
/// Target and header fields are copied into one allocation of exactly their size. The values from an HTTP
/// server are slices of its read buffer and would keep the whole buffer in memory, and an
/// [`http::HeaderMap`] is several times larger than its content. Extensions are kept unchanged.
///
/// [`Accept::without_request`](crate::Accept::without_request) and
/// [`WebSocketLayer::without_request`](crate::WebSocketLayer::without_request) drop everything except
/// method, path and version.
///
/// `Debug` shows only these three, because the rest may hold secrets.
///
/// # Examples
///
/// ```
/// use tower_websocket::{BoxError, WebSocket};
///
/// async fn serve(mut socket: WebSocket) -> Result<(), BoxError> {
///     let request = socket.request();
///     let language = request.header("accept-language").unwrap_or("en");
///     let greeting = format!("{} in {language}", request.path());
///     socket.send(greeting).await?;
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct HandshakeRequest {
    /// The target, followed by the fields. Each field is the length of the name in two bytes, the length
    /// of the value in four bytes, the name, and the value.
    text: Box<[u8]>,
    /// Offsets in `text`: start and end of the target's path, and start of the fields.
    path: u32,
    path_end: u32,
    fields: u32,
    version: Version,
    /// `None` is GET, the method of almost all handshakes.
    method: Option<Box<Method>>,
    extensions: Extensions,
}

impl HandshakeRequest {
    /// Returns the method: GET over HTTP/1.1, CONNECT over HTTP/2.
    #[must_use]
    pub fn method(&self) -> &Method {
        self.method.as_deref().unwrap_or(&Method::GET)
    }

    /// Returns the version of HTTP.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Returns the path of the target, percent-encoded as received. It is empty if the handshake was done by others, see
    /// [`WebSocket::from_io`](crate::WebSocket::from_io).
    #[must_use]
    pub fn path(&self) -> &str {
        self.target(self.path, self.path_end)
    }

    /// Returns the query of the target without its `?`, percent-encoded as received. Returns `None` if
    /// there is no `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target(self.path_end, self.fields).strip_prefix('?')
    }

    /// Returns the target. Each call parses it again.
    ///
    /// Over HTTP/1.1 it is usually a path with a query. Over HTTP/2 it also has scheme and authority.
    #[must_use]
    pub fn uri(&self) -> Uri {
        // This cannot fail: the text was made from a URI.
        self.target(0, self.fields).parse().unwrap_or_default()
    }

    /// Returns the value of a header field. If there are several fields of that name, returns the first.
    ///
    /// The case of `name` is ignored. Returns `None` if there is no such field, or if its value is not
    /// UTF-8. [`headers`](Self::headers) yields every value as bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::header::ORIGIN;
    /// # use tower_websocket::{Config, HandshakeRequest, WebSocket};
    ///
    /// fn is_local(request: &HandshakeRequest) -> bool {
    ///     request.header(ORIGIN) == Some("http://localhost:3000")
    /// }
    /// ```
    #[must_use]
    pub fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        let name = name.as_ref();
        let mut headers = self.headers();
        let (_, value) = headers.find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        str::from_utf8(value).ok()
    }

    /// Returns all header fields. Names are in lower case, values are as received.
    ///
    /// Fields of the same name follow each other, in the order of their arrival.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields().map(|field| (field.name, field.value))
    }

    /// Returns the extensions that the HTTP server, outer layers and
    /// [`Handler::accept`](crate::Handler::accept) added.
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Copies the request into the type of the `http` crate, for extractors and libraries that need it.
    #[must_use]
    pub fn to_parts(&self) -> Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.method().clone();
        parts.uri = self.uri();
        parts.version = self.version;
        for field in self.fields() {
            // This cannot fail: both were made from these types.
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_bytes(field.value);
            if let (Ok(name), Ok(mut value)) = (name, value) {
                value.set_sensitive(field.is_sensitive);
                parts.headers.append(name, value);
            }
        }
        parts.extensions = self.extensions.clone();
        parts
    }
}

impl HandshakeRequest {
    /// Copies a request.
    pub(crate) fn new(request: Parts) -> Self {
        let target = request.uri.to_string();
        let query = request
            .uri
            .query()
            .map_or(0, |query| "?".len() + query.len());
        let path_end = target.len() - query;
        let path = path_end - request.uri.path().len().min(path_end);
        let mut text = target.into_bytes();
        let fields = text.len();
        let lens = request.headers.iter();
        let lens = lens.map(|(name, value)| 2 + 4 + name.as_str().len() + value.len());
        text.reserve_exact(lens.sum());
        for (name, value) in &request.headers {
            let name = name.as_str();
            // Real fields are far shorter than these limits. A longer one would be left out.
            let name_len = u16::try_from(name.len());
            let value_len = u32::try_from(value.len()).ok();
            let value_len = value_len.filter(|len| len & SENSITIVE == 0);
            let (Ok(name_len), Some(value_len)) = (name_len, value_len) else {
                continue;
            };
            let flag = if value.is_sensitive() { SENSITIVE } else { 0 };
            text.extend_from_slice(&name_len.to_ne_bytes());
            text.extend_from_slice(&(value_len | flag).to_ne_bytes());
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(value.as_bytes());
        }
        let offset = |offset| u32::try_from(offset).expect("a URI has less than 4 GiB");
        Self {
            text: text.into(),
            path: offset(path),
            path_end: offset(path_end),
            fields: offset(fields),
            version: request.version,
            method: (request.method != Method::GET).then(|| Box::new(request.method)),
            extensions: match request.extensions.is_empty() {
                // The server removed its own extension. This drops the empty table.
                true => Extensions::new(),
                false => request.extensions,
            },
        }
    }

    /// Copies only method, path and version of a request.
    pub(crate) fn without_details(mut request: Parts) -> Self {
        let path = PathAndQuery::try_from(request.uri.path());
        request.uri = path.map_or_else(|_| Uri::default(), Uri::from);
        request.headers.clear();
        request.extensions.clear();
        Self::new(request)
    }

    fn target(&self, from: u32, to: u32) -> &str {
        let target = self.text.get(from as usize..to as usize);
        target
            .and_then(|target| str::from_utf8(target).ok())
            .unwrap_or_default()
    }

    fn fields(&self) -> Fields<'_> {
        Fields {
            rest: self.text.get(self.fields as usize..).unwrap_or_default(),
        }
    }
}

impl Default for HandshakeRequest {
    fn default() -> Self {
        Self {
            text: Box::default(),
            path: 0,
            path_end: 0,
            fields: 0,
            version: Version::default(),
            method: None,
            extensions: Extensions::new(),
        }
    }
}

impl fmt::Debug for HandshakeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeRequest")
            .field("method", self.method())
            .field("path", &self.path())
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

struct Field<'a> {
    name: &'a str,
    value: &'a [u8],
    is_sensitive: bool,
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let (name_len, rest) = self.rest.split_first_chunk()?;
        let (value_len, rest) = rest.split_first_chunk()?;
        let value_len = u32::from_ne_bytes(*value_len);
        let (name, rest) = rest.split_at_checked(u16::from_ne_bytes(*name_len).into())?;
        let (value, rest) = rest.split_at_checked((value_len & !SENSITIVE) as usize)?;
        self.rest = rest;
        Some(Field {
            name: str::from_utf8(name).ok()?,
            value,
            is_sensitive: value_len & SENSITIVE != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::header;

    use super::*;

    fn parts(uri: &str) -> Parts {
        Request::get(uri).body(()).unwrap().into_parts().0
    }

    #[test]
    fn copies_everything_to_its_own_memory() {
        let read = Bytes::from_static(b"/ws?a=b%20c http://example.com:81/ws value \xfc");
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_maybe_shared(read.slice(..11)).unwrap();
        *request.version_mut() = Version::HTTP_2;
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert("kept");
        let headers = request.headers_mut();
        for field in [read.slice(37..42), read.slice(43..), Bytes::new()] {
            let mut value = HeaderValue::from_maybe_shared(field).unwrap();
            value.set_sensitive(true);
            headers.append("x-several", value);
        }
        headers.insert(header::HOST, HeaderValue::from_static("example.com"));
        let (request, ()) = request.into_parts();

        let kept = HandshakeRequest::new(request.clone());
        let copy = kept.to_parts();
        assert_eq!(
            (copy.method, copy.version),
            (Method::CONNECT, Version::HTTP_2)
        );
        assert_eq!(copy.uri, request.uri);
        assert_eq!(copy.headers, request.headers);
        assert_eq!(copy.extensions.get(), Some(&"kept"));
        assert!(
            copy.headers
                .get_all("x-several")
                .iter()
                .all(HeaderValue::is_sensitive)
        );
        assert!(!copy.headers[header::HOST].is_sensitive());
        let within = read.as_ptr_range();
        for (name, value) in kept.headers().filter(|(_, value)| !value.is_empty()) {
            assert!(!within.contains(&value.as_ptr()), "{name}");
        }
        assert!(!within.contains(&kept.path().as_ptr()));
    }

    #[test]
    fn splits_targets_of_every_form() {
        for (target, path, query) in [
            ("/", "/", None),
            ("/ws?", "/ws", Some("")),
            ("/ws?a?b", "/ws", Some("a?b")),
            ("/ws%20/?q=%20", "/ws%20/", Some("q=%20")),
            ("*", "*", None),
            ("http://example.com:81/ws?q", "/ws", Some("q")),
            ("http://example.com", "/", None),
            ("http://example.com?q", "/", Some("q")),
            ("example.com:443", "", None),
        ] {
            let request = parts(target);
            let kept = HandshakeRequest::new(request.clone());
            assert_eq!((kept.path(), kept.query()), (path, query), "{target}");
            assert_eq!(kept.uri(), request.uri, "{target}");
        }
    }

    #[test]
    fn finds_fields_by_name_in_any_case() {
        let mut request = parts("/");
        for (name, value) in [
            ("x-one", &b"1"[..]),
            ("x-two", b"first"),
            ("x-two", b"second"),
            ("x-empty", b""),
            ("x-utf8", "é".as_bytes()),
            ("x-bytes", b"\xfc"),
        ] {
            let name = HeaderName::from_static(name);
            request
                .headers
                .append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let kept = HandshakeRequest::new(request);
        assert_eq!(kept.header("X-One"), Some("1"));
        assert_eq!(kept.header(HeaderName::from_static("x-two")), Some("first"));
        assert_eq!(kept.header("x-empty"), Some(""));
        assert_eq!(kept.header("x-utf8"), Some("é"));
        assert_eq!(kept.header("x-bytes"), None);
        assert_eq!(kept.header("x-on"), None);
        assert_eq!(kept.header("1"), None, "a value is not a name");
        let two = kept.headers().filter(|(name, _)| *name == "x-two");
        assert_eq!(
            two.map(|(_, value)| value).collect::<Vec<_>>(),
            [&b"first"[..], b"second"]
        );
        assert_eq!(kept.headers().count(), 6);
    }

    #[test]
    fn without_details_keeps_only_method_path_and_version() {
        let mut request = parts("http://example.com/ws?token=hush");
        request
            .headers
            .insert("x-secret", HeaderValue::from_static("hush"));
        request.extensions.insert("hush");
        let kept = HandshakeRequest::without_details(request);
        assert_eq!((kept.path(), kept.query()), ("/ws", None));
        assert_eq!(kept.uri(), "/ws");
        assert_eq!(kept.headers().count(), 0);
        assert!(kept.extensions().is_empty());
    }

    #[test]
    fn the_default_is_an_empty_request() {
        let kept = HandshakeRequest::default();
        assert_eq!(
            (kept.path(), kept.query(), kept.headers().count()),
            ("", None, 0)
        );
    }

    #[test]
    fn debug_shows_no_secrets() {
        let mut request = parts("/ws?token=hush");
        request
            .headers
            .insert("x-secret", HeaderValue::from_static("hush"));
        request.extensions.insert("hush");
        let shown = format!("{:?}", HandshakeRequest::new(request));
        assert!(shown.contains("/ws") && !shown.contains("hush"), "{shown}");
    }
}
