//! Bugs of the ancestor, koa-generic-session 2.3.1, that no other test shows to be absent; `docs/seed.md` has the list.
#![cfg(feature = "axum-core-0_5")]
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use axum::{Router, response::IntoResponse, routing::get};
use cloakroom_conformance::Reference;
use cloakroom_core::{
    AdminStore, CookieConfig, Data, Error, ErrorKind, Expiry, Keyring, LazySession, Session, Store,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use support::{Browser, layer, layer_with, spy::Spy};

const HOUR: Duration = Duration::from_secs(3600);

/// Writes `a`, and tells what is there.
fn app() -> Router {
    Router::new()
        .route("/write", get(async |session: Session| session.insert("a", 1)))
        .route("/read", get(read))
        .route("/logout", get(async |session: Session| session.destroy().await))
}

async fn read(session: Session) -> Result<String, Error> {
    Ok(format!("{} {}", session.keys().join(","), session.get::<String>("word")?.unwrap_or_default()))
}

/// K-4: the seed's session then had no cookie options, so its cookie was not signed and its row had no ttl.
#[tokio::test]
async fn replacing_all_of_a_session_keeps_its_id_its_signature_and_its_end() {
    #[derive(Default, Serialize, Deserialize)]
    struct Visit {
        word: String,
    }
    let spy = Spy::new();
    let app = app()
        .route(
            "/replace",
            get(async |session: Session| {
                session.clear()?;
                session.insert("word", "new")
            }),
        )
        .route(
            "/assign",
            get(async |visit: Data<Visit>| {
                *visit.write()? = Visit { word: "assigned".into() };
                Ok::<_, Error>(())
            }),
        )
        .layer(layer_with(spy.clone(), |b| {
            b.keys(Keyring::new([[7; 32]])).expiry(Expiry::idle(HOUR)).rolling(true)
        }));
    let mut browser = Browser::new();
    browser.get(&app, "/write").await;
    let ticket = browser.ticket().unwrap().to_owned();
    for (path, seen) in [("/replace", "word new"), ("/assign", "word assigned")] {
        spy.take_all();
        let reply = browser.get(&app, path).await;
        assert_eq!(reply.ticket(), ticket, "the same id under the same signature");
        let write = spy.take_all().into_iter().find(|call| call.op == "replace").unwrap();
        assert_eq!(write.ttl.unwrap().duration(), HOUR);
        assert_eq!(browser.get(&app, "/read").await.body, seen);
    }
    // Without a cookie it is a new session under an id of its own, never under a key that all share.
    let mut others = [Browser::new(), Browser::new()];
    for other in &mut others {
        other.get(&app, "/replace").await;
    }
    assert_ne!(others[0].key(), others[1].key());
}

/// K-5: the seed's id changed in the middle of the request.
#[tokio::test]
async fn saving_a_new_session_early_keeps_its_id_and_stores_it_once() {
    let handler = async |session: Session| {
        let promised = session.ensure_id().await?;
        session.insert("a", 1)?;
        session.save().await?;
        assert_eq!(session.id().as_ref(), Some(&promised));
        Ok::<_, Error>(promised.expose().to_owned())
    };
    let spy = Spy::new();
    let app = app().route("/save", get(handler)).layer(layer(spy.clone()));
    let mut browser = Browser::new();
    let reply = browser.get(&app, "/save").await;
    assert_eq!(reply.ticket(), reply.body);
    assert_eq!(spy.take_calls(), ["create"], "and the end of the request does not save again");
}

/// K-6: the seed's removal had neither the path nor the domain of the cookie it was to remove.
#[tokio::test]
async fn a_logout_removes_the_cookie_where_it_was_set() {
    let cookie = CookieConfig::new().name("__Secure-sid").path("/shop").domain("example.com");
    let routes = Router::new().nest("/shop", app());
    let app = routes.layer(layer_with(Reference::new(), |b| b.cookie(cookie)));
    let mut browser = Browser::new();
    let set = browser.get(&app, "/shop/write").await;
    let removed = browser.get(&app, "/shop/logout").await;
    for reply in [&set, &removed] {
        assert!(reply.set_cookie().contains("; Path=/shop; Domain=example.com; Secure;"), "{reply:?}");
    }
    assert!(browser.jar.is_empty());
}

/// K-9 and K-10: the seed had a cookie for a day over a row for a minute, and rows that never ended.
#[tokio::test]
async fn every_record_ends_and_its_cookie_ends_with_it() {
    let spy = Spy::new();
    let app = app()
        .route("/short", get(async |session: Session| session.set_ttl(Duration::from_secs(60))))
        .route("/long", get(async |session: Session| session.set_ttl(Duration::MAX)))
        .layer(layer_with(spy.clone(), |b| b.expiry(Expiry::idle(HOUR))));
    let mut browser = Browser::new();
    for (path, seconds) in [("/write", 3600), ("/short", 60), ("/long", 400 * 24 * 3600)] {
        let reply = browser.get(&app, path).await;
        let write = spy.take_all().into_iter().rfind(|call| call.value.is_some()).unwrap();
        assert_eq!(write.ttl.unwrap().duration(), Duration::from_secs(seconds));
        assert!(reply.set_cookie().contains(&format!("; Max-Age={seconds};")), "{reply:?}");
    }
}

/// K-10: the seed's cookie for the time of the browser had a row for ever.
#[tokio::test]
async fn a_cookie_that_ends_with_the_browser_has_a_record_that_ends() {
    let spy = Spy::new();
    let app = app().layer(layer_with(spy.clone(), |b| {
        b.cookie(CookieConfig::new().browser_session()).expiry(Expiry::idle(HOUR))
    }));
    let reply = Browser::new().get(&app, "/write").await;
    assert!(!reply.set_cookie().contains("Max-Age"));
    assert_eq!(spy.take_all()[0].ttl.unwrap().duration(), HOUR);
}

/// K-11: the seed took equal data for unchanged, and logged the user out.
#[tokio::test]
async fn a_regenerated_session_lives_whether_its_data_is_the_old_or_none() {
    let app = app()
        .route(
            "/same",
            get(async |session: Session| {
                session.regenerate().await?;
                session.insert("a", 1)
            }),
        )
        .route("/empty", get(async |session: Session| session.regenerate().await.map(|_| ())))
        .route("/new", get(async |session: Session| session.is_new().to_string()))
        .layer(layer(Reference::new()));
    for (path, seen) in [("/same", "a "), ("/empty", " ")] {
        let mut browser = Browser::new();
        browser.get(&app, "/write").await;
        let old = browser.clone();
        browser.get(&app, path).await;
        assert_ne!(browser.ticket(), old.ticket());
        assert_eq!(browser.get(&app, "/read").await.body, seen);
        assert_eq!(browser.get(&app, "/new").await.body, "false");
        assert_eq!(old.peek(&app, "/read").await.body, " ", "the old id is worth nothing");
    }
}

/// K-14: the seed handed an error of a logout to nobody who could answer for it.
#[tokio::test]
async fn an_error_of_a_logout_is_the_handlers_to_answer() {
    let spy = Spy::new();
    let handler = async |session: Session| match session.destroy().await {
        Ok(()) => "bye".into_response(),
        Err(error) => (StatusCode::IM_A_TEAPOT, error.kind().to_string()).into_response(),
    };
    let app = app().route("/out", get(handler)).layer(layer(spy.clone()));
    let mut browser = Browser::new();
    browser.get(&app, "/write").await;
    spy.on("remove", 1, support::spy::Act::Fail(ErrorKind::Rejected));
    let failed = browser.get(&app, "/out").await;
    assert_eq!((failed.status, failed.body.as_str()), (StatusCode::IM_A_TEAPOT, "rejected"));
    assert_eq!(browser.get(&app, "/read").await.body, "a ", "nobody is half logged out");
    assert_eq!(browser.get(&app, "/out").await.body, "bye");
}

/// K-16: the seed compared CRC-32 sums, and these two words have the same.
#[tokio::test]
async fn two_values_with_the_same_checksum_are_two_values() {
    let app = app()
        .route("/first", get(async |session: Session| session.insert("word", "plumless")))
        .route("/second", get(async |session: Session| session.insert("word", "buckeroo")))
        .layer(layer(Reference::new()));
    let mut browser = Browser::new();
    browser.get(&app, "/first").await;
    browser.get(&app, "/second").await;
    assert_eq!(browser.get(&app, "/read").await.body, "word buckeroo");
}

/// K-17: the seed's deferred sessions lost what a failing handler had written.
#[tokio::test]
async fn a_session_that_was_loaded_late_is_saved_also_if_the_handler_fails() {
    let handler = async |lazy: LazySession| {
        lazy.load().await?.insert("a", 1)?;
        Ok::<_, Error>(StatusCode::INTERNAL_SERVER_ERROR)
    };
    let store = Reference::new();
    let app = app().route("/fail", get(handler)).layer(layer(store.clone()));
    let mut browser = Browser::new();
    assert_eq!(browser.get(&app, "/fail").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(browser.get(&app, "/read").await.body, "a ");
    assert_eq!(store.len().await.unwrap(), 1);
}

/// K-18: the seed kept its process alive for as long as an outage's timer ran.
#[tokio::test(start_paused = true)]
async fn shutting_down_during_an_outage_waits_for_nothing() {
    let store = cloakroom_conformance::Switch::new(Reference::new());
    let layer = layer(store.clone());
    let engine = layer.engine().clone();
    let app = app().layer(layer);
    store.disconnect();
    let waiting = tokio::spawn(async move { Browser::new().get(&app, "/read").await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = tokio::time::Instant::now();
    engine.shutdown(HOUR).await.unwrap();
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(store.get(&support::key_of(&"A".repeat(43))).await.is_err(), "the outage goes on");
}
