//! A browser and an application: requests without a network, and a cookie jar.

use std::collections::BTreeMap;

use axum::{Router, body::Body};
use cloakroom_core::{Builder, Key, SessionLayer, Store};
use http::{HeaderMap, Request, StatusCode, header};
use tower::ServiceExt;

use super::{COOKIE, ear, key_of};

/// A layer over `store` with everything at its default.
pub fn layer(store: impl Store) -> SessionLayer {
    SessionLayer::new(store).build().unwrap()
}

/// A layer over `store`, configured.
pub fn layer_with(
    store: impl Store,
    configure: impl FnOnce(Builder<SessionLayer>) -> Builder<SessionLayer>,
) -> SessionLayer {
    ear::listen();
    configure(SessionLayer::new(store)).build().unwrap()
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    /// The Set-Cookie headers, as text.
    pub fn set_cookies(&self) -> Vec<&str> {
        self.headers.get_all(header::SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect()
    }

    /// The one Set-Cookie header.
    pub fn set_cookie(&self) -> &str {
        let all = self.set_cookies();
        assert_eq!(all.len(), 1, "expected one Set-Cookie: {all:?}");
        all[0]
    }

    /// The value the one Set-Cookie header gives the session cookie.
    pub fn ticket(&self) -> &str {
        let (_, rest) = self.set_cookie().split_once('=').unwrap();
        rest.split(';').next().unwrap()
    }
}

/// A browser with one cookie jar.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    pub jar: BTreeMap<String, String>,
}

impl Browser {
    pub fn new() -> Self {
        Self::default()
    }

    /// A browser that holds `ticket` as its session cookie.
    pub fn with(ticket: &str) -> Self {
        Self { jar: BTreeMap::from([(COOKIE.to_owned(), ticket.to_owned())]) }
    }

    /// The session cookie's value.
    pub fn ticket(&self) -> Option<&str> {
        self.jar.get(COOKIE).map(String::as_str)
    }

    /// The store key of the session cookie.
    pub fn key(&self) -> Key {
        key_of(self.ticket().unwrap())
    }

    /// Requests `path` and takes the cookies of the answer.
    pub async fn get(&mut self, app: &Router, path: &str) -> Reply {
        let reply = self.peek(app, path).await;
        self.take(&reply);
        reply
    }

    /// Requests `path` and leaves the jar as it is.
    pub async fn peek(&self, app: &Router, path: &str) -> Reply {
        let mut request = Request::builder().uri(path);
        if !self.jar.is_empty() {
            let pairs: Vec<_> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(header::COOKIE, pairs.join("; "));
        }
        send(app, request.body(Body::empty()).unwrap()).await
    }

    /// Takes the cookies of an answer, as a browser does.
    pub fn take(&mut self, reply: &Reply) {
        for cookie in reply.set_cookies() {
            let (name, rest) = cookie.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            if cookie.contains("Max-Age=0") {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

/// Sends a request as it is.
pub async fn send(app: &Router, request: Request<Body>) -> Reply {
    ear::listen();
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Reply { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
}
