//! Selects the requests that a layer answers.

use std::{borrow::Cow, fmt, sync::Arc};

use http::{request::Parts, uri::PathAndQuery};

/// Selects the requests that a layer answers, by path and predicate. Both are optional; if both are set, both
/// have to match.
#[derive(Clone, Default)]
pub(crate) struct Target {
    pub(crate) paths: Vec<Cow<'static, str>>,
    pub(crate) predicate: Option<Arc<Predicate>>,
}

type Predicate = dyn Fn(&Parts) -> bool + Send + Sync;

impl Target {
    /// Returns whether the layer answers handshakes on a path.
    pub(crate) fn has_path(&self, path: &str) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|one| one == path)
    }

    /// Returns whether the layer answers a request. The predicate is user code and may panic.
    pub(crate) fn includes(&self, request: &Parts) -> bool {
        self.has_path(request.uri.path())
            && self
                .predicate
                .as_ref()
                .is_none_or(|includes| includes(request))
    }
}

/// For log lines: the handshakes that the layer answers.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.paths.join(", ");
        match (paths.as_str(), self.predicate.is_some()) {
            ("", false) => f.write_str("all"),
            ("", true) => f.write_str("those selected by `matching`"),
            (paths, false) => f.write_str(paths),
            (paths, true) => write!(f, "those selected by `matching` on {paths}"),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("paths", &self.paths)
            .field("predicate", &self.predicate.is_some())
            .finish()
    }
}

/// Checks that a request can have this path.
///
/// # Errors
///
/// The reason, and what to write instead.
pub(crate) fn check_path(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("does not start with /");
    }
    if path.contains(['{', '}', '*']) || path.contains("/:") {
        return Err(
            "has a parameter or a wildcard, but paths are compared literally: use axum's \
             `route_service(path, layer.into_service())`, or `WebSocketLayer::matching`",
        );
    }
    if path.contains(['?', '#']) {
        return Err("has a query or a fragment: leave it out, because queries are not compared");
    }
    let is_blank = |letter: char| letter.is_whitespace() || letter.is_control();
    if path.contains(is_blank) {
        return Err("has a space or a control character: write it percent-encoded, a space as %20");
    }
    match PathAndQuery::try_from(path) {
        Ok(parsed) if parsed.path() == path => Ok(()),
        _ => Err("has a character that is not allowed in a path: write it percent-encoded"),
    }
}
