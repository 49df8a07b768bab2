//! Why a case failed: the rule of the contract that is broken, and what was seen instead.

use std::fmt;

use cloakroom_core::Swapped;

/// What a case ends with.
pub(crate) type Verdict<T = ()> = Result<T, Failure>;

/// Bytes of a value that a message shows before it cuts.
const SHOWN: usize = 48;

/// Why a case failed: which rule of the contract the store breaks, and what was seen.
///
/// `Display` and `Debug` both show it in full, since a `#[test]` that returns an error prints its `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    rule: String,
    seen: String,
}

impl Failure {
    /// Says which rule is broken, and what was seen instead.
    ///
    /// For what is proved besides the cases, such as a server of a kind that the suite does not know.
    #[must_use]
    pub fn new(rule: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { rule: rule.into(), seen: seen.into() }
    }

    /// The machine was so slow that no attempt could tell a broken store from a stalled one.
    pub(crate) fn too_slow() -> Self {
        Self::new(
            "operations end before the ttl they set has passed",
            "every attempt took longer than its ttl, up to the longest; run the case on a less busy machine",
        )
    }

    /// Returns the rule of the store contract that is broken.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// Returns what was seen instead.
    #[must_use]
    pub fn seen(&self) -> &str {
        &self.seen
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule: {}\n  seen: {}", self.rule, self.seen)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

impl From<cloakroom_core::Error> for Failure {
    fn from(error: cloakroom_core::Error) -> Self {
        Self::new("an operation that can be carried out is no error", error.to_string())
    }
}

/// Fails the case unless the condition holds: the rule, then a format string for what was seen.
macro_rules! check {
    ($condition:expr, $rule:expr, $($seen:tt)+) => {
        if !$condition {
            return Err($crate::failure::Failure::new($rule, format!($($seen)+)));
        }
    };
}

/// Fails the case unless both sides are equal: what was seen, what was to be seen, the rule.
macro_rules! check_eq {
    ($seen:expr, $expected:expr, $rule:expr) => {
        match (&$seen, &$expected) {
            (seen, expected) => {
                if *seen != *expected {
                    return Err($crate::failure::Failure::new(
                        $rule,
                        format!("{seen:?} instead of {expected:?}"),
                    ));
                }
            }
        }
    };
}

pub(crate) use {check, check_eq};

/// Shows a value: its first bytes escaped, and its length if there are more.
pub(crate) fn show(value: &[u8]) -> String {
    if value.len() <= SHOWN {
        format!("\"{}\"", value.escape_ascii())
    } else {
        format!("\"{}…\" ({} bytes)", value[..SHOWN].escape_ascii(), value.len())
    }
}

/// Shows the answer of a `get`.
pub(crate) fn show_found(found: Option<&[u8]>) -> String {
    found.map_or_else(|| "no value".into(), show)
}

/// Shows the answer of a conditional write, with the value that a conflict holds.
pub(crate) fn show_swapped(swapped: &Swapped) -> String {
    match swapped {
        Swapped::Done => "Done".into(),
        Swapped::Gone => "Gone".into(),
        Swapped::Conflict(current) => format!("Conflict({})", show(current)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_rule_and_what_was_seen() {
        let failure = Failure::new("absent is none", show(b"a\0b"));
        assert_eq!(failure.to_string(), "rule: absent is none\n  seen: \"a\\x00b\"");
        assert_eq!(format!("{failure:?}"), failure.to_string());
    }

    #[test]
    fn a_long_value_is_cut_and_its_length_told() {
        let shown = show(&[b'x'; 1000]);
        assert!(shown.len() < 100 && shown.ends_with("(1000 bytes)"));
    }
}
