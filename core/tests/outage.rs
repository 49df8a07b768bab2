//! A store that goes away and comes back: who waits, who fails, and what nobody notices. The clock is paused.
#![cfg(feature = "axum-core-0_5")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use axum::{Router, routing::get};
use cloakroom_conformance::{Operation, Reference, Switch};
use cloakroom_core::{Builder, Error, ErrorKind, Fallback, OnOutage, Session, SessionLayer};
use http::{StatusCode, header};
use support::{Browser, Reply, layer_with};
use tokio::time::Instant;

type Store = Switch<Reference>;

fn app(store: &Store, configure: impl FnOnce(Builder<SessionLayer>) -> Builder<SessionLayer>) -> Router {
    routes().layer(layer_with(store.clone(), configure))
}

fn routes() -> Router {
    Router::new()
        .route(
            "/count",
            get(|session: Session| async move {
                session.update_now("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.map(|n| n.to_string())
            }),
        )
        .route(
            "/n",
            get(|session: Session| async move {
                Ok::<_, Error>(session.get::<u64>("n")?.map_or_else(|| "none".into(), |n| n.to_string()))
            }),
        )
        .route("/write", get(|session: Session| async move { session.insert("a", 1) }))
        .route("/static", get(|| async { "static" }))
}

/// Requests `path` and tells how long that took by the paused clock.
async fn timed(browser: &mut Browser, app: &Router, path: &str) -> (Reply, Duration) {
    let start = Instant::now();
    let reply = browser.get(app, path).await;
    (reply, start.elapsed())
}

async fn known(app: &Router) -> Browser {
    let mut browser = Browser::new();
    browser.get(app, "/count").await;
    browser
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_the_window_is_503_with_retry_after_and_no_cookie() {
    let store = Store::new(Reference::new());
    let app = app(&store, |b| b);
    let mut browser = known(&app).await;
    store.disconnect();
    let (reply, took) = timed(&mut browser, &app, "/count").await;
    assert_eq!((reply.status, took), (StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(10)));
    assert_eq!((&reply.headers[header::RETRY_AFTER], reply.set_cookies().len()), (&"1".parse().unwrap(), 0));
    let (reply, took) = timed(&mut browser, &app, "/count").await;
    assert_eq!((reply.status, took), (StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO), "the window is over");
    store.connect();
    assert_eq!(browser.get(&app, "/count").await.body, "2", "the first request after the return succeeds");
}

/// In the seed `0` is the default of ten seconds.
#[tokio::test(start_paused = true)]
async fn with_a_window_of_zero_nobody_waits() {
    let store = Store::new(Reference::new());
    let app = app(&store, |b| b.reconnect_timeout(Duration::ZERO));
    let mut browser = known(&app).await;
    store.disconnect();
    let (reply, took) = timed(&mut browser, &app, "/count").await;
    assert_eq!((reply.status, took), (StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO));
    store.connect();
    assert_eq!(browser.get(&app, "/count").await.body, "2");
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_store_to_come_back() {
    let store = Store::new(Reference::new());
    let app = app(&store, |b| b.reconnect_timeout(Duration::from_secs(5)));
    let mut browser = known(&app).await;
    store.disconnect();
    let back = store.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        back.connect();
    });
    let (reply, took) = timed(&mut browser, &app, "/count").await;
    assert_eq!((reply.body.as_str(), took.as_secs()), ("2", 3));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_connected_is_an_outage() {
    let store = Store::connecting(Reference::new());
    let app = app(&store, |b| b);
    let (reply, took) = timed(&mut Browser::new(), &app, "/n").await;
    assert_eq!((reply.status, took), (StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(10)));
}

#[tokio::test(start_paused = true)]
async fn a_flap_does_not_shorten_the_next_outage() {
    let store = Store::new(Reference::new());
    let app = app(&store, |b| b);
    let mut browser = known(&app).await;
    store.disconnect();
    tokio::time::advance(Duration::from_secs(9)).await;
    store.connect();
    assert_eq!(browser.get(&app, "/n").await.body, "1");
    store.disconnect();
    let (reply, took) = timed(&mut browser, &app, "/n").await;
    assert_eq!((reply.status, took), (StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(10)));
}

#[tokio::test(start_paused = true)]
async fn routes_without_a_session_never_notice() {
    let store = Store::new(Reference::new());
    let app = app(&store, |b| b);
    let mut browser = known(&app).await;
    store.disconnect();
    let (reply, took) = timed(&mut browser, &app, "/static").await;
    assert_eq!((reply.body.as_str(), took), ("static", Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn an_eager_layer_makes_every_route_depend_on_the_store() {
    let store = Store::new(Reference::new());
    let app = routes().layer(layer_with(store.clone(), |b| b).eager());
    let mut browser = known(&app).await;
    assert_eq!(browser.get(&app, "/static").await.headers[header::VARY], "Cookie");
    store.disconnect();
    let (reply, took) = timed(&mut browser, &app, "/static").await;
    assert_eq!((reply.status, took), (StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(10)));
    store.connect();
    assert_eq!(browser.get(&app, "/count").await.body, "2");
}

#[tokio::test(start_paused = true)]
async fn waiters_past_the_bound_fail_at_once() {
    let store = Store::new(Reference::new());
    let app = app(&store, |b| b.max_waiters(2));
    let browser = known(&app).await;
    store.disconnect();
    let start = Instant::now();
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let (app, mut browser) = (app.clone(), browser.clone());
            tokio::spawn(async move { (browser.get(&app, "/n").await.status, start.elapsed().as_secs()) })
        })
        .collect();
    let mut took = Vec::new();
    for one in waiting {
        let (status, seconds) = one.await.unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        took.push(seconds);
    }
    took.sort_unstable();
    assert_eq!(took, [0, 0, 0, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn anonymous_goes_on_with_an_empty_session_that_refuses_writes() {
    let store = Store::new(Reference::new());
    let app = app(&store, |b| b.on_outage(OnOutage::Anonymous).reconnect_timeout(Duration::ZERO));
    let mut browser = known(&app).await;
    store.disconnect();
    let read = browser.get(&app, "/n").await;
    assert_eq!((read.status, read.body.as_str(), read.set_cookies().len()), (StatusCode::OK, "none", 0));
    for path in ["/write", "/count"] {
        let write = browser.get(&app, path).await;
        assert_eq!((write.status, write.set_cookies().len()), (StatusCode::SERVICE_UNAVAILABLE, 0));
        assert_eq!(write.headers[header::RETRY_AFTER], "1");
    }
    store.connect();
    assert_eq!(browser.get(&app, "/count").await.body, "2", "nothing was overwritten, nobody logged out");
}

#[tokio::test(start_paused = true)]
async fn a_function_can_decide() {
    let store = Store::new(Reference::new());
    let decide = |error: &Error| {
        if error.kind() == ErrorKind::Timeout { Fallback::Anonymous } else { Fallback::Fail }
    };
    let app = app(&store, |b| b.on_outage(OnOutage::decide(decide)));
    let mut browser = known(&app).await;
    store.fail(Operation::Get, ErrorKind::Timeout);
    assert_eq!(browser.get(&app, "/n").await.body, "none");
    store.heal();
    store.fail(Operation::Get, ErrorKind::Unavailable);
    assert_eq!(browser.get(&app, "/n").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_store_costs_a_request_the_operation_deadline() {
    let store = Store::new(Reference::new());
    let app = app(&store, |b| b.operation_timeout(Duration::from_millis(700)));
    let mut browser = known(&app).await;
    store.stall();
    let (reply, took) = timed(&mut browser, &app, "/n").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!((700..=702).contains(&took.as_millis()), "{took:?}");
    store.resume();
    assert_eq!(browser.get(&app, "/count").await.body, "2");
}

#[tokio::test(start_paused = true)]
async fn a_save_waits_for_the_store_as_a_load_does() {
    let store = Store::new(Reference::new());
    let during = store.clone();
    let handler = move |session: Session| {
        let store = during.clone();
        async move {
            session.insert("a", 1)?;
            store.disconnect();
            let back = store.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(2)).await;
                back.connect();
            });
            Ok::<_, Error>(())
        }
    };
    let app = routes().route("/cut", get(handler)).layer(layer_with(store.clone(), |b| b));
    let mut browser = known(&app).await;
    let (reply, took) = timed(&mut browser, &app, "/cut").await;
    assert_eq!((reply.status, took.as_secs()), (StatusCode::OK, 2));
}

#[tokio::test(start_paused = true)]
async fn a_logout_of_a_session_that_was_not_loaded_is_an_error_and_never_a_success() {
    let store = Store::new(Reference::new());
    let logout = get(|session: Session| async move { session.destroy().await });
    let configure =
        |b: Builder<SessionLayer>| b.on_outage(OnOutage::Anonymous).reconnect_timeout(Duration::ZERO);
    let app = routes().route("/logout", logout).layer(layer_with(store.clone(), configure));
    let mut browser = known(&app).await;
    store.disconnect();
    let reply = browser.get(&app, "/logout").await;
    assert_eq!((reply.status, reply.set_cookies().len()), (StatusCode::SERVICE_UNAVAILABLE, 0));
    store.connect();
    assert_eq!(browser.get(&app, "/count").await.body, "2", "and indeed it lives on");
}
