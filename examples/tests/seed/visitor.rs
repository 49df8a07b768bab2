//! A visitor of the server: requests, a jar of cookies, and the switches of the application's store.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode, header::SET_COOKIE},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use http_body_util::BodyExt as _;
use serde_json::Value;
use sha1::Sha1;
use tower::ServiceExt;

use crate::seed_server;

/// When a removed cookie ended.
pub(crate) const LONG_AGO: &str = "Thu, 01 Jan 1970 00:00:00 GMT";

/// The cookie of the applications that keep the ancestor's defaults.
pub(crate) const SID: &str = "koa.sid";

/// The cookie of `main`, `defer`, `override` and `rolling`.
pub(crate) const TEST_SID: &str = "koss:test_sid";

/// Somebody with a browser, at one application of one server.
#[derive(Clone)]
pub(crate) struct Visitor {
    server: Router,
    app: &'static str,
    pub(crate) jar: BTreeMap<String, String>,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) cookies: Vec<SetCookie>,
}

/// One `Set-Cookie`.
#[derive(Clone, Debug)]
pub(crate) struct SetCookie {
    pub(crate) name: String,
    pub(crate) value: String,
    /// Attributes in the order they came, their names in small letters.
    pub(crate) attributes: Vec<(String, String)>,
}

impl Visitor {
    /// Starts a server and goes to one of its applications.
    pub(crate) fn at(app: &'static str) -> Self {
        Self { server: seed_server::app().unwrap(), app, jar: BTreeMap::new() }
    }

    /// Somebody else, at the same application.
    pub(crate) fn another(&self) -> Self {
        Self { jar: BTreeMap::new(), ..self.clone() }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        let cookies: Vec<_> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = self.send(path, &[("cookie", &cookies.join("; "))]).await;
        for cookie in &answer.cookies {
            if cookie.is_removal() {
                self.jar.remove(&cookie.name);
            } else {
                self.jar.insert(cookie.name.clone(), cookie.value.clone());
            }
        }
        answer
    }

    /// Sends these headers, and no cookie of the jar.
    pub(crate) async fn send(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().uri(path).header("x-app", self.app);
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        let answer = self.server.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let lines = parts.headers.get_all(SET_COOKIE).iter();
        Answer {
            status: parts.status,
            cookies: lines.map(|line| SetCookie::parse(line.to_str().unwrap())).collect(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// Works a switch of the store.
    pub(crate) async fn switch(&self, query: &str) -> String {
        let answer = self.send(&format!("/__ctl?op={query}"), &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.body);
        answer.body
    }

    /// Returns the rows, and the operations since the last look.
    pub(crate) async fn look(&self) -> (BTreeMap<String, Value>, Vec<String>) {
        let dump: Value = serde_json::from_str(&self.switch("dump").await).unwrap();
        let rows = dump["rows"].as_object().unwrap();
        let log = dump["log"].as_array().unwrap();
        (
            rows.iter().map(|(key, row)| (key.clone(), row.clone())).collect(),
            log.iter().map(|entry| entry[0].as_str().unwrap().to_owned()).collect(),
        )
    }

    /// Returns the operations since the last look.
    pub(crate) async fn log(&self) -> Vec<String> {
        self.look().await.1
    }

    /// Returns the only row: its key, and `{value, raw, ttl}`.
    pub(crate) async fn only_row(&self) -> (String, Value) {
        let (rows, _) = self.look().await;
        assert_eq!(rows.len(), 1, "{:?}", rows.keys());
        rows.into_iter().next().unwrap()
    }

    /// Puts a row there, as another program would.
    pub(crate) async fn put(&self, key: &str, value: &str) {
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("key", key)
            .append_pair("value", value)
            .finish();
        self.switch(&format!("put&{query}")).await;
    }
}

impl Answer {
    /// Returns the only `Set-Cookie` of that name.
    #[track_caller]
    pub(crate) fn cookie(&self, name: &str) -> &SetCookie {
        let mut found = self.cookies.iter().filter(|cookie| cookie.name == name);
        let (first, second) = (found.next(), found.next());
        assert!(first.is_some() && second.is_none(), "one {name} in {:?}", self.cookies);
        first.unwrap()
    }

    /// Asserts that the browser is told nothing.
    #[track_caller]
    pub(crate) fn sets_nothing(&self) -> &Self {
        assert!(self.cookies.is_empty(), "{:?}", self.cookies);
        self
    }

    /// Asserts that the pair of cookies is taken back.
    #[track_caller]
    pub(crate) fn takes_back(&self, name: &str) -> &Self {
        assert_eq!(self.cookies.len(), 2, "{:?}", self.cookies);
        assert!(self.cookie(name).is_removal() && self.cookie(&format!("{name}.sig")).is_removal());
        self
    }

    /// Asserts a successful answer.
    #[track_caller]
    pub(crate) fn ok(&self) -> &Self {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self
    }

    /// Asserts an answer 500 with that message.
    #[track_caller]
    pub(crate) fn fails(&self, message: &str) -> &Self {
        assert_eq!((self.status, self.body.as_str()), (StatusCode::INTERNAL_SERVER_ERROR, message));
        self
    }

    /// Returns the body as JSON.
    pub(crate) fn json(&self) -> Value {
        let json = serde_json::from_str(&self.body);
        assert!(json.is_ok(), "no JSON: {}", self.body);
        json.unwrap()
    }
}

impl SetCookie {
    fn parse(line: &str) -> Self {
        let mut parts = line.split(';').map(str::trim);
        let (name, value) = parts.next().unwrap().split_once('=').unwrap();
        let attributes = parts.map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Self { name: name.to_owned(), value: value.to_owned(), attributes: attributes.collect() }
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_removal(&self) -> bool {
        self.attribute("expires") == Some(LONG_AGO)
    }
}

/// Asserts that a cookie ends so many seconds from now, give or take two.
#[track_caller]
pub(crate) fn ends_in(cookie: &SetCookie, seconds: f64) {
    let end = httpdate::parse_http_date(cookie.attribute("expires").expect("an end")).unwrap();
    let left = end.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO).as_secs_f64();
    assert!((left - seconds).abs() <= 2.0, "{left} instead of {seconds}");
}

/// Signs as Keygrip does.
pub(crate) fn signature(pair: &str, key: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(pair.as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// Returns a `Cookie` header with an id and its signature under a key.
pub(crate) fn signed(name: &str, id: &str, key: &str) -> String {
    format!("{name}={id}; {name}.sig={}", signature(&format!("{name}={id}"), key))
}
