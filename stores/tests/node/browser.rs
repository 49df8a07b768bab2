//! A browser that visits the sites of both sides with one jar of cookies, as behind one host name.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    body::Body,
    http::{
        Request, StatusCode,
        header::{COOKIE, SET_COOKIE},
    },
};
use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// Clones are tabs: they share the jar.
#[derive(Clone)]
pub(crate) struct Browser {
    client: Client<HttpConnector, Body>,
    jar: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Browser {
    pub(crate) fn new() -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), jar: Arc::default() }
    }

    /// Opens another browser with the cookies that this one has now.
    pub(crate) fn copied(&self) -> Self {
        let jar = self.jar.lock().unwrap().clone();
        Self { client: self.client.clone(), jar: Arc::new(Mutex::new(jar)) }
    }

    /// Takes over cookies in the form they are sent in.
    pub(crate) fn plant(&self, cookies: &str) {
        cookies.split("; ").for_each(|pair| self.keep(pair));
    }

    /// Returns the cookies, as they would be sent.
    pub(crate) fn cookies(&self) -> String {
        let jar = self.jar.lock().unwrap();
        jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    /// Visits a page, keeps the cookies, and returns status and body.
    pub(crate) async fn visit(&self, site: &str, path: &str) -> (StatusCode, String) {
        let request = Request::builder().uri(format!("{site}{path}"));
        let cookies = self.cookies();
        let request = if cookies.is_empty() { request } else { request.header(COOKIE, cookies) };
        let answer = self.client.request(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        for line in parts.headers.get_all(SET_COOKIE) {
            self.keep(line.to_str().unwrap());
        }
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Visits a page that must succeed, and returns its body.
    #[track_caller]
    pub(crate) fn get(&self, site: &str, path: &str) -> impl Future<Output = String> {
        let at = std::panic::Location::caller();
        let (browser, site, path) = (self.clone(), site.to_owned(), path.to_owned());
        async move {
            let (status, body) = browser.visit(&site, &path).await;
            assert_eq!(status, StatusCode::OK, "{path}: {body} (asked at {at})");
            body
        }
    }

    /// Returns the session as the site sees it, without the cookie's options.
    #[track_caller]
    pub(crate) fn session(&self, site: &str) -> impl Future<Output = Value> {
        let page = self.get(site, "/get");
        async move {
            let mut session: Value = serde_json::from_str(&page.await).unwrap();
            session.as_object_mut().unwrap().remove("cookie");
            session
        }
    }

    fn keep(&self, line: &str) {
        let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
        let (name, value) = pair.split_once('=').unwrap();
        let over = attributes.contains("=Thu, 01 Jan 1970");
        let mut jar = self.jar.lock().unwrap();
        if over {
            jar.remove(name);
        } else {
            jar.insert(name.to_owned(), value.to_owned());
        }
    }
}
