//! The return values of functions that serve a connection.

use crate::words::BoxError;

/// A value that the future of [`Upgrade::on_upgrade`](super::Upgrade::on_upgrade) may return: `()` or
/// `Result<(), E>`.
///
/// `E` is an error that converts into [`BoxError`], such as [`Error`](crate::Error). An error closes the connection
/// like an error of [`Handler::handle`](crate::Handler::handle). The trait is sealed.
#[diagnostic::on_unimplemented(
    message = "a connection cannot end in `{Self}`",
    label = "not `()` or `Result<(), E>`",
    note = "the function of `on_upgrade` returns nothing, or `Result<(), E>` with `E: Into<BoxError>`: end it in \
            `Ok::<_, tower_websocket::Error>(())`"
)]
pub trait Outcome: sealed::Sealed {}

pub(super) mod sealed {
    use super::BoxError;

    #[expect(unnameable_types, reason = "no other crate implements it")]
    pub trait Sealed {
        /// Converts the value into the result of a handler.
        fn into_result(self) -> Result<(), BoxError>;
    }
}

impl Outcome for () {}

impl sealed::Sealed for () {
    fn into_result(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<BoxError>> Outcome for Result<(), E> {}

impl<E: Into<BoxError>> sealed::Sealed for Result<(), E> {
    fn into_result(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}
