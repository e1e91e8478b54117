//! Close codes and Close frames: the reason why a connection ends.
//!
//! The constructors here reject values that are illegal on the wire, so no illegal Close can be sent later
//! ([RFC 6455 §7.4](https://www.rfc-editor.org/rfc/rfc6455#section-7.4)).

use std::{error::Error, fmt};

use crate::words::Utf8Bytes;

/// The code of a Close frame: the reason for closing, as a number.
///
/// A value is always legal in a Close frame: 1000–1003, 1007–1014 or 3000–4999. The codes 1005 "no code"
/// and 1006 "no Close frame" are never sent and have no value here. If a connection ended without a
/// code, its `CloseCode` is `None`.
///
/// # Examples
///
/// ```
/// use tower_websocket::CloseCode;
///
/// assert_eq!(CloseCode::NORMAL.get(), 1000);
/// assert_eq!(CloseCode::of::<4001>().get(), 4001);
/// assert!(CloseCode::new(1006).is_err());
/// ```
///
/// Source: [RFC 6455 §7.4](https://www.rfc-editor.org/rfc/rfc6455#section-7.4) and the IANA registry of
/// close codes.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: normal end; the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server is going down, or the user left the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: the endpoint does not accept this kind of data, such as binary instead of text.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1007: the payload is invalid for its kind, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a policy was violated. Use it if no other code is more specific.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message is too large.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: the server did not accept an extension that the client requires.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: the server met an unexpected condition and cannot continue.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service restarts. Reconnect after a moment.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the server is overloaded. Reconnect later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway received an invalid response from its upstream.
    pub const BAD_GATEWAY: Self = Self(1014);

    /// Makes a close code from a constant. The compiler checks the number.
    ///
    /// Libraries and frameworks register 3000–3999 with IANA. 4000–4999 are free for applications.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::CloseCode;
    ///
    /// const SIGNED_OUT: CloseCode = CloseCode::of::<4401>();
    /// ```
    ///
    /// A code that is not allowed in a Close frame does not compile:
    ///
    /// ```compile_fail
    /// # use tower_websocket::CloseCode;
    /// const NO_CLOSE: CloseCode = CloseCode::of::<1006>();
    /// ```
    #[must_use]
    pub const fn of<const CODE: u16>() -> Self {
        const {
            match Self::new(CODE) {
                Ok(code) => code,
                Err(_) => panic!("this close code may not be sent"),
            }
        }
    }

    /// Makes a close code from a number that is known only at run time. For a constant, use [`of`](Self::of).
    ///
    /// # Errors
    ///
    /// [`InvalidClose::Code`] if `code` is not allowed in a Close frame.
    pub const fn new(code: u16) -> Result<Self, InvalidClose> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Ok(Self(code)),
            _ => Err(InvalidClose::Code { code }),
        }
    }

    /// Returns the code as a number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl TryFrom<u16> for CloseCode {
    type Error = InvalidClose;

    fn try_from(code: u16) -> Result<Self, Self::Error> {
        Self::new(code)
    }
}

/// The content of a Close frame: a close code and a reason.
///
/// The reason is for logs and developers, not for users. It has at most
/// [`MAX_REASON`](Self::MAX_REASON) bytes.
///
/// # Examples
///
/// ```
/// use tower_websocket::{CloseCode, CloseFrame};
///
/// let frame = CloseFrame::truncated(CloseCode::of::<4401>(), "the token has expired");
/// assert_eq!(frame.to_string(), "4401 (the token has expired)");
/// ```
///
/// Source: [RFC 6455 §5.5.1](https://www.rfc-editor.org/rfc/rfc6455#section-5.5.1).
#[derive(Clone, Eq, PartialEq)]
pub struct CloseFrame {
    code: CloseCode,
    reason: Utf8Bytes,
}

impl CloseFrame {
    /// The maximum length of a reason, in bytes: a control frame carries 125, and the code takes two.
    pub const MAX_REASON: usize = 123;

    /// Makes a Close frame from a code and a reason. The reason may be empty.
    ///
    /// # Errors
    ///
    /// [`InvalidClose::Reason`] if `reason` is longer than [`MAX_REASON`](Self::MAX_REASON) bytes.
    pub fn new(code: CloseCode, reason: impl Into<Utf8Bytes>) -> Result<Self, InvalidClose> {
        let reason = reason.into();
        if reason.len() > Self::MAX_REASON {
            return Err(InvalidClose::Reason { len: reason.len() });
        }
        Ok(Self { code, reason })
    }

    pub(crate) fn without_reason(code: CloseCode) -> Self {
        Self {
            code,
            reason: Utf8Bytes::default(),
        }
    }

    /// Makes a Close frame, and cuts a reason that is longer than [`MAX_REASON`](Self::MAX_REASON) bytes.
    ///
    /// The reason is cut between two characters, so it stays valid UTF-8. Unlike [`new`](Self::new), this never fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::{CloseCode, CloseFrame};
    ///
    /// let error = "é".repeat(100);
    /// let frame = CloseFrame::truncated(CloseCode::POLICY_VIOLATION, &error);
    /// assert_eq!(frame.reason(), "é".repeat(61));
    /// ```
    #[must_use]
    pub fn truncated(code: CloseCode, reason: impl AsRef<str>) -> Self {
        let reason = reason.as_ref();
        let mut end = reason.len().min(Self::MAX_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = reason[..end].into();
        Self { code, reason }
    }

    /// Returns the code.
    #[must_use]
    pub const fn code(&self) -> CloseCode {
        self.code
    }

    /// Returns the reason, or an empty string if there is none.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for CloseFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reason.is_empty() {
            write!(f, "{}", self.code)
        } else {
            write!(f, "{} ({})", self.code, &*self.reason)
        }
    }
}

// Not derived: the `Debug` of a reason's type shows only its length.
impl fmt::Debug for CloseFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloseFrame")
            .field("code", &self.code)
            .field("reason", &self.reason())
            .finish()
    }
}

/// A handler can return a Close frame as its error. The connection is then closed with this frame instead
/// of 1011.
///
/// # Examples
///
/// ```
/// use tower_websocket::{BoxError, CloseCode, CloseFrame, WebSocket};
///
/// async fn guarded(mut socket: WebSocket) -> Result<(), BoxError> {
///     while let Some(message) = socket.recv().await? {
///         if message.is_binary() {
///             return Err(CloseFrame::truncated(CloseCode::of::<4003>(), "text, please").into());
///         }
///     }
///     Ok(())
/// }
/// ```
impl Error for CloseFrame {}

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[expect(clippy::exhaustive_enums, reason = "a connection has two ends")]
pub enum Side {
    /// This end.
    Local,
    /// The peer.
    Remote,
}

/// How a connection ended.
///
/// Source: [RFC 6455 §7.1](https://www.rfc-editor.org/rfc/rfc6455#section-7.1), items 4 to 6.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Closed {
    side: Side,
    frame: Option<CloseFrame>,
    clean: bool,
    /// Why the connection ended without a Close, for the log.
    fault: Option<&'static str>,
}

impl Closed {
    pub(crate) const fn new(side: Side, frame: Option<CloseFrame>, clean: bool) -> Self {
        Self {
            side,
            frame,
            clean,
            fault: None,
        }
    }

    /// Makes the end of a connection that was given up without a Close.
    pub(crate) const fn lost(side: Side, fault: &'static str) -> Self {
        Self {
            side,
            frame: None,
            clean: false,
            fault: Some(fault),
        }
    }

    /// Returns why the connection was given up without a Close.
    #[cfg_attr(
        not(feature = "tracing"),
        allow(dead_code, reason = "only the log uses it")
    )]
    pub(crate) const fn fault(&self) -> Option<&'static str> {
        self.fault
    }

    pub(crate) const fn set_clean(&mut self, clean: bool) {
        self.clean = clean;
    }

    pub(crate) const fn frame(&self) -> Option<&CloseFrame> {
        self.frame.as_ref()
    }

    /// Returns the side that ended the connection: it sent the first Close, or dropped the connection
    /// without one.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// Returns the code of the first Close, or `None` if it had no code or there was no Close.
    ///
    /// Other APIs report `None` as 1005 if the end is clean, and as 1006 if it is not.
    #[must_use]
    pub fn code(&self) -> Option<CloseCode> {
        self.frame.as_ref().map(CloseFrame::code)
    }

    /// Returns the reason of the first Close, or an empty string if there is none.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.frame.as_ref().map_or("", CloseFrame::reason)
    }

    /// Returns whether both sides sent a Close. Then each side received everything that the other had sent.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.clean
    }
}

/// Why a close code or reason was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum InvalidClose {
    /// The code is not allowed in a Close frame (RFC 6455 §7.4).
    Code {
        /// The code.
        code: u16,
    },
    /// The reason is longer than 123 bytes, the most that fits into a control frame (RFC 6455 §5.5).
    Reason {
        /// The length of the reason in bytes.
        len: usize,
    },
}

impl fmt::Display for InvalidClose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code { code } => write!(f, "close code {code} may not be sent"),
            Self::Reason { len } => write!(f, "close reason has {len} bytes, the limit is 123"),
        }
    }
}

impl Error for InvalidClose {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_only_codes_that_are_legal_in_a_close_frame() {
        for code in [
            1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999,
        ] {
            assert_eq!(
                CloseCode::new(code).map(CloseCode::get),
                Ok(code),
                "code {code}"
            );
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
            assert_eq!(
                CloseCode::new(code),
                Err(InvalidClose::Code { code }),
                "code {code}"
            );
        }
    }

    #[test]
    fn limits_the_reason_in_bytes() {
        let code = CloseCode::NORMAL;
        assert!(CloseFrame::new(code, "x".repeat(123)).is_ok());
        assert_eq!(
            CloseFrame::new(code, "x".repeat(124)),
            Err(InvalidClose::Reason { len: 124 })
        );
        assert_eq!(
            CloseFrame::new(code, "é".repeat(62)),
            Err(InvalidClose::Reason { len: 124 })
        );
    }

    #[test]
    fn makes_a_code_from_a_constant() {
        const KICKED: CloseCode = CloseCode::of::<4401>();
        assert_eq!(KICKED, CloseCode::new(4401).unwrap());
        assert_eq!(CloseCode::of::<1000>(), CloseCode::NORMAL);
    }

    #[test]
    fn cuts_a_long_reason_at_a_character() {
        let cut = |reason: &str| CloseFrame::truncated(CloseCode::NORMAL, reason).reason;
        for (reason, len) in [
            ("", 0),
            ("bye", 3),
            (&*"x".repeat(123), 123),
            (&*"x".repeat(124), 123),
            (&*"é".repeat(62), 122),
            (&*"€".repeat(50), 123),
            (&*"😀".repeat(31), 120),
        ] {
            let cut = cut(reason);
            assert_eq!(cut.len(), len, "{reason:?}");
            assert!(reason.starts_with(cut.as_str()), "{reason:?}");
        }
    }

    #[test]
    fn debug_shows_the_reason() {
        let frame = CloseFrame::new(CloseCode::NORMAL, "bye").unwrap();
        assert_eq!(
            format!("{frame:?}"),
            r#"CloseFrame { code: CloseCode(1000), reason: "bye" }"#
        );
    }

    #[test]
    fn displays_the_reason_only_if_there_is_one() {
        assert_eq!(
            CloseFrame::without_reason(CloseCode::NORMAL).to_string(),
            "1000"
        );
        let frame = CloseFrame::new(CloseCode::NORMAL, "bye").unwrap();
        assert_eq!(frame.to_string(), "1000 (bye)");
    }
}
