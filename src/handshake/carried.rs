//! The values that the decision on a request passes to the handler.

use std::{
    any::Any,
    fmt,
    sync::{Mutex, PoisonError},
};

/// Values of the user's types, at most one of each type.
///
/// The lock makes the type `Sync`, even if the values are not. Nobody waits for it: only `Debug` locks it,
/// and all other methods take `&mut self`.
#[derive(Default)]
pub(crate) struct Carried {
    // Boxed because most connections have none.
    values: Option<Box<Mutex<Values>>>,
}

type Values = Vec<Box<dyn Any + Send>>;

impl Carried {
    pub(crate) const fn is_empty(&self) -> bool {
        self.values.is_none()
    }

    /// Adds a value, and replaces one of the same type.
    pub(crate) fn put<T: Send + 'static>(&mut self, value: T) {
        drop(self.take::<T>());
        let values = self.values.get_or_insert_default();
        let values = values.get_mut().unwrap_or_else(PoisonError::into_inner);
        // There is usually only one value.
        values.reserve_exact(1);
        values.push(Box::new(value));
    }

    /// Removes and returns the value of a type.
    pub(crate) fn take<T: Send + 'static>(&mut self) -> Option<T> {
        let values = self.values.as_mut()?;
        let values = values.get_mut().unwrap_or_else(PoisonError::into_inner);
        let index = values.iter().position(|value| value.is::<T>())?;
        let value = values.swap_remove(index);
        if values.is_empty() {
            self.values = None;
        }
        value.downcast().ok().map(|value| *value)
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.values.as_ref().map_or(0, |values| {
            let values = values.lock().unwrap_or_else(PoisonError::into_inner);
            values.len()
        });
        write!(f, "{count} values")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn returns_each_value_once() {
        let mut carried = Carried::default();
        carried.put("text");
        carried.put(Cell::new(7));
        assert_eq!(carried.take::<Cell<i32>>(), Some(Cell::new(7)));
        assert_eq!(carried.take::<Cell<i32>>(), None);
        assert_eq!(carried.take::<String>(), None);
        assert_eq!(carried.take::<&str>(), Some("text"));
        assert_eq!(carried.take::<&str>(), None);
    }

    #[test]
    fn replaces_a_value_of_the_same_type() {
        let mut carried = Carried::default();
        carried.put(1);
        carried.put(2);
        assert_eq!(format!("{carried:?}"), "1 values");
        assert_eq!((carried.take(), carried.take()), (Some(2), None::<i32>));
    }
}
