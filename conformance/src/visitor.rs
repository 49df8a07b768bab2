//! Visitors who drive the engine without a framework, as an adapter does.

use std::sync::Arc;

use cloakroom_core::{Engine, LazySession, RequestHead, Result, Session, Store};
use http::{HeaderMap, Method, StatusCode, Uri, header};

use crate::failure::Verdict;

/// An engine over `store`, configured.
pub(crate) fn engine(
    store: Arc<dyn Store>,
    configure: impl FnOnce(cloakroom_core::Builder<Engine>) -> cloakroom_core::Builder<Engine>,
) -> Verdict<Engine> {
    Ok(configure(Engine::builder(store)).build()?)
}

/// Somebody with a cookie jar that holds at most the session's cookie.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visitor {
    /// `name=value`, as the browser sends it.
    cookie: Option<String>,
}

impl Visitor {
    /// The cookie, or nothing.
    pub(crate) fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// Begins a request.
    pub(crate) fn begin(&self, engine: &Engine) -> LazySession {
        let mut headers = HeaderMap::new();
        if let Some(cookie) = self.cookie.as_deref().and_then(|cookie| cookie.parse().ok()) {
            headers.insert(header::COOKIE, cookie);
        }
        engine.begin(&RequestHead { method: &Method::GET, uri: &Uri::from_static("/"), headers: &headers })
    }

    /// Makes a request whose handler is `work`, and keeps the cookies of the response.
    pub(crate) async fn visit<T, F, R>(&mut self, engine: &Engine, work: F) -> Result<T>
    where
        F: FnOnce(Session) -> R,
        R: Future<Output = Result<T>>,
    {
        let lazy = self.begin(engine);
        let outcome = match lazy.load().await {
            Ok(session) => work(session).await,
            Err(error) => Err(error),
        };
        self.end(engine, &lazy, outcome).await
    }

    /// Ends a request with what its handler came to, and keeps the cookies of the response.
    pub(crate) async fn end<T>(
        &mut self,
        engine: &Engine,
        lazy: &LazySession,
        outcome: Result<T>,
    ) -> Result<T> {
        let status = if outcome.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut headers = HeaderMap::new();
        if let Some(commit) = engine.finish(lazy, status) {
            commit.await?.apply(&mut headers);
        }
        for cookie in headers.get_all(header::SET_COOKIE) {
            self.take(cookie.to_str().unwrap_or_default());
        }
        outcome
    }

    /// Takes a Set-Cookie as a browser does.
    fn take(&mut self, cookie: &str) {
        let pair = cookie.split(';').next().unwrap_or_default();
        let is_empty = pair.split_once('=').is_none_or(|(_, value)| value.is_empty());
        self.cookie = (!is_empty && !cookie.contains("Max-Age=0")).then(|| pair.to_owned());
    }
}

/// Counts up the number of this session and returns the new one, once it is stored.
pub(crate) async fn count(visitor: &mut Visitor, engine: &Engine) -> Result<u64> {
    let add = |session: Session| async move {
        session.update_now("count", |count: Option<u64>| count.unwrap_or(0) + 1).await
    };
    visitor.visit(engine, add).await
}

/// Reads the number of this session, if it has one.
pub(crate) async fn read(visitor: &mut Visitor, engine: &Engine) -> Result<Option<u64>> {
    visitor.visit(engine, |session| async move { session.get::<u64>("count") }).await
}
