//! A browser as far as sessions go: requests over a real connection, and a jar for the cookies of one site.
#![allow(dead_code)] // Each test file uses its part.
#![allow(clippy::unwrap_used)] // A helper that fails is a test that fails.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    http::{
        HeaderMap, Method, Request, StatusCode,
        header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE},
    },
};
use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::net::TcpListener;

/// A visitor's browser. Clones are tabs of it: they share the jar.
#[derive(Clone)]
pub(crate) struct Browser {
    site: String,
    client: Client<HttpConnector, Body>,
    jar: Arc<Mutex<BTreeMap<String, String>>>,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// Serves `app` on a free port until the test's runtime ends, and returns its address.
pub(crate) async fn start(app: Router) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let site = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, app).into_future());
    site
}

impl Browser {
    /// Opens a browser without cookies.
    pub(crate) fn new(site: &str) -> Self {
        Self {
            site: site.to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            jar: Arc::default(),
        }
    }

    /// Opens another browser at the same site.
    pub(crate) fn another(&self) -> Self {
        Self::new(&self.site)
    }

    /// Goes on at another server of the same site, with the same jar.
    pub(crate) fn at(&self, site: &str) -> Self {
        Self { site: site.to_owned(), ..self.clone() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path).body(Body::empty()).unwrap()).await
    }

    /// Posts a form, and stays at the answer.
    pub(crate) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self
            .request(Method::POST, path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form))
            .unwrap();
        self.send(request).await
    }

    /// Posts a form and goes where the answer says, as a browser does.
    pub(crate) async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let answer = self.post(path, fields).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}: {}", answer.body);
        self.get(answer.headers[LOCATION].to_str().unwrap()).await
    }

    /// Returns the value of the only cookie, if there is one.
    pub(crate) fn cookie(&self) -> Option<String> {
        let jar = self.jar.lock().unwrap();
        assert!(jar.len() < 2, "one cookie at most: {:?}", jar.keys());
        jar.values().next().cloned()
    }

    pub(crate) fn set_cookie(&self, name: &str, value: &str) {
        self.jar.lock().unwrap().insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> axum::http::request::Builder {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.site));
        let jar = self.jar.lock().unwrap();
        let cookies: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if cookies.is_empty() { request } else { request.header(COOKIE, cookies.join("; ")) }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.client.request(request).await.unwrap().into_parts();
        for line in parts.headers.get_all(SET_COOKIE) {
            let line = line.to_str().unwrap();
            let (name, rest) = line.split_once('=').unwrap();
            let mut jar = self.jar.lock().unwrap();
            if rest.contains("; Max-Age=0") {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), rest.split(';').next().unwrap().to_owned());
            }
        }
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }
}

impl Answer {
    /// Asserts that the body has `text` in it.
    #[track_caller]
    pub(crate) fn shows(&self, text: &str) -> &Self {
        assert!(self.body.contains(text), "{text:?} is missing in: {}", self.body);
        self
    }

    /// Asserts that the body does not have `text` in it.
    #[track_caller]
    pub(crate) fn hides(&self, text: &str) -> &Self {
        assert!(!self.body.contains(text), "{text:?} should not be in: {}", self.body);
        self
    }

    pub(crate) fn sets_a_cookie(&self) -> bool {
        self.headers.contains_key(SET_COOKIE)
    }
}
