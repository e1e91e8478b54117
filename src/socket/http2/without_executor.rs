//! What stands in the place of the executor where HTTP/2 is not compiled in: a type without values.

#[derive(Debug)]
pub(crate) enum Sending {}

impl Sending {
    pub(crate) const fn accepted() -> Option<Self> {
        None
    }

    pub(crate) const fn ends(&mut self) {
        match *self {}
    }
}
