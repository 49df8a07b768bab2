//! Ids that travel in headers, ids of one's own making, and cookie options of one session.
#![cfg(feature = "axum-core-0_5")]
#![allow(clippy::unwrap_used)]

mod support;

use axum::{Router, body::Body, routing::get};
use cloakroom_conformance::Reference;
use cloakroom_core::{
    AdminStore, BearerTransport, Error, ErrorKind, HeaderTransport, SameSite, Session, SessionLayer,
};
use http::{Request, header};
use support::{Browser, Reply, layer_with, send};

fn app() -> Router {
    Router::new()
        .route(
            "/count",
            get(|session: Session| async move {
                session.update_now("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.map(|n| n.to_string())
            }),
        )
        .route("/read", get(|session: Session| async move { Ok::<_, Error>(session.is_new().to_string()) }))
        .route("/logout", get(|session: Session| async move { session.destroy().await }))
        .route(
            "/script",
            get(|session: Session| async move {
                session.cookie(|cookie| {
                    cookie.http_only(false).same_site(SameSite::Strict).browser_session(true)
                })
            }),
        )
        .route(
            "/foreign",
            get(|session: Session| async move { session.cookie(|cookie| cookie.same_site(SameSite::None)) }),
        )
}

async fn request(app: &Router, path: &str, name: &str, value: &str) -> Reply {
    send(app, Request::builder().uri(path).header(name, value).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn an_id_can_travel_in_a_header_both_ways() {
    let store = Reference::new();
    let app = app()
        .layer(layer_with(store.clone(), |b| b.transport(HeaderTransport::new("x-session-id").unwrap())));
    let first = Browser::new().get(&app, "/count").await;
    let id = first.headers["x-session-id"].to_str().unwrap();
    assert_eq!(
        (first.set_cookies().len(), &first.headers[header::CACHE_CONTROL]),
        (0, &"no-store".parse().unwrap())
    );
    assert!(first.headers["x-session-id"].is_sensitive());
    let second = request(&app, "/count", "x-session-id", id).await;
    assert_eq!(second.body, "2");
    assert_eq!(second.headers.get("x-session-id"), None);
    assert_eq!(second.headers[header::VARY], "x-session-id");
    let logout = request(&app, "/logout", "x-session-id", id).await;
    assert_eq!(logout.headers["x-session-id"], "");
    assert_eq!(request(&app, "/read", "x-session-id", id).await.body, "true");
    assert_eq!(store.len().await.unwrap(), 0);
}

#[tokio::test]
async fn an_unknown_id_in_a_header_is_not_adopted() {
    let app = app()
        .layer(layer_with(Reference::new(), |b| b.transport(HeaderTransport::new("x-session-id").unwrap())));
    let invented = "A".repeat(43);
    let reply = request(&app, "/count", "x-session-id", &invented).await;
    assert_ne!(reply.headers["x-session-id"], invented);
    for malformed in ["", "A", "../../etc/passwd", &"A".repeat(44), &"A".repeat(100_000)] {
        assert_eq!(request(&app, "/read", "x-session-id", malformed).await.body, "true");
    }
}

#[tokio::test]
async fn a_bearer_token_is_read_whatever_the_case_of_its_scheme() {
    let app = app()
        .layer(layer_with(Reference::new(), |b| b.transport(BearerTransport::new("x-session-id").unwrap())));
    let first = Browser::new().get(&app, "/count").await;
    let id = first.headers["x-session-id"].to_str().unwrap();
    for scheme in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(request(&app, "/read", "authorization", &format!("{scheme} {id}")).await.body, "false");
    }
    for other in [format!("Basic {id}"), id.to_owned(), format!("Bearer{id}")] {
        assert_eq!(request(&app, "/read", "authorization", &other).await.body, "true");
    }
}

#[tokio::test]
async fn ids_of_ones_own_making_are_used_and_held_to_their_declaration() {
    let ids = || async { Ok(format!("{:032x}", rand_u128())) };
    let app = app().layer(layer_with(Reference::new(), |b| b.generate_id("0123456789abcdef", 32, ids)));
    let mut browser = Browser::new();
    let reply = browser.get(&app, "/count").await;
    assert_eq!(reply.ticket().len(), 32);
    assert_eq!(browser.get(&app, "/count").await.body, "2");
    let liar = || async { Ok("too short".to_owned()) };
    let app = app_of(layer_with(Reference::new(), |b| b.generate_id("0123456789abcdef", 32, liar)));
    let reply = Browser::new().get(&app, "/count").await;
    assert_eq!((reply.status.as_u16(), reply.set_cookies().len()), (500, 0));
}

fn app_of(layer: SessionLayer) -> Router {
    app().layer(layer)
}

/// Random enough for a test: the address space and the clock.
fn rand_u128() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    u128::from(RandomState::new().hash_one(1)) << 64 | u128::from(RandomState::new().hash_one(2))
}

#[tokio::test]
async fn a_session_can_have_cookie_options_of_its_own_that_stay_with_it() {
    let app = app().layer(layer_with(Reference::new(), |b| b.rolling(true)));
    let mut browser = Browser::new();
    browser.get(&app, "/count").await;
    let expected = "; Path=/; Secure; SameSite=Strict";
    for path in ["/script", "/read"] {
        let reply = browser.get(&app, path).await;
        assert!(
            reply.set_cookie().ends_with(expected) && !reply.set_cookie().contains("Max-Age"),
            "{reply:?}"
        );
    }
}

#[tokio::test]
async fn cookie_options_that_a_browser_would_refuse_are_refused() {
    let app = app().layer(layer_with(Reference::new(), |b| b.insecure()));
    let reply = Browser::new().get(&app, "/foreign").await;
    assert_eq!(reply.status.as_u16(), 500);
    let handler = |session: Session| async move {
        let error = session.cookie(|cookie| cookie.same_site(SameSite::None)).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("cookie.same_site")));
        Ok::<_, Error>(())
    };
    let app = Router::new().route("/", get(handler)).layer(layer_with(Reference::new(), |b| b.insecure()));
    assert_eq!(Browser::new().get(&app, "/").await.status.as_u16(), 200);
}
