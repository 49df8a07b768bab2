//! The application's say in loading and saving: `validate`, `before_save`, `recover` and `idle_by`.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use http::{HeaderMap, Method, Uri};

use crate::{
    error::{Error, Result},
    session::Session,
};

/// The head of a request, kept for hooks.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct OwnedHead {
    /// The request's method.
    pub method: Method,
    /// The request's target.
    pub uri: Uri,
    /// The request's headers, with the session cookie among them: do not log them.
    pub headers: HeaderMap,
}

impl OwnedHead {
    /// Copies the head of a request.
    pub(crate) fn copy(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        Self { method: method.clone(), uri: uri.clone(), headers: headers.clone() }
    }

    /// Copies the head of a request.
    #[must_use]
    pub fn of<B>(request: &http::Request<B>) -> Self {
        Self::copy(request.method(), request.uri(), request.headers())
    }
}

/// Shows the method alone: targets and headers hold what users type and browsers keep.
impl fmt::Debug for OwnedHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedHead").field("method", &self.method).finish_non_exhaustive()
    }
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// A hook that is given the request and the session.
pub(crate) type SessionHook<T> = Arc<dyn Fn(Arc<OwnedHead>, Session) -> Answer<T> + Send + Sync>;

/// A hook that is given an error and the request.
pub(crate) type ErrorHook = Arc<dyn Fn(Error, Arc<OwnedHead>) -> Answer<()> + Send + Sync>;

/// A function from the session to its idle time.
pub(crate) type IdleHook = Arc<dyn Fn(&Session) -> Option<Duration> + Send + Sync>;

/// The hooks of an application; each may be absent, and then costs nothing.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) validate: Option<SessionHook<bool>>,
    pub(crate) before_save: Option<SessionHook<()>>,
    pub(crate) recover: Option<ErrorHook>,
    pub(crate) idle_by: Option<IdleHook>,
}

impl Hooks {
    /// Whether any of them wants to see the request, so that its head must be kept.
    pub(crate) const fn want_head(&self) -> bool {
        self.validate.is_some() || self.before_save.is_some() || self.recover.is_some()
    }

    /// Whether a record goes through a hook before it is encoded.
    pub(crate) const fn touch_saves(&self) -> bool {
        self.before_save.is_some() || self.idle_by.is_some()
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("validate", &self.validate.is_some())
            .field("before_save", &self.before_save.is_some())
            .field("recover", &self.recover.is_some())
            .field("idle_by", &self.idle_by.is_some())
            .finish()
    }
}
