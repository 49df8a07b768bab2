//! Sessions bound to users: "log out everywhere", and what a new id does to the index.
#![cfg(feature = "axum-core-0_5")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use axum::{Router, routing::get};
use cloakroom_conformance::{Plain, Reference};
use cloakroom_core::{
    AtomicStore, Bytes, Engine, Error, ErrorKind, Expiry, IndexedStore, Key, Result, Session, StatusStream,
    Store, Ttl, async_trait,
};
use http::StatusCode;
use parking_lot::Mutex;
use support::{
    Browser, Clock, layer, layer_with,
    spy::{Act, Meanwhile, Spy, meanwhile},
    visitor::Visitor,
};

fn app() -> Router {
    Router::new()
        .route(
            "/login",
            get(|session: Session| async move {
                session.cycle_id().await?;
                session.bind_user("alice")
            }),
        )
        .route("/cycle", get(|session: Session| async move { session.cycle_id().await.map(|_| ()) }))
        .route(
            "/others",
            get(|session: Session| async move { session.destroy_others().await.map(|n| n.to_string()) }),
        )
        .route("/who", get(|session: Session| async move { session.user().unwrap_or_default() }))
        .route("/write", get(|session: Session| async move { session.insert("a", 1) }))
}

#[tokio::test]
async fn all_other_sessions_of_a_user_can_be_ended_from_one() {
    let app = app().layer(layer(Reference::new()));
    let mut browsers = [Browser::new(), Browser::new(), Browser::new()];
    for browser in &mut browsers {
        browser.get(&app, "/login").await;
    }
    let [here, others @ ..] = &mut browsers;
    assert_eq!(here.get(&app, "/others").await.body, "2");
    assert_eq!(here.get(&app, "/who").await.body, "alice");
    for other in others {
        assert_eq!(other.get(&app, "/who").await.body, "");
    }
}

#[tokio::test]
async fn a_binding_follows_the_session_to_its_new_id_and_leaves_the_tombstone_alone() {
    let store = Reference::new();
    let app = app().layer(layer(store.clone()));
    let mut browser = Browser::new();
    browser.get(&app, "/login").await;
    let old = browser.clone();
    browser.get(&app, "/cycle").await;
    assert_eq!(store.keys_of("alice").await.unwrap(), [browser.key()]);
    assert_eq!(browser.get(&app, "/others").await.body, "0", "a session that has moved is no other session");
    let late = old.peek(&app, "/write").await;
    assert_eq!(
        (late.status, late.set_cookies().len()),
        (StatusCode::CONFLICT, 0),
        "the tombstone still guards"
    );
}

#[tokio::test(start_paused = true)]
async fn a_binding_is_renewed_with_its_session() {
    let clock = Clock::new();
    let store = Reference::new();
    let expiry = Expiry::idle(Duration::from_millis(200));
    let app = app().layer(layer_with(store.clone(), |b| b.expiry(expiry).clock(clock.reader())));
    let mut browser = Browser::new();
    browser.get(&app, "/login").await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(90)).await;
        clock.advance(Duration::from_millis(150));
        assert_eq!(browser.get(&app, "/who").await.body, "alice");
        assert_eq!(store.keys_of("alice").await.unwrap(), [browser.key()]);
    }
}

#[tokio::test]
async fn without_an_index_or_a_user_the_error_says_so() {
    let plain = app().layer(layer(Plain::new(Reference::new())));
    let reply = Browser::new().get(&plain, "/login").await;
    assert_eq!((reply.status, reply.set_cookies().len()), (StatusCode::INTERNAL_SERVER_ERROR, 0));
    let handler = |session: Session| async move {
        let error = session.destroy_others().await.unwrap_err();
        assert!(error.to_string().contains("bind_user"), "{error}");
        let error = session.bind_user(&"x".repeat(256)).unwrap_err();
        assert!(error.to_string().contains("255"), "{error}");
        Ok::<_, Error>(())
    };
    let app = Router::new().route("/", get(handler)).layer(layer(Reference::new()));
    assert_eq!(Browser::new().get(&app, "/").await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_binding_lives_as_long_as_a_hook_lets_its_session_live() {
    let store = Reference::new();
    let app =
        app().route("/remember", get(|session: Session| async move { session.insert("remember", true) }));
    let app = app.layer(layer_with(store.clone(), |b| {
        b.expiry(Expiry::idle(Duration::from_millis(60)))
            .idle_by(|session| session.contains("remember").then(|| Duration::from_secs(3600)))
    }));
    let mut browser = Browser::new();
    browser.get(&app, "/login").await;
    assert!(browser.get(&app, "/remember").await.set_cookie().contains("Max-Age=3600"));
    tokio::time::sleep(Duration::from_millis(90)).await;
    assert_eq!(store.keys_of("alice").await.unwrap(), [browser.key()], "log out everywhere still finds it");
}

#[tokio::test(start_paused = true)]
async fn a_login_that_was_stored_though_the_store_did_not_say_so_is_in_the_index_before_its_cookie_is_sent() {
    let spy = Spy::new();
    let engine = Engine::builder(spy.clone()).build().unwrap();
    let mut visitor = Visitor::default();
    let answer = visitor
        .visit(&engine, async |session| {
            session.bind_user("alice")?;
            // Applied, but neither the reply nor the read that would settle it comes back.
            spy.on("create", 1, Act::LoseReply(ErrorKind::Timeout));
            spy.on("get", 1, Act::Fail(ErrorKind::Unavailable));
            assert!(session.save().await.is_err());
            Ok(())
        })
        .await;
    answer.outcome.unwrap();
    assert!(visitor.ticket.is_some(), "it turned out to be stored");
    assert_eq!(spy.store().keys_of("alice").await.unwrap().len(), 1);
}

/// Ends the sessions of a user one by one, and lets somebody in after it has read which there are.
#[derive(Clone, Default)]
struct OneByOne {
    inner: Reference,
    between: std::sync::Arc<Mutex<Option<Meanwhile>>>,
}

impl std::fmt::Debug for OneByOne {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OneByOne")
    }
}

#[async_trait]
impl Store for OneByOne {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.inner.get(key).await
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.inner.set(key, value, ttl).await
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.inner.destroy(key).await
    }

    fn status(&self) -> StatusStream {
        self.inner.status()
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        self.inner.as_atomic()
    }

    fn as_indexed(&self) -> Option<&dyn IndexedStore> {
        Some(self)
    }
}

#[async_trait]
impl IndexedStore for OneByOne {
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        self.inner.bind(key, user, ttl).await
    }

    async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
        self.inner.keys_of(user).await
    }

    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        let keys = self.inner.keys_of(user).await?;
        let between = self.between.lock().take();
        if let Some(between) = between {
            between().await;
        }
        let mut ended = 0;
        for key in keys.iter().filter(|key| except != Some(*key)) {
            ended += u64::from(self.inner.destroy(key).await?);
        }
        Ok(ended)
    }
}

#[tokio::test]
async fn ending_all_sessions_of_a_user_ends_one_that_moves_to_a_new_id_just_then() {
    let store = OneByOne::default();
    let engine = Engine::builder(store.clone()).build().unwrap();
    let mut visitor = Visitor::default();
    let login = visitor.visit(&engine, async |session| session.bind_user("alice")).await;
    login.outcome.unwrap();
    let mover = std::sync::Arc::new(tokio::sync::Mutex::new(visitor));
    let (moving, moving_engine) = (mover.clone(), engine.clone());
    *store.between.lock() = Some(meanwhile(move || {
        let (mover, engine) = (moving.clone(), moving_engine.clone());
        async move {
            let moved = mover.lock().await.visit(&engine, async |session| session.cycle_id().await).await;
            moved.outcome.unwrap();
        }
    }));
    engine.destroy_user("alice").await.unwrap();
    let who = mover.lock().await.visit(&engine, async |session| Ok(session.user())).await;
    assert_eq!(who.outcome.unwrap(), None);
    assert_eq!(store.keys_of("alice").await.unwrap(), []);
}
