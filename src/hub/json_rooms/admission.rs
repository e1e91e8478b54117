//! The answer of `authorize`.

use std::{error::Error, fmt};

use crate::{BoxError, hub::Key};

/// Admits a connection to a room, with the value that other members see.
///
/// # Examples
///
/// ```
/// use tower_websocket::hub::Admission;
///
/// let admission = Admission::new("Ann").key("user-7").read_only();
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is the answer of `authorize`"]
pub struct Admission<T = ()> {
    pub(super) value: T,
    pub(super) key: Option<Key>,
    pub(super) is_read_only: bool,
    pub(super) is_visible: bool,
}

impl<T> Admission<T> {
    /// Admits with a value. It has no key, may send, and may be silent if the client asks for it.
    pub const fn new(value: T) -> Self {
        Self {
            value,
            key: None,
            is_read_only: false,
            is_visible: false,
        }
    }

    /// Sets the key of the user, as [`Join::key`](crate::hub::Join::key): all connections of a user are one to others.
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Admits a member that only receives. What it sends is refused with `read_only`.
    pub fn read_only(mut self) -> Self {
        self.is_read_only = true;
        self
    }

    /// Admits a member that others see, also if the client asks to be silent.
    pub fn visible(mut self) -> Self {
        self.is_visible = true;
        self
    }
}

/// Why a connection is not admitted to a room. The connection stays.
///
/// `?` turns every error into the second kind, so a failed query is no "no".
#[derive(Debug)]
pub struct Denied(pub(super) Option<BoxError>);

impl Denied {
    /// It may not join. The client gets the error `forbidden`.
    #[must_use]
    pub const fn forbidden() -> Self {
        Self(None)
    }

    /// The server could not decide. The error is logged at warn level, and the client gets `unavailable`.
    #[must_use]
    pub fn failed(error: impl Into<BoxError>) -> Self {
        Self(Some(error.into()))
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Denied {
    fn from(error: E) -> Self {
        Self::failed(error)
    }
}

// Not `Error`: it could not be made of every error then.
impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            None => "the connection may not join the room",
            Some(_) => "whether the connection may join the room could not be decided",
        })
    }
}
