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
use cloakroom_core::{AdminStore, AtomicStore, Error, ErrorKind, Session, Store, Ttl};
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
