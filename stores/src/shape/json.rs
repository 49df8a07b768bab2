//! Whether a value is a JSON text, for the backends that do not ask.

use cloakroom_core::{Error, ErrorKind, Result};
use serde_json::value::RawValue;

/// Returns the text of a value that is JSON and has at most `largest` bytes.
///
/// # Errors
/// [`ErrorKind::TooLarge`] and [`ErrorKind::Value`], which have no operation and no store yet.
pub(super) fn json(value: &[u8], largest: usize) -> Result<&str> {
    if value.len() > largest {
        let hint = format!("a value of {} bytes is larger than {largest}", value.len());
        return Err(Error::new(ErrorKind::TooLarge).hint(hint));
    }
    // Only looked through, at any depth: what JavaScript writes and no string of ours can hold, such as half of a
    // surrogate pair, passes as it is.
    let text = str::from_utf8(value).ok();
    let text = text.filter(|text| serde_json::from_str::<&RawValue>(text).is_ok());
    text.ok_or_else(|| {
        Error::new(ErrorKind::Value).hint(
            "here is room for JSON alone: choose the profile of the Node program that the rows belong to",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_javascript_writes_passes_and_nothing_else() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for text in [r#"{"a":"\ud800","n":1e400}"#, "null", " [1] ", &deep] {
            assert_eq!(json(text.as_bytes(), 1 << 20).ok(), Some(text));
        }
        for value in [&b""[..], b"{", b"{} {}", b"\xff", b"{'a':1}", b"undefined"] {
            assert_eq!(json(value, 1 << 20).map_err(|error| error.kind()), Err(ErrorKind::Value));
        }
        assert_eq!(json(b"[1]", 2).map_err(|error| error.kind()), Err(ErrorKind::TooLarge));
    }
}
