//! What each field does to a layer: configured, and left out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use cloakroom_conformance::{Plain, Reference, Switch};
use cloakroom_core::{AdminStore, Engine, Error, ErrorKind, LazySession, RequestHead, Result, Session};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{SECRET, read};

type Stored = Switch<Reference>;

fn stored() -> Stored {
    Switch::new(Reference::new())
}

fn engine(store: &Stored, config: Value) -> Engine {
    read(config).unwrap().apply(Engine::builder(store.clone())).unwrap().build().unwrap()
}

/// Somebody with the cookie of the last response that set one.
#[derive(Clone, Default)]
struct Browser(Option<String>);

impl Browser {
    fn begin(&self, engine: &Engine) -> LazySession {
        let mut headers = HeaderMap::new();
        if let Some(cookie) = &self.0 {
            headers.insert(header::COOKIE, cookie.parse().unwrap());
        }
        engine.begin(&RequestHead { method: &Method::GET, uri: &Uri::from_static("/app"), headers: &headers })
    }

    /// Makes a request that ends with this status, and returns the cookie that the response sets, or nothing.
    async fn visit(
        &mut self,
        engine: &Engine,
        status: StatusCode,
        work: impl FnOnce(&Session) -> Result<()>,
    ) -> Result<String> {
        let lazy = self.begin(engine);
        work(&lazy.load().await?)?;
        let mut headers = HeaderMap::new();
        if let Some(commit) = engine.finish(&lazy, status) {
            commit.await?.apply(&mut headers);
        }
        let Some(cookie) = headers.get(header::SET_COOKIE) else { return Ok(String::new()) };
        let cookie = cookie.to_str().unwrap().to_owned();
        self.0 = cookie.split(';').next().map(str::to_owned);
        Ok(cookie)
    }

    async fn write(&mut self, engine: &Engine) -> Result<String> {
        self.visit(engine, StatusCode::OK, |session| session.insert("name", "plain")).await
    }

    async fn look(&mut self, engine: &Engine) -> Result<String> {
        self.visit(engine, StatusCode::OK, |_| Ok(())).await
    }

    /// Returns what this visitor has written, as this engine sees it.
    async fn name(&self, engine: &Engine) -> Option<String> {
        self.begin(engine).load().await.unwrap().get("name").unwrap()
    }
}

/// The cookie that a layer of this configuration sets for a new session.
async fn cookie(config: Value) -> String {
    Browser::default().write(&engine(&stored(), config)).await.unwrap()
}

#[tokio::test]
async fn a_cookie_has_what_its_fields_say_and_else_the_defaults() {
    let usual = cookie(json!({})).await;
    for part in ["__Host-sid=", "; Path=/", "; HttpOnly", "; Secure", "; SameSite=Lax", "; Max-Age=86400"] {
        assert!(usual.contains(part), "{usual}");
    }
    assert!(!["Domain", "Partitioned", "Priority"].iter().any(|name| usual.contains(name)), "{usual}");
    for (config, has, has_not) in [
        (json!({ "cookie": { "name": "__Host-shop" } }), "__Host-shop=", "sid"),
        (json!({ "cookie": { "name": "shop", "path": "/app" } }), "; Path=/app", "Path=/;"),
        (json!({ "cookie": { "name": "shop", "domain": "shop.test" } }), "; Domain=shop.test", "__Host"),
        (json!({ "cookie": { "same_site": "strict" } }), "; SameSite=Strict", "Lax"),
        (json!({ "cookie": { "same_site": "none" } }), "; SameSite=None", "Lax"),
        (json!({ "cookie": { "same_site": "lax" } }), "; SameSite=Lax", "Strict"),
        (json!({ "cookie": { "http_only": false } }), "; Secure", "HttpOnly"),
        (json!({ "cookie": { "name": "shop", "secure": false }, "insecure": true }), "shop=", "Secure"),
        (json!({ "cookie": { "partitioned": true } }), "; Partitioned", "Domain"),
        (json!({ "cookie": { "priority": "low" } }), "; Priority=Low", "Domain"),
        (json!({ "cookie": { "priority": "medium" } }), "; Priority=Medium", "Domain"),
        (json!({ "cookie": { "priority": "high" } }), "; Priority=High", "Domain"),
        (json!({ "cookie": { "browser_session": true } }), "; HttpOnly", "Max-Age"),
        (json!({ "insecure": true }), "sid=", "Secure"),
        (json!({ "insecure": true }), "sid=", "__Host-"),
        (json!({ "insecure": false }), "; Secure", "Domain"),
        (json!({ "expiry": { "idle": "30m" } }), "; Max-Age=1800", "86400"),
        (json!({ "expiry": { "absolute": "12h" } }), "; Max-Age=43200", "86400"),
        (json!({ "expiry": { "idle": "30m", "absolute": "12h" } }), "; Max-Age=1800", "43200"),
    ] {
        let set = cookie(config.clone()).await;
        assert!(set.contains(has) && !set.contains(has_not), "{config}: {set}");
    }
}

#[tokio::test]
async fn keys_sign_the_cookie_and_the_old_ones_still_count() {
    let (store, other) = (stored(), "another secret of 32 bytes or more");
    let mut browser = Browser::default();
    browser.write(&engine(&store, json!({ "keys": [SECRET] }))).await.unwrap();
    for (keys, known) in [(json!([SECRET]), true), (json!([other, SECRET]), true), (json!([other]), false)] {
        let name = browser.name(&engine(&store, json!({ "keys": keys }))).await;
        assert_eq!(name.is_some(), known);
    }
}

#[cfg(feature = "encrypt")]
#[tokio::test]
async fn what_is_stored_is_encrypted_where_there_are_keys_for_that() {
    use cloakroom_core::Store;
    use futures_util::TryStreamExt;

    for (config, readable) in [(json!({}), true), (json!({ "encrypt": [SECRET] }), false)] {
        let store = stored();
        let engine = engine(&store, config);
        let mut browser = Browser::default();
        browser.write(&engine).await.unwrap();
        let keys: Vec<_> = store.scan().try_collect().await.unwrap();
        let kept = store.get(&keys[0]).await.unwrap().unwrap();
        assert_eq!(kept.windows(5).any(|part| part == b"plain"), readable);
        assert_eq!(browser.name(&engine).await.as_deref(), Some("plain"));
    }
}

#[tokio::test]
async fn a_session_is_renewed_with_every_request_or_when_this_share_of_its_time_is_left() {
    for (config, at_once, after_60, after_80) in [
        (json!({ "expiry": { "idle": "100s" } }), false, true, true),
        (json!({ "expiry": { "idle": "100s" }, "rolling": true }), true, true, true),
        (json!({ "expiry": { "idle": "100s" }, "rolling": false }), false, true, true),
        (json!({ "expiry": { "idle": "100s", "renew_below": 0.25 } }), false, false, true),
    ] {
        for (seconds, renewed) in [(0, at_once), (60, after_60), (80, after_80)] {
            let later = Arc::new(AtomicU64::new(0));
            let (clock, now) = (Arc::clone(&later), SystemTime::now());
            let builder = Engine::builder(stored())
                .clock(move || now + Duration::from_secs(clock.load(Ordering::SeqCst)));
            let engine = read(config.clone()).unwrap().apply(builder).unwrap().build().unwrap();
            let mut browser = Browser::default();
            browser.write(&engine).await.unwrap();
            later.store(seconds, Ordering::SeqCst);
            let cookie = browser.look(&engine).await.unwrap();
            assert_eq!(!cookie.is_empty(), renewed, "{config} after {seconds} s: {cookie}");
        }
    }
}

#[tokio::test]
async fn an_empty_session_is_stored_if_that_is_allowed() {
    for (config, is_stored) in
        [(json!({}), false), (json!({ "allow_empty": false }), false), (json!({ "allow_empty": true }), true)]
    {
        let store = stored();
        let cookie = Browser::default().look(&engine(&store, config)).await.unwrap();
        assert_eq!((!cookie.is_empty(), store.len().await.unwrap() == 1), (is_stored, is_stored));
    }
}

#[tokio::test]
async fn a_request_that_fails_saves_unless_it_may_not() {
    for (config, saves) in [
        (json!({}), true),
        (json!({ "save_on_server_error": true }), true),
        (json!({ "save_on_server_error": false }), false),
    ] {
        let store = stored();
        let work = |session: &Session| session.insert("name", "plain");
        let failed = StatusCode::INTERNAL_SERVER_ERROR;
        Browser::default().visit(&engine(&store, config), failed, work).await.unwrap();
        assert_eq!(store.len().await.unwrap() == 1, saves);
    }
}

#[test]
fn a_store_that_cannot_compare_and_swap_is_refused_where_it_must() {
    for (config, refused) in [
        (json!({}), None),
        (json!({ "require_strict": false }), None),
        (json!({ "require_strict": true }), Some("require_strict")),
    ] {
        let builder = Engine::builder(Plain::new(Reference::new()));
        let built = read(config).unwrap().apply(builder).unwrap().build();
        assert_eq!(built.err().as_ref().and_then(Error::field), refused);
    }
}

/// Loads a known session, and returns what went wrong and how many milliseconds that took.
async fn load(browser: &Browser, engine: &Engine) -> (Option<ErrorKind>, u128) {
    let start = Instant::now();
    let error = browser.begin(engine).load().await.err().map(|error| error.kind());
    (error, start.elapsed().as_millis())
}

#[tokio::test(start_paused = true)]
async fn an_operation_has_as_long_as_is_configured() {
    for (config, expected) in [(json!({}), 2000), (json!({ "operation_timeout": "500ms" }), 500)] {
        let store = stored();
        let engine = engine(&store, config);
        let mut browser = Browser::default();
        browser.write(&engine).await.unwrap();
        store.stall();
        let (error, took) = load(&browser, &engine).await;
        assert_eq!(error, Some(ErrorKind::Timeout));
        assert!((expected..expected + 10).contains(&took), "{took} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_wait_in_an_outage_as_long_and_as_many_as_is_configured() {
    for (config, expected) in [
        (json!({}), [10_000; 3]),
        (json!({ "reconnect_timeout": "5s" }), [5000; 3]),
        (json!({ "reconnect_timeout": "0s" }), [0; 3]),
        (json!({ "reconnect_timeout": "5s", "max_waiters": 2 }), [5000, 5000, 0]),
    ] {
        let store = stored();
        let engine = engine(&store, config.clone());
        let mut browser = Browser::default();
        browser.write(&engine).await.unwrap();
        store.disconnect();
        let loads = (0..3).map(|_| load(&browser, &engine));
        for ((error, took), expected) in futures_util::future::join_all(loads).await.into_iter().zip(expected)
        {
            assert_eq!(error, Some(ErrorKind::Unavailable));
            assert!((expected..expected + 10).contains(&took), "{config}: {took} ms");
        }
    }
}

#[tokio::test]
async fn an_outage_is_an_error_or_an_empty_session_that_refuses_writes() {
    for (policy, kind) in [("fail", Some(ErrorKind::Unavailable)), ("anonymous", None)] {
        let store = stored();
        let engine = engine(&store, json!({ "on_outage": policy, "reconnect_timeout": "0s" }));
        let mut browser = Browser::default();
        browser.write(&engine).await.unwrap();
        store.disconnect();
        assert_eq!(load(&browser, &engine).await.0, kind);
        assert!(browser.write(&engine).await.is_err());
    }
}

#[tokio::test]
async fn a_record_has_at_most_as_many_bytes_as_is_configured() {
    for (config, fits) in [(json!({}), true), (json!({ "max_record": 2048 }), false)] {
        let store = stored();
        let large = "x".repeat(4096);
        let work = move |session: &Session| session.insert("large", large);
        let saved = Browser::default().visit(&engine(&store, config), StatusCode::OK, work).await;
        assert_eq!(saved.err().map(|error| error.kind()), (!fits).then_some(ErrorKind::TooLarge));
        assert_eq!(store.len().await.unwrap() == 1, fits);
    }
}
