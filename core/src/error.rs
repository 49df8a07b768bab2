//! The one error of the store contract and the engine: a kind, the operation, the store, and a source.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc};

/// The result of every fallible call in Cloakroom.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a caller can act on it.
///
/// Absence is not an error: a key that is not there is `Ok(None)` or `Ok(false)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The backend cannot be reached, or the connection broke; also for writes to a session that could not be loaded
    /// for that reason. Retryable.
    Unavailable,
    /// The operation did not end before its deadline. It may still have been applied. Retryable.
    Timeout,
    /// The backend refused us: wrong password, missing permission. Trying again does not help.
    Rejected,
    /// The record is larger than the limit. What was stored before is intact.
    TooLarge,
    /// Stored bytes cannot be read. They are neither overwritten nor deleted.
    Corrupt,
    /// The store has no such ability, or the request has no session.
    Unsupported,
    /// A configuration value is wrong; [`Error::field`] names it.
    Config,
    /// Other writers won the race 16 times in a row, in other requests or through clones of the same session. Nothing
    /// was written. Retryable.
    Contention,
    /// The session ended while this request was under way (a logout, a login elsewhere, its expiry).
    Gone,
    /// The response of this request is already committed; a later write has nowhere to go.
    Committed,
    /// This request may read its (empty) session, but not write it: its record is unreadable, has moved, or could not
    /// be loaded and the application lets the request go on without it.
    WritesRefused,
    /// A value does not fit: it cannot become JSON, the stored JSON is not of the type asked for, or a key or a user
    /// is empty or too long.
    Value,
    /// Anything else the backend reported.
    Backend,
}

impl ErrorKind {
    /// Returns the kind as one lower-case word or two, as [`Error`]'s `Display` and metrics show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timed out",
            Self::Rejected => "rejected",
            Self::TooLarge => "too large",
            Self::Corrupt => "corrupt record",
            Self::Unsupported => "unsupported",
            Self::Config => "bad configuration",
            Self::Contention => "contention",
            Self::Gone => "session is gone",
            Self::Committed => "already committed",
            Self::WritesRefused => "writes refused",
            Self::Value => "bad value",
            Self::Backend => "backend error",
        }
    }

    /// Returns whether the same call may succeed if it is made again later, unchanged.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout | Self::Contention)
    }

    /// Returns whether the store could not be asked.
    pub(crate) const fn is_outage(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout)
    }

    /// Returns whether a write that failed this way may nevertheless have been applied.
    pub(crate) const fn leaves_doubt(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout | Self::Backend)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error of every store operation and every session method.
///
/// A store author makes one with [`Error::new`], names the operation and the store, and keeps the driver's own
/// error as the source:
///
/// ```
/// use cloakroom_core::{Error, ErrorKind};
///
/// fn classify(error: std::io::Error) -> Error {
///     Error::new(ErrorKind::Unavailable).store("mystore").with_source(error)
/// }
/// let error = classify(std::io::ErrorKind::ConnectionReset.into()).operation("get");
/// assert_eq!(error.to_string(), "get on mystore: unavailable: connection reset");
/// assert!(error.is_retryable());
/// ```
///
/// No error may hold an id, a key, a payload or a password: not in its hint and not in its source. A driver
/// error that quotes any of them is described, not attached.
///
/// Cloning is cheap: the source is shared. It is one pointer wide, so that a result is hardly larger than what it holds
/// when nothing fails.
#[derive(Clone)]
pub struct Error(Box<Parts>);

/// What an error says, apart from it: results are moved around with every request, and errors are rare.
#[derive(Clone)]
struct Parts {
    kind: ErrorKind,
    operation: Option<&'static str>,
    store: Option<&'static str>,
    field: Option<&'static str>,
    hint: Option<Cow<'static, str>>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error of `kind` that says nothing more yet.
    #[must_use]
    #[cold]
    pub fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Parts { kind, operation: None, store: None, field: None, hint: None, source: None }))
    }

    /// Creates an [`ErrorKind::Config`] error: `field` as the user writes it (`"cookie.path"`), and the cure.
    #[must_use]
    pub fn config(field: &'static str, cure: impl Into<Cow<'static, str>>) -> Self {
        let mut error = Self::new(ErrorKind::Config);
        error.0.field = Some(field);
        error.0.hint = Some(cure.into());
        error
    }

    /// Names the operation that failed, as the contract calls it: `"get"`, `"replace"`. A name already set stays.
    #[must_use]
    pub fn operation(mut self, operation: &'static str) -> Self {
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Names the store that failed: `"redis"`. A name already set stays.
    #[must_use]
    pub fn store(mut self, store: &'static str) -> Self {
        self.0.store.get_or_insert(store);
        self
    }

    /// Says what to do next, in lower case and without a final stop.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Attaches the error that caused this one. It must not quote an id, a key, a payload or a password.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Returns what went wrong.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the operation that failed, if it was named.
    #[must_use]
    pub const fn failed_operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// Returns the store that failed, if it was named.
    #[must_use]
    pub const fn failed_store(&self) -> Option<&'static str> {
        self.0.store
    }

    /// Returns the configuration field at fault, for [`ErrorKind::Config`].
    #[must_use]
    pub const fn field(&self) -> Option<&'static str> {
        self.0.field
    }

    /// Returns whether the same call may succeed if it is made again later, unchanged.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.0.kind.is_retryable()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind)
    }
}

/// One line: `operation on store: kind: hint or source`.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.operation, self.0.store) {
            (Some(operation), Some(store)) => write!(f, "{operation} on {store}: ")?,
            (Some(operation), None) => write!(f, "{operation}: ")?,
            (None, Some(store)) => write!(f, "{store}: ")?,
            (None, None) => {}
        }
        f.write_str(self.0.kind.as_str())?;
        if let Some(field) = self.0.field {
            write!(f, ": {field}")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, ": {hint}")?;
        }
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind);
        if let Some(operation) = self.0.operation {
            debug.field("operation", &operation);
        }
        if let Some(store) = self.0.store {
            debug.field("store", &store);
        }
        if let Some(field) = self.0.field {
            debug.field("field", &field);
        }
        if let Some(hint) = &self.0.hint {
            debug.field("hint", hint);
        }
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_password_is_not_retryable_and_an_outage_is() {
        assert!(!Error::new(ErrorKind::Rejected).is_retryable());
        assert!(Error::new(ErrorKind::Unavailable).is_retryable());
        assert!(Error::new(ErrorKind::Timeout).is_retryable());
        assert!(!Error::new(ErrorKind::Corrupt).is_retryable());
    }

    #[test]
    fn the_innermost_operation_and_store_are_kept() {
        let error = Error::new(ErrorKind::Backend).operation("get").store("redis");
        assert_eq!(error.operation("load").store("prefixed").to_string(), "get on redis: backend error");
    }

    #[test]
    fn a_config_error_names_the_field_and_the_cure() {
        let error = Error::config("cookie.path", "must not contain `;`");
        assert_eq!(error.to_string(), "bad configuration: cookie.path: must not contain `;`");
        assert_eq!(error.field(), Some("cookie.path"));
    }

    #[test]
    fn the_source_chain_is_intact() {
        let error = Error::new(ErrorKind::Backend).with_source(std::io::Error::other("disk full"));
        assert_eq!(StdError::source(&error).map(ToString::to_string).as_deref(), Some("disk full"));
    }
}
