//! Replaces `executor` without the `http2` feature: a guard that never exists.

#[derive(Debug)]
pub(crate) enum ResetGuard {}

impl ResetGuard {
    pub(crate) const fn accepted() -> Option<Self> {
        None
    }

    pub(crate) const fn stream_ended(&mut self) {
        match *self {}
    }
}
