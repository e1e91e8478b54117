//! Messages as JSON, and the errors of messages that are not the expected JSON.
//!
//! JSON is sent and received as text messages. The texts of the errors do not quote the message, because errors are
//! logged. serde's description may quote it, so only `detail` returns that.

use std::{error::Error, fmt};

use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::{CloseCode, CloseFrame, Message, NotText};

impl Message {
    /// Makes a text message of a value, as JSON.
    ///
    /// # Errors
    ///
    /// [`ToJsonError`] if the value cannot be JSON, such as a map whose keys are not strings.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::Message;
    ///
    /// let message = Message::json(&[1, 2, 3])?;
    /// assert_eq!(message, "[1,2,3]");
    /// # Ok::<(), tower_websocket::json::ToJsonError>(())
    /// ```
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, ToJsonError> {
        match serde_json::to_string(value) {
            Ok(text) => Ok(text.into()),
            Err(error) => Err(ToJsonError(error)),
        }
    }

    /// Reads the JSON of a text message. The value may borrow from the message.
    ///
    /// A field `&str` refuses text with an escape such as `\n`, although that is JSON: use `String`, or `Cow<str>` with
    /// `#[serde(borrow)]`. A value has at most 127 levels of nesting.
    ///
    /// # Errors
    ///
    /// [`JsonError`] if the message is not the expected JSON.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_websocket::Message;
    ///
    /// let message = Message::text(r#"["move", "e2e4"]"#);
    /// let words: Vec<&str> = message.parse_json()?;
    /// assert_eq!(words, ["move", "e2e4"]);
    /// # Ok::<(), tower_websocket::json::JsonError>(())
    /// ```
    pub fn parse_json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, JsonError> {
        let text = self.as_text().ok_or(JsonError::NotText(NotText))?;
        serde_json::from_str(text).map_err(|error| JsonError::of(text, error))
    }
}

/// Why a message is not the expected JSON.
///
/// A handler that returns this error, also as the source of another error, closes the connection with
/// [`close_code`](Self::close_code): the peer caused it. The error is logged at debug level. Neither the Close nor the
/// log quotes the message.
#[derive(Debug)]
#[non_exhaustive]
pub enum JsonError {
    /// The message is binary. Closes with 1003.
    NotText(NotText),
    /// The text is not one value of JSON. This includes a number out of the range of `f64`, and nesting that is too
    /// deep. Closes with 1007.
    Syntax(JsonFault),
    /// The text is JSON, but does not fit the type. Closes with 1008.
    Shape(JsonFault),
}

impl JsonError {
    fn of(text: &str, error: serde_json::Error) -> Self {
        if !error.is_data() {
            return Self::Syntax(JsonFault(error));
        }
        // The type may have refused the beginning of a text whose end is not JSON.
        match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Self::Shape(JsonFault(error)),
            Err(error) => Self::Syntax(JsonFault(error)),
        }
    }

    /// Returns the code with which a handler that returns this error closes the connection.
    #[must_use]
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::NotText(_) => CloseCode::UNSUPPORTED_DATA,
            Self::Syntax(fault) | Self::Shape(fault) => fault.close_code(),
        }
    }

    /// Returns a description of the fault, such as "missing field `id` at line 1 column 17".
    ///
    /// The description may quote the message. Send it to the peer, but do not log it.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::NotText(not_text) => not_text.to_string(),
            Self::Syntax(fault) | Self::Shape(fault) => fault.detail(),
        }
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message is not the expected json")
    }
}

impl Error for JsonError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match self {
            Self::NotText(not_text) => not_text,
            Self::Syntax(fault) | Self::Shape(fault) => fault,
        })
    }
}

/// The fault in the JSON of a message, and its position.
pub struct JsonFault(serde_json::Error);

impl JsonFault {
    /// Returns the line of the fault, from 1 on, or 0 if it is unknown.
    #[must_use]
    pub fn line(&self) -> usize {
        self.0.line()
    }

    /// Returns the column of the fault, in bytes from 1 on, or 0 if the line has no byte before the fault.
    #[must_use]
    pub fn column(&self) -> usize {
        self.0.column()
    }

    /// Returns serde's description, such as "missing field `id` at line 1 column 17".
    ///
    /// The description may quote the message. Send it to the peer, but do not log it.
    #[must_use]
    pub fn detail(&self) -> String {
        self.0.to_string()
    }

    fn close_code(&self) -> CloseCode {
        match self.0.is_data() {
            true => CloseCode::POLICY_VIOLATION,
            false => CloseCode::INVALID_PAYLOAD,
        }
    }

    /// Returns the Close of a handler that ends with this fault.
    pub(crate) fn close_frame(&self) -> CloseFrame {
        CloseFrame::truncated(self.close_code(), self.to_string())
    }
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0.is_data() {
            true => "unexpected shape of the json",
            false => "invalid json",
        };
        match self.line() {
            0 => f.write_str(kind),
            line => write!(f, "{kind} at line {line} column {}", self.column()),
        }
    }
}

// Not derived: serde's description may quote the message.
impl fmt::Debug for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonFault({self})")
    }
}

impl Error for JsonFault {}

/// Why a value cannot be sent as JSON. [`source`](Error::source) has serde's description.
///
/// It is a fault of this side: a handler that returns it closes the connection with 1011.
#[derive(Debug)]
pub struct ToJsonError(serde_json::Error);

impl fmt::Display for ToJsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value cannot be sent as json")
    }
}

impl Error for ToJsonError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Move<'a> {
        from: &'a str,
        count: u8,
    }

    fn fault(message: impl Into<Message>) -> JsonError {
        message.into().parse_json::<Move<'_>>().unwrap_err()
    }

    fn chain(error: &dyn Error) -> String {
        let source = error.source().map_or(String::new(), chain);
        format!("{error}: {source}")
    }

    #[test]
    fn reads_what_it_writes() {
        let from = Move {
            from: "e2",
            count: 1,
        };
        let message = Message::json(&from).unwrap();
        assert_eq!(message, r#"{"from":"e2","count":1}"#);
        assert_eq!(message.parse_json::<Move<'_>>().unwrap(), from);
    }

    #[test]
    fn a_binary_message_is_of_the_wrong_kind() {
        let error = fault(br#"{"from":"e2","count":1}"#);
        assert!(matches!(error, JsonError::NotText(_)), "{error:?}");
        assert_eq!(error.close_code(), CloseCode::UNSUPPORTED_DATA);
    }

    #[test]
    fn text_that_is_not_json_is_invalid() {
        // In the last three texts, the beginning does not fit the type, and the rest is not JSON.
        for text in [
            "",
            " ",
            "{",
            "hello",
            r#"{"from":"e2"#,
            r#"{"from":"e2","count":1} {"#,
            "[1e999]",
            "[1, 2",
            r#"{"from":1,"count"#,
            "7 8",
        ] {
            let error = fault(text);
            assert!(matches!(error, JsonError::Syntax(_)), "{text}: {error:?}");
            assert_eq!(error.close_code(), CloseCode::INVALID_PAYLOAD, "{text}");
        }
        let nested = fault("[".repeat(100_000));
        assert_eq!(nested.close_code(), CloseCode::INVALID_PAYLOAD);
    }

    #[test]
    fn json_of_another_type_has_the_wrong_shape() {
        for text in [
            "7",
            "null",
            "{}",
            r#"{"from":"e2"}"#,
            r#"{"from":"e2","count":256}"#,
            r#"{"from":["e2"],"count":1}"#,
            r#"["e2"]"#,
        ] {
            let error = fault(text);
            assert!(matches!(error, JsonError::Shape(_)), "{text}: {error:?}");
            assert_eq!(error.close_code(), CloseCode::POLICY_VIOLATION, "{text}");
        }
    }

    #[test]
    fn only_the_detail_quotes_the_message() {
        let error = fault(r#"{"from":"e2","count":"secret"}"#);
        for shown in [chain(&error), format!("{error:?}"), format!("{error:#?}")] {
            assert!(!shown.contains("secret"), "{shown}");
            assert!(shown.contains("line 1 column 29"), "{shown}");
        }
        let JsonError::Shape(fault) = error else {
            panic!("{error:?}")
        };
        assert_eq!((fault.line(), fault.column()), (1, 29));
        assert!(fault.detail().contains("secret"), "{}", fault.detail());
    }

    #[test]
    fn refuses_a_value_that_cannot_be_json() {
        let map = BTreeMap::from([([1, 2], 3)]);
        let error = Message::json(&map).unwrap_err();
        assert_eq!(
            chain(&error),
            "the value cannot be sent as json: key must be a string: "
        );
    }
}
