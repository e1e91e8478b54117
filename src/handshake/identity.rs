//! The value by which an application knows a connection again.

use std::{any::Any, fmt, sync::Arc};

/// A value of the user's, shared by the socket and the registry, if there is one.
#[derive(Clone, Default)]
pub(crate) struct Identity(Option<Arc<dyn Any + Send + Sync>>);

impl Identity {
    pub(crate) fn new(value: impl Any + Send + Sync) -> Self {
        Self(Some(Arc::new(value)))
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the value if it is of this type.
    pub(crate) fn get<T: Any>(&self) -> Option<&T> {
        self.0.as_deref()?.downcast_ref()
    }
}

// The value may hold secrets.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "Identity(..)",
            None => "Identity(none)",
        })
    }
}
