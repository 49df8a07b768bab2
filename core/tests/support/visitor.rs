//! A visitor who drives the engine without a framework, as an adapter does.

use cloakroom_core::{Engine, ErrorKind, HeaderEdits, Key, LazySession, RequestHead, Result, Session};
use http::{HeaderMap, Method, StatusCode, Uri, header};

use super::{COOKIE, ear, key_of};

/// What a request came to.
#[derive(Debug)]
pub struct Answer<T> {
    pub outcome: Result<T>,
    /// The Set-Cookie headers of the response.
    pub cookies: Vec<String>,
    pub headers: HeaderMap,
}

impl<T> Answer<T> {
    /// The kind of the error, if it is one.
    pub fn kind(&self) -> Option<ErrorKind> {
        self.outcome.as_ref().err().map(cloakroom_core::Error::kind)
    }
}

/// Somebody with a cookie jar that holds at most the session's cookie.
#[derive(Clone, Debug, Default)]
pub struct Visitor {
    pub ticket: Option<String>,
}

impl Visitor {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with(ticket: &str) -> Self {
        Self { ticket: Some(ticket.to_owned()) }
    }

    pub fn ticket(&self) -> &str {
        self.ticket.as_deref().expect("the visitor has a cookie")
    }

    pub fn key(&self) -> Key {
        key_of(self.ticket())
    }

    /// Begins a request.
    pub fn begin(&self, engine: &Engine) -> LazySession {
        begin(engine, self.ticket.as_deref())
    }

    /// Makes a request whose handler is `work`, and keeps the cookies of the response.
    pub async fn visit<T>(
        &mut self,
        engine: &Engine,
        work: impl AsyncFnOnce(&Session) -> Result<T>,
    ) -> Answer<T> {
        let answer = self.peek(engine, work).await;
        self.take(&answer.cookies);
        answer
    }

    /// Makes a request and leaves the jar as it is.
    pub async fn peek<T>(&self, engine: &Engine, work: impl AsyncFnOnce(&Session) -> Result<T>) -> Answer<T> {
        let lazy = self.begin(engine);
        let outcome = match lazy.load().await {
            Ok(session) => work(&session).await,
            Err(error) => Err(error),
        };
        let status = match &outcome {
            Ok(_) => StatusCode::OK,
            Err(error) if error.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            Err(_) => StatusCode::CONFLICT,
        };
        match finish(engine, &lazy, status).await {
            Ok(headers) => Answer { outcome, cookies: cookies(&headers), headers },
            Err(error) => Answer { outcome: Err(error), cookies: Vec::new(), headers: HeaderMap::new() },
        }
    }

    /// Takes cookies as a browser does.
    pub fn take(&mut self, cookies: &[String]) {
        for cookie in cookies {
            self.ticket = ticket_in(cookie).map(str::to_owned);
        }
    }
}

/// Begins a request that comes with `ticket`.
pub fn begin(engine: &Engine, ticket: Option<&str>) -> LazySession {
    ear::listen();
    let mut headers = HeaderMap::new();
    if let Some(ticket) = ticket {
        let cookie = format!("{COOKIE}={ticket}");
        headers.insert(header::COOKIE, cookie.parse().expect("a ticket is a header value"));
    }
    let uri = Uri::from_static("/");
    engine.begin(&RequestHead { method: &Method::GET, uri: &uri, headers: &headers })
}

/// Ends a request, and returns the headers its response has got.
pub async fn finish(engine: &Engine, lazy: &LazySession, status: StatusCode) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some(commit) = engine.finish(lazy, status) {
        let edits: HeaderEdits = commit.await?;
        edits.apply(&mut headers);
    }
    Ok(headers)
}

/// The Set-Cookie headers, as text.
pub fn cookies(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::SET_COOKIE).iter();
    values.map(|value| value.to_str().expect("a cookie is ASCII").to_owned()).collect()
}

/// The value a Set-Cookie gives the cookie; `None` if it takes it away.
pub fn ticket_in(cookie: &str) -> Option<&str> {
    let (_, rest) = cookie.split_once('=').expect("a Set-Cookie has a name");
    let value = rest.split(';').next().unwrap_or_default();
    (!cookie.contains("Max-Age=0") && !value.is_empty()).then_some(value)
}
