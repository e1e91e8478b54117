//! What stands in the place of the executor where HTTP/2 is not compiled in: a type without values.

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
