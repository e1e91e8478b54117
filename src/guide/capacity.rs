//! Capacity: placeholder.
