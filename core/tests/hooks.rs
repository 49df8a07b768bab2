//! The application's hooks: `validate`, `before_save`, `recover`, `idle_by`.
#![cfg(feature = "axum-core-0_5")]
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use cloakroom_conformance::{Reference, Switch};
use cloakroom_core::{AdminStore, AtomicStore, Error, ErrorKind, Save, Session, Store, Ttl};
use http::{StatusCode, header};
use support::{Browser, layer_with};

fn app() -> Router {
    Router::new()
        .route(
            "/count",
            get(|session: Session| async move {
                session.update_now("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.map(|n| n.to_string())
            }),
        )
        .route("/write", get(|session: Session| async move { session.insert("written", true) }))
        .route("/n", get(|session: Session| async move { Ok::<_, Error>(number(&session, "n")) }))
        .route("/path", get(|session: Session| async move { text(&session, "path") }))
}

fn number(session: &Session, key: &str) -> String {
    session.get::<u64>(key).unwrap().map_or_else(String::new, |n| n.to_string())
}

fn text(session: &Session, key: &str) -> String {
    session.get::<String>(key).unwrap().unwrap_or_default()
}

#[tokio::test]
async fn a_session_that_validate_refuses_is_nobodys_and_its_record_stays() {
    let store = Reference::new();
    let app = app().layer(layer_with(store.clone(), |b| {
        b.validate(|head, session| async move {
            tokio::task::yield_now().await;
            Ok(head.uri.query() != Some("invalid") && session.get::<u64>("n")?.is_some())
        })
    }));
    let mut browser = Browser::new();
    browser.get(&app, "/count").await;
    let refused = browser.peek(&app, "/n?invalid").await;
    assert_eq!((refused.body.as_str(), refused.set_cookies().len()), ("", 0));
    let other = browser.peek(&app, "/count?invalid").await;
    assert_eq!(other.body, "1");
    assert_ne!(Some(other.ticket()), browser.ticket(), "the id is not adopted");
    assert_eq!(browser.get(&app, "/count").await.body, "2");
    assert_eq!(store.len().await.unwrap(), 2);
}

#[tokio::test]
async fn a_new_session_is_not_asked_about() {
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let app = app().layer(layer_with(Reference::new(), move |b| {
        b.validate(move |_, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Ok(true) }
        })
    }));
    let mut browser = Browser::with(&"A".repeat(43));
    for (path, times) in [("/n", 0), ("/count", 0), ("/n", 1), ("/count", 2)] {
        browser.get(&app, path).await;
        assert_eq!(asked.load(Ordering::SeqCst), times, "{path}");
    }
}

#[tokio::test]
async fn an_error_of_validate_is_a_failed_load() {
    let store = Reference::new();
    let app = app().layer(layer_with(store.clone(), |b| {
        b.validate(|head, _| async move {
            match head.uri.query() {
                Some("fail") => Err(ErrorKind::Unavailable.into()),
                _ => Ok(true),
            }
        })
    }));
    let mut browser = Browser::new();
    browser.get(&app, "/count").await;
    let failed = browser.peek(&app, "/count?fail").await;
    assert_eq!((failed.status, failed.set_cookies().len()), (StatusCode::SERVICE_UNAVAILABLE, 0));
    assert_eq!(browser.get(&app, "/count").await.body, "2");
}

#[tokio::test]
async fn before_save_changes_what_is_written_and_a_read_runs_it_not() {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let app = app().layer(layer_with(Reference::new(), move |b| {
        b.before_save(move |head, session| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::task::yield_now().await;
                session.insert("path", head.uri.path())
            }
        })
    }));
    let mut browser = Browser::new();
    browser.get(&app, "/write").await;
    assert_eq!(browser.get(&app, "/path").await.body, "/write");
    browser.get(&app, "/count").await;
    assert_eq!(browser.get(&app, "/path").await.body, "/count");
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn before_save_runs_on_a_save_that_is_forced() {
    let force = get(|session: Session| async move { session.set_save(Save::Always) });
    let app = app().route("/force", force).layer(layer_with(Reference::new(), |b| {
        b.before_save(|head, session| async move { session.insert("path", head.uri.path()) })
    }));
    // Of a new session without anything in it, and of one that has not changed.
    let mut browser = Browser::new();
    browser.get(&app, "/force").await;
    assert_eq!(browser.get(&app, "/path").await.body, "/force");
    browser.get(&app, "/count").await;
    browser.get(&app, "/force").await;
    assert_eq!(browser.get(&app, "/path").await.body, "/force");
}

#[tokio::test]
async fn before_save_runs_on_the_result_of_each_replay() {
    let store = Reference::new();
    let rival = store.clone();
    let app = app().layer(layer_with(store.clone(), move |b| {
        b.before_save(move |_, session| {
            let rival = rival.clone();
            async move {
                let n = session.get::<u64>("n")?.unwrap_or(0);
                session.insert("double", n * 2)?;
                // The first time round somebody else writes in between.
                if n == 2 {
                    let key = session.id().unwrap().key();
                    let old = rival.get(&key).await?.unwrap();
                    let new = String::from_utf8(old.to_vec()).unwrap().replace("\"n\":1", "\"n\":40");
                    rival.replace(&key, &old, new.into(), Ttl::from_secs(60)).await?;
                }
                Ok(())
            }
        })
    }));
    let app = app.route("/double", get(|session: Session| async move { number(&session, "double") }));
    let app_layer = layer_with(store.clone(), |b| b);
    let reader = Router::new()
        .route("/double", get(|session: Session| async move { number(&session, "double") }))
        .layer(app_layer);
    let mut browser = Browser::new();
    browser.get(&app, "/count").await;
    assert_eq!(browser.get(&app, "/count").await.body, "41");
    assert_eq!(browser.get(&reader, "/double").await.body, "82");
}

#[tokio::test]
async fn before_save_can_neither_commit_nor_end_nor_move_the_session() {
    let app = app().layer(layer_with(Reference::new(), |b| {
        b.before_save(|_, session| async move {
            for outcome in [session.save().await, session.destroy().await, session.reload().await] {
                assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unsupported);
            }
            for outcome in [session.cycle_id().await, session.regenerate().await] {
                assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unsupported);
            }
            Ok(())
        })
    }));
    assert_eq!(Browser::new().get(&app, "/count").await.body, "1");
}

#[tokio::test]
async fn an_error_of_before_save_is_a_failed_save() {
    let store = Reference::new();
    let app = app().layer(layer_with(store.clone(), |b| {
        b.before_save(|_, _| async { Err(Error::new(ErrorKind::Value).hint("not like this")) })
    }));
    let reply = Browser::new().get(&app, "/write").await;
    assert_eq!((reply.status, reply.set_cookies().len()), (StatusCode::INTERNAL_SERVER_ERROR, 0));
    assert_eq!(store.len().await.unwrap(), 0);
}

#[tokio::test]
async fn recover_lets_a_request_go_on_without_its_session_and_logs_nobody_out() {
    let store = Switch::new(Reference::new());
    let app = app().layer(layer_with(store.clone(), |b| {
        b.recover(
            |error, _| async move { if error.kind() == ErrorKind::Backend { Ok(()) } else { Err(error) } },
        )
    }));
    let mut browser = Browser::new();
    browser.get(&app, "/count").await;
    store.fail_nth(1, ErrorKind::Backend);
    let read = browser.get(&app, "/n").await;
    assert_eq!((read.status, read.body.as_str(), read.set_cookies().len()), (StatusCode::OK, "", 0));
    store.fail_nth(1, ErrorKind::Backend);
    let write = browser.get(&app, "/count").await;
    assert_eq!((write.status, write.set_cookies().len()), (StatusCode::CONFLICT, 0), "writes are refused");
    store.fail_nth(1, ErrorKind::Rejected);
    assert_eq!(browser.get(&app, "/n").await.status, StatusCode::INTERNAL_SERVER_ERROR, "what it hands on");
    assert_eq!(browser.get(&app, "/count").await.body, "2");
}

/// What a handler asks for itself is the handler's to answer; `recover` is for what nobody called.
#[tokio::test]
async fn recover_hears_of_loads_and_of_the_save_at_the_end_and_of_nothing_else() {
    let (heard, ids) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (counted, broken) = (Arc::clone(&heard), Arc::clone(&ids));
    let store = Switch::new(Reference::new());
    let teapot = |outcome: Result<(), Error>| match outcome {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::IM_A_TEAPOT,
    };
    let routes = app()
        .route("/destroy", get(move |s: Session| async move { teapot(s.destroy().await) }))
        .route("/cycle", get(move |s: Session| async move { teapot(s.cycle_id().await.map(drop)) }));
    let app = routes.layer(layer_with(store.clone(), move |b| {
        let b =
            b.generate_id("0123456789abcdef", 32, move || {
                let n = broken.load(Ordering::SeqCst);
                async move {
                    if n == 0 { Ok("0123456789abcdef".repeat(2)) } else { Err(ErrorKind::Backend.into()) }
                }
            });
        b.recover(move |error, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { Err(error) }
        })
    }));
    let mut browser = Browser::new();
    browser.get(&app, "/count").await;
    store.fail_nth(2, ErrorKind::Rejected);
    assert_eq!(browser.get(&app, "/destroy").await.status, StatusCode::IM_A_TEAPOT);
    ids.store(1, Ordering::SeqCst);
    assert_eq!(browser.get(&app, "/cycle").await.status, StatusCode::IM_A_TEAPOT);
    assert_eq!(heard.load(Ordering::SeqCst), 0);
    // An id that cannot be made when the session is saved is a save that fails. Who only reads needs none.
    let reply = Browser::new().get(&app, "/write").await;
    assert_eq!((reply.status, reply.set_cookies().len()), (StatusCode::INTERNAL_SERVER_ERROR, 0));
    assert_eq!(heard.load(Ordering::SeqCst), 1);
    assert_eq!(Browser::new().get(&app, "/n").await.status, StatusCode::OK);
    assert_eq!(browser.get(&app, "/count").await.body, "2", "and nobody was logged out by any of it");
}

#[tokio::test]
async fn recover_lets_the_handlers_answer_stand_when_saving_fails() {
    let store = Switch::new(Reference::new());
    let app = app().layer(layer_with(store.clone(), |b| b.recover(|_, _| async { Ok(()) })));
    store.fail_nth(1, ErrorKind::Rejected);
    let reply = Browser::new().get(&app, "/write").await;
    assert_eq!((reply.status, reply.set_cookies().len()), (StatusCode::OK, 0));
    assert_eq!(reply.headers[header::VARY], "Cookie", "the answer depends on the session all the same");
}

#[tokio::test]
async fn the_idle_time_can_depend_on_the_session() {
    let app = app().layer(layer_with(Reference::new(), |b| {
        b.idle_by(|session| Some(Duration::from_secs(100 * session.get::<u64>("n").ok()??)))
    }));
    let mut browser = Browser::new();
    assert!(browser.get(&app, "/count").await.set_cookie().contains("Max-Age=100"));
    assert!(browser.get(&app, "/count").await.set_cookie().contains("Max-Age=200"));
    assert_eq!(browser.get(&app, "/write").await.set_cookies().len(), 0, "the same idle time is no news");
}
