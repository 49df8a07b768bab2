//! Why an example stopped: one line that says what to do.

use std::{fmt, io};

/// The error of an example's `main`, which prints it after `Error: ` and exits with 1.
pub struct Failure(String);

impl Failure {
    /// Creates a failure from what to print: what is wrong, and the cure.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<cloakroom::Error> for Failure {
    fn from(error: cloakroom::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// The message alone: `main` shows its error with `Debug`.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
