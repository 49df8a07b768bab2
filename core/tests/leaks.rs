//! Requests dropped at every poll, through the whole tower stack: nothing is leaked, and nothing is left half done.
#![cfg(feature = "axum-core-0_5")]
#![allow(clippy::unwrap_used)] // What helps a test is a test.

mod support;

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, routing::get};
use cloakroom_conformance::{Reference, Switch};
use cloakroom_core::{
    AdminStore, AtomicStore, Bytes, Engine, IndexedStore, Key, Result, Session, SessionLayer, StatusStream,
    Store, Ttl, async_trait,
};
use http::{Request, header};
use support::{Browser, COOKIE, Clock};
use tower::ServiceExt;

/// A store that shows whether anything still holds on to it.
#[derive(Clone, Debug)]
struct Watched(Switch<Reference>, Arc<()>);

#[async_trait]
impl Store for Watched {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.0.get(key).await
    }
    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.0.set(key, value, ttl).await
    }
    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.0.destroy(key).await
    }
    fn status(&self) -> StatusStream {
        self.0.status()
    }
    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        self.0.as_atomic()
    }
    fn as_indexed(&self) -> Option<&dyn IndexedStore> {
        self.0.as_indexed()
    }
    fn as_admin(&self) -> Option<&dyn AdminStore> {
        self.0.as_admin()
    }
}

struct Stage {
    app: Router,
    engine: Engine,
    store: Watched,
    browser: Browser,
}

impl Stage {
    /// An application with one visitor, whose session holds `n` = 1; half of its time is over if `due`.
    async fn set(due: bool) -> Self {
        let store = Watched(Switch::new(Reference::new()), Arc::new(()));
        let clock = Clock::new();
        let layer = SessionLayer::new(store.clone()).clock(clock.reader()).build().unwrap();
        let engine = layer.engine().clone();
        let rival = store.0.clone();
        let app = Router::new()
            .route("/none", get(|| async {}))
            .route("/n", get(|session: Session| async move { n(&session) }))
            .route("/write", get(|session: Session| async move { add(&session) }))
            .route("/login", get(|session: Session| async move { session.cycle_id().await.map(|_| ()) }))
            .route("/logout", get(|session: Session| async move { session.destroy().await }))
            .route("/conflict", get(move |session: Session| conflict(session, rival.clone())))
            .layer(layer);
        let mut browser = Browser::new();
        browser.get(&app, "/write").await;
        if due {
            clock.advance(Duration::from_secs(13 * 3600));
        }
        Self { app, engine, store, browser }
    }

    async fn records(&self) -> u64 {
        self.store.0.inner().len().await.unwrap()
    }
}

fn n(session: &Session) -> String {
    session.get::<u64>("n").unwrap().map_or_else(String::new, |n| n.to_string())
}

fn add(session: &Session) -> Result<()> {
    session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).map(|_| ())
}

/// Somebody else stores the session between our load and our save.
async fn conflict(session: Session, rival: Switch<Reference>) -> Result<()> {
    let key = session.id().unwrap().key();
    let old = rival.inner().get(&key).await?.unwrap();
    let new = String::from_utf8(old.to_vec()).unwrap().replace("\"data\":{", "\"data\":{\"other\":1,");
    rival.inner().set(&key, new.into(), Ttl::from_secs(60)).await?;
    add(&session)
}

#[tokio::test(start_paused = true)]
async fn a_request_dropped_at_any_poll_leaks_nothing_and_leaves_before_or_after() {
    // The path, whether the session is due for renewal, whether the store is down, and what `n` may be afterwards.
    let shapes: [(&str, bool, bool, &[&str]); 9] = [
        ("/none", false, false, &["1"]),
        ("/n", false, false, &["1"]),
        ("/write", false, false, &["1", "2"]),
        ("/conflict", false, false, &["1", "2"]),
        ("/login", false, false, &["1", ""]),
        ("/logout", false, false, &["1", ""]),
        ("/n", true, false, &["1"]),
        ("/n", false, true, &["1"]),
        ("/write", false, true, &["1"]),
    ];
    for (path, due, down, allowed) in shapes {
        let mut ended = false;
        for polls in 0..100 {
            let stage = Stage::set(due).await;
            let note = format!("{path}, due: {due}, down: {down}, {polls} polls");
            stage.store.0.latency(Duration::from_millis(1));
            if down {
                stage.store.0.disconnect();
            }
            let request = Request::builder()
                .uri(path)
                .header(header::COOKIE, format!("{COOKIE}={}", stage.browser.ticket().unwrap()))
                .body(Body::empty());
            let mut future = Box::pin(stage.app.clone().oneshot(request.unwrap()));
            for _ in 0..polls {
                let polled = futures_util::poll!(&mut future);
                ended = polled.is_ready();
                if ended {
                    break;
                }
                // Time passes between the polls, for the store's answers and for the window of an outage.
                tokio::time::advance(Duration::from_millis(if down { 1500 } else { 1 })).await;
            }
            drop(future);
            stage.engine.shutdown(Duration::from_secs(60)).await.unwrap();
            stage.store.0.heal();
            stage.store.0.connect();

            let seen = stage.browser.peek(&stage.app, "/n").await.body;
            assert!(allowed.contains(&seen.as_str()), "{note}: {seen:?}");
            assert!(stage.records().await <= 2, "{note}: a session and at most one tombstone");
            let Stage { app, engine, store, browser } = stage;
            drop((app, engine, browser));
            assert_eq!(Arc::strong_count(&store.1), 1, "{note}: something holds on to the store");
            if ended {
                break;
            }
        }
        assert!(ended, "{path} never ends");
    }
}
