//! Panics of the user's code.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The maximum number of characters of a message that are shown.
const MAX: usize = 500;

/// A panic that was caught, with its message.
#[derive(Debug)]
pub(crate) struct Panicked {
    /// `None` if the payload is not a string.
    message: Option<String>,
}

/// Runs the user's code.
///
/// # Errors
///
/// [`Panicked`] if it panics.
pub(crate) fn catch_panic<T>(code: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| {
        let message = message(&*payload).map(shown);
        // Dropping the panic's payload may panic again.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(payload);
        }
        Panicked { message }
    })
}

fn message(payload: &(dyn Any + Send)) -> Option<&str> {
    let literal = payload.downcast_ref::<&str>().copied();
    literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// Escapes control characters in the message and cuts it to [`MAX`] characters, because it may quote a peer.
fn shown(message: &str) -> String {
    let mut shown = String::new();
    for (index, char) in message.chars().enumerate() {
        if index == MAX {
            shown.push_str("...");
            break;
        }
        match char {
            ' ' => shown.push(char),
            _ if char.is_ascii_graphic() || char.is_alphanumeric() => shown.push(char),
            _ => shown.extend(char.escape_default()),
        }
    }
    shown
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message.as_deref().unwrap_or("not a string"))
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    fn caught(code: impl FnOnce()) -> String {
        catch_panic(code).unwrap_err().to_string()
    }

    #[test]
    fn keeps_the_message_of_a_panic() {
        assert_eq!(caught(|| panic!("a literal")), "a literal");
        let number = 7;
        assert_eq!(caught(|| panic!("a number: {number}")), "a number: 7");
        assert_eq!(caught(|| panic_any(7)), "not a string");
        assert!(catch_panic(|| 7).is_ok_and(|number| number == 7));
    }

    #[test]
    fn shows_no_control_characters_and_not_too_many_others() {
        assert_eq!(
            caught(|| panic_any("\u{9b}31m\n\u{202e}é \"a\"")),
            r#"\u{9b}31m\n\u{202e}é "a""#
        );
        let long = caught(|| panic_any("x".repeat(10_000)));
        assert_eq!(long, format!("{}...", "x".repeat(500)));
    }

    #[test]
    fn survives_a_payload_that_panics_when_it_is_dropped() {
        struct Bomb;

        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }

        assert_eq!(caught(|| panic_any(Bomb)), "not a string");
    }
}
