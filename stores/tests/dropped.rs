//! Requests dropped at every poll over the store in the process, behind the whole tower stack, lazy and eager: the
//! session is as before or as after, and nothing of the request is left anywhere.
#![allow(clippy::unwrap_used)] // What helps a test is a test.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime},
};

use axum::{Router, body::Body, routing::get};
use cloakroom::{
    AdminStore, AtomicStore, Bytes, Engine, IndexedStore, Key, MemoryStore, Result, Session, SessionLayer,
    StatusStream, Store, Swapped, Ttl, async_trait,
};
use cloakroom_conformance::Switch;
use futures_util::StreamExt;
use http::{Request, StatusCode, header};
use tokio::task::yield_now;
use tower::ServiceExt;

/// The store with a point to drop a call at before and after each operation, and a count of who holds on to it.
#[derive(Clone, Debug)]
struct Slow(MemoryStore, Arc<()>);

impl Slow {
    async fn around<T>(&self, call: impl Future<Output = T>) -> T {
        yield_now().await;
        let answer = call.await;
        yield_now().await;
        answer
    }
}

#[async_trait]
impl Store for Slow {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.around(self.0.get(key)).await
    }
    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.around(self.0.set(key, value, ttl)).await
    }
    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.around(self.0.destroy(key)).await
    }
    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }
    fn as_indexed(&self) -> Option<&dyn IndexedStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for Slow {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        self.around(self.0.create(key, value, ttl)).await
    }
    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        self.around(self.0.replace(key, expected, value, ttl)).await
    }
    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        self.around(self.0.remove(key, expected)).await
    }
    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        self.around(self.0.touch(key, ttl)).await
    }
}

#[async_trait]
impl IndexedStore for Slow {
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        self.around(self.0.bind(key, user, ttl)).await
    }
    async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
        self.around(self.0.keys_of(user)).await
    }
    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        self.around(self.0.destroy_user(user, except)).await
    }
}

/// A status that can fall, over the store that is watched.
#[derive(Clone, Debug)]
struct Watched(Switch<Slow>);

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
}

/// A kind of request, and what may be true after it was dropped at any point.
struct Shape {
    path: &'static str,
    /// The visitor comes with a session that holds `n` = 1.
    known: bool,
    /// Half of the session's time is over.
    due: bool,
    down: bool,
    /// What the visitor's cookie may open.
    seen: &'static [&'static str],
    /// How many values there may be, tombstones among them, and how many of them alice's.
    values: std::ops::RangeInclusive<u64>,
    hers: std::ops::RangeInclusive<usize>,
}

const READ: Shape =
    Shape { path: "/n", known: true, due: false, down: false, seen: &["1"], values: 1..=1, hers: 0..=0 };

const SHAPES: &[Shape] = &[
    Shape { path: "/untouched", ..READ },
    READ,
    Shape { path: "/n", known: false, seen: &[""], values: 0..=0, ..READ },
    Shape { path: "/write", seen: &["1", "2"], ..READ },
    Shape { path: "/write", known: false, seen: &[""], values: 0..=1, ..READ },
    Shape { path: "/now", seen: &["1", "2"], ..READ },
    Shape { path: "/conflict", seen: &["1", "2"], ..READ },
    Shape { path: "/login", seen: &["1", ""], values: 1..=2, hers: 0..=1, ..READ },
    Shape { path: "/login", known: false, seen: &[""], values: 0..=1, hers: 0..=1, ..READ },
    Shape { path: "/regenerate", seen: &["1", ""], values: 1..=2, ..READ },
    Shape { path: "/logout", seen: &["1", ""], values: 0..=1, ..READ },
    Shape { path: "/logout", known: false, seen: &[""], values: 0..=0, ..READ },
    Shape { path: "/n", due: true, ..READ },
    Shape { path: "/write", due: true, seen: &["1", "2"], ..READ },
    Shape { path: "/n", down: true, ..READ },
    Shape { path: "/write", down: true, ..READ },
    Shape { path: "/login", down: true, ..READ },
    Shape { path: "/logout", down: true, ..READ },
];

struct Stage {
    app: Router,
    engine: Engine,
    store: Watched,
    ticket: Option<String>,
}

impl Stage {
    async fn set(shape: &Shape, eager: bool) -> Self {
        let store = Watched(Switch::new(Slow(MemoryStore::new(), Arc::new(()))));
        let clock =
            Arc::new(parking_lot::Mutex::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)));
        let reader = Arc::clone(&clock);
        let layer = SessionLayer::new(store.clone()).clock(move || *reader.lock()).build().unwrap();
        let engine = layer.engine().clone();
        let rival = store.0.inner().0.clone();
        let routes = Router::new()
            .route("/untouched", get(|| async {}))
            .route("/n", get(|s: Session| async move { n(&s) }))
            .route("/write", get(|s: Session| async move { add(&s) }))
            .route("/now", get(|s: Session| async move { s.update_now("n", next).await.map(|_| ()) }))
            .route("/login", get(login))
            .route("/regenerate", get(|s: Session| async move { s.regenerate().await.map(|_| ()) }))
            .route("/logout", get(|s: Session| async move { s.destroy().await }))
            .route("/conflict", get(move |s: Session| conflict(s, rival.clone())));
        let app = if eager { routes.layer(layer.eager()) } else { routes.layer(layer) };
        let mut stage = Self { app, engine, store, ticket: None };
        if shape.known {
            let response = stage.app.clone().oneshot(stage.request("/write")).await.unwrap();
            let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
            stage.ticket = cookie.split(';').next().map(str::to_owned);
        }
        if shape.due {
            *clock.lock() += Duration::from_secs(13 * 3600);
        }
        stage
    }

    fn request(&self, path: &str) -> Request<Body> {
        let mut request = Request::builder().uri(path);
        if let Some(ticket) = &self.ticket {
            request = request.header(header::COOKIE, ticket);
        }
        request.body(Body::empty()).unwrap()
    }

    fn memory(&self) -> &MemoryStore {
        &self.store.0.inner().0
    }

    /// What the visitor's cookie opens.
    async fn seen(&self) -> String {
        let response = self.app.clone().oneshot(self.request("/n")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let body = axum::body::to_bytes(response.into_body(), 99).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    /// Checks that the store's own books agree with what is in it.
    async fn audit(&self, shape: &Shape, note: &str) {
        let (stats, keys) = (self.memory().stats(), self.memory().scan().collect::<Vec<_>>().await);
        assert_eq!(stats.entries, keys.len() as u64, "{note}: {stats:?}");
        assert!(shape.values.contains(&stats.entries), "{note}: {stats:?}");
        let mut bytes = 0;
        for key in keys {
            let key = key.unwrap();
            let value = self.memory().get(&key).await.unwrap().unwrap();
            bytes += (key.as_bytes().len() + value.len()) as u64 + MemoryStore::ENTRY_OVERHEAD;
        }
        assert_eq!(stats.bytes, bytes, "{note}");
        let hers = self.memory().keys_of("alice").await.unwrap();
        assert!(shape.hers.contains(&hers.len()), "{note}: {} sessions are hers", hers.len());
        // At most the session's own entry and that of the key it had before, each of which ends by itself.
        assert!(stats.bindings <= 2 * *shape.hers.end() as u64, "{note}: {stats:?}");
        self.memory().clear().await.unwrap();
        let left = self.memory().stats();
        assert_eq!((left.entries, left.bytes), (0, 0), "{note}");
    }
}

fn n(session: &Session) -> String {
    session.get::<u64>("n").unwrap().map_or_else(String::new, |n| n.to_string())
}

fn next(n: Option<u64>) -> u64 {
    n.unwrap_or(0) + 1
}

fn add(session: &Session) -> Result<()> {
    session.update("n", next).map(|_| ())
}

async fn login(session: Session) -> Result<()> {
    session.cycle_id().await?;
    session.bind_user("alice")
}

/// Somebody else stores the session between our load and our save.
async fn conflict(session: Session, rival: MemoryStore) -> Result<()> {
    let key = session.id().unwrap().key();
    let old = rival.get(&key).await?.unwrap();
    let new = String::from_utf8(old.to_vec()).unwrap().replace("\"data\":{", "\"data\":{\"other\":1,");
    rival.set(&key, new.into(), Ttl::from_secs(60)).await?;
    add(&session)
}

/// Polls `future` at most `polls` times with room for others in between; `true` if it ended.
async fn poll_at_most(mut future: Pin<&mut impl Future>, polls: usize, step: Duration) -> bool {
    for _ in 0..polls {
        if poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await.is_ready() {
            return true;
        }
        yield_now().await;
        tokio::time::advance(step).await;
    }
    false
}

#[tokio::test(start_paused = true)]
async fn a_request_dropped_at_any_poll_leaves_before_or_after_and_nothing_behind() {
    for eager in [false, true] {
        for (number, shape) in SHAPES.iter().enumerate() {
            let mut polls = 0;
            loop {
                let stage = Stage::set(shape, eager).await;
                let note = format!("{}, shape {number}, eager: {eager}, {polls} polls", shape.path);
                // Time has to pass for the window of an outage, and else for nothing.
                let step = Duration::from_millis(if shape.down { 1500 } else { 0 });
                if shape.down {
                    stage.store.0.disconnect();
                }
                let mut future = Box::pin(stage.app.clone().oneshot(stage.request(shape.path)));
                let ended = poll_at_most(future.as_mut(), polls, step).await;
                drop(future);
                stage.engine.shutdown(Duration::from_secs(90)).await.unwrap();
                stage.store.0.connect();

                let seen = stage.seen().await;
                assert!(shape.seen.contains(&seen.as_str()), "{note}: {seen:?}");
                stage.audit(shape, &note).await;
                let Stage { app, engine, store, .. } = stage;
                let held = Arc::clone(&store.0.inner().1);
                drop((app, engine, store));
                assert_eq!(Arc::strong_count(&held), 1, "{note}: something holds on to the store");
                if ended {
                    break;
                }
                polls += 1;
                assert!(polls < 100, "{note}: it never ends");
            }
            let least = usize::from(shape.path != "/untouched" || eager) * usize::from(shape.known);
            assert!(polls >= least, "{}: no point to drop it at was met", shape.path);
        }
    }
}
