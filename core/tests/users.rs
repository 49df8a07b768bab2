//! Sessions bound to users: "log out everywhere", and what a new id does to the index.
#![cfg(feature = "axum-core-0_5")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use axum::{Router, routing::get};
use cloakroom_conformance::{Plain, Reference};
use cloakroom_core::{Error, Expiry, IndexedStore, Session};
use http::StatusCode;
use support::{Browser, Clock, layer, layer_with};

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
