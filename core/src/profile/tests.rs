//! A foreign format through the unchanged engine: bare JSON rows under a prefix, touched to renew, removed to move.

use std::{collections::BTreeMap, time::SystemTime};

use http::{HeaderMap, Method, StatusCode, Uri, header::COOKIE};
use parking_lot::Mutex;

use super::*;
use crate::{
    AtomicStore, Engine, Error, ErrorKind, RequestHead, Session, Store, Swapped, Ttl, async_trait,
    config::Builder, document::Pair,
};

/// The rows of a program that knows nothing of us: the data alone, as one JSON object.
#[derive(Debug)]
struct BareJson;

impl RecordCodec for BareJson {
    fn encode(&self, _: &Key, _: &Meta, data: &Document) -> Result<Bytes> {
        let mut json = Vec::new();
        data.write_json(&mut json);
        Ok(json.into())
    }

    fn decode(&self, _: &Key, bytes: &Bytes) -> Result<Decoded> {
        let rows: BTreeMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_slice(bytes).map_err(|_| Error::new(ErrorKind::Corrupt))?;
        let mut data = Document::default();
        for (key, value) in rows {
            data.set(&Pair::new(&key, value.get()));
        }
        let meta = Meta { created: 0, renewed: 0, deadline: None, ttl: None, user: None, cookie: None };
        Ok(Decoded::Session(record::Record { meta, data }))
    }

    fn tombstone(&self, _: &Key, _: Millis) -> Result<Option<Bytes>> {
        Ok(None)
    }

    fn renews_by_touch(&self) -> bool {
        true
    }

    fn marks_writes(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Prefixed(&'static str);

impl KeyRule for Prefixed {
    fn key(&self, id: &SessionId) -> Result<Key> {
        Key::new(format!("{}{}", self.0, id.expose()))
    }
}

/// Rows and a list of what was asked of them. A write can lose its reply once.
#[derive(Debug, Default)]
struct Rows {
    rows: Mutex<BTreeMap<Key, Bytes>>,
    calls: Mutex<Vec<&'static str>>,
    lose: Mutex<bool>,
}

impl Rows {
    fn note(&self, call: &'static str) {
        self.calls.lock().push(call);
    }

    fn answer<T>(&self, answer: T) -> Result<T> {
        if std::mem::take(&mut *self.lose.lock()) { Err(ErrorKind::Timeout.into()) } else { Ok(answer) }
    }
}

#[async_trait]
impl Store for Rows {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.note("get");
        Ok(self.rows.lock().get(key).cloned())
    }
    async fn set(&self, key: &Key, value: Bytes, _: Ttl) -> Result<()> {
        self.note("set");
        self.rows.lock().insert(key.clone(), value);
        Ok(())
    }
    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.note("destroy");
        Ok(self.rows.lock().remove(key).is_some())
    }
    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for Rows {
    async fn create(&self, key: &Key, value: Bytes, _: Ttl) -> Result<bool> {
        self.note("create");
        self.rows.lock().insert(key.clone(), value);
        Ok(true)
    }
    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, _: Ttl) -> Result<Swapped> {
        self.note("replace");
        let swapped = match self.rows.lock().get_mut(key) {
            None => Swapped::Gone,
            Some(row) if *row != expected => Swapped::Conflict(row.clone()),
            Some(row) => {
                *row = value;
                Swapped::Done
            }
        };
        self.answer(swapped)
    }
    async fn remove(&self, key: &Key, _: &[u8]) -> Result<Swapped> {
        self.note("remove");
        Ok(self.rows.lock().remove(key).map_or(Swapped::Gone, |_| Swapped::Done))
    }
    async fn touch(&self, key: &Key, _: Ttl) -> Result<bool> {
        self.note("touch");
        Ok(self.rows.lock().contains_key(key))
    }
}

struct Visitor {
    engine: Engine,
    rows: Arc<Rows>,
    cookie: Option<String>,
}

impl Visitor {
    fn new(configure: impl FnOnce(Builder<Engine>) -> Builder<Engine>) -> Self {
        let rows = Arc::new(Rows::default());
        let mut settings = configure(Engine::builder(Arc::clone(&rows))).settings().unwrap();
        settings.profile = Profile { keys: Arc::new(Prefixed("app:sess:")), records: Arc::new(BareJson) };
        Self { engine: Engine::new(settings), rows, cookie: None }
    }

    /// One request; returns what the store was asked.
    async fn request(
        &mut self,
        handler: impl AsyncFnOnce(Session) -> Result<()>,
    ) -> Result<Vec<&'static str>> {
        let (method, uri, mut headers) = (Method::GET, Uri::from_static("/"), HeaderMap::new());
        if let Some(cookie) = &self.cookie {
            headers.insert(COOKIE, format!("__Host-sid={cookie}").parse().unwrap());
        }
        let lazy = self.engine.begin(&RequestHead { method: &method, uri: &uri, headers: &headers });
        handler(lazy.load().await?).await?;
        let edits = self.engine.finish(&lazy, StatusCode::OK).unwrap().await?;
        let mut answer = HeaderMap::new();
        edits.apply(&mut answer);
        if let Some(cookie) = answer.get("set-cookie") {
            self.cookie = cookie.to_str().unwrap().split(['=', ';']).nth(1).map(str::to_owned);
        }
        Ok(std::mem::take(&mut *self.rows.calls.lock()))
    }

    fn row(&self) -> String {
        let key = Key::new(format!("app:sess:{}", self.cookie.as_deref().unwrap())).unwrap();
        String::from_utf8(self.rows.rows.lock()[&key].to_vec()).unwrap()
    }
}

#[tokio::test]
async fn a_foreign_format_is_written_and_read_in_its_own_shape_under_its_own_key() {
    let mut visitor = Visitor::new(|b| b.clock(|| SystemTime::UNIX_EPOCH));
    assert_eq!(visitor.request(async |s| s.insert("n", 1)).await.unwrap(), ["create"]);
    assert_eq!(visitor.row(), r#"{"n":1}"#);
    let calls =
        visitor.request(async |s| s.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).map(|_| ())).await;
    assert_eq!(calls.unwrap(), ["get", "replace"]);
    assert_eq!(visitor.row(), r#"{"n":2}"#);
}

#[tokio::test]
async fn a_format_that_renews_by_touch_leaves_the_row_as_it_is() {
    let mut visitor = Visitor::new(|b| b.clock(|| SystemTime::UNIX_EPOCH).rolling(true));
    visitor.request(async |s| s.insert("n", 1)).await.unwrap();
    assert_eq!(visitor.request(async |s| s.get::<u64>("n").map(|_| ())).await.unwrap(), ["get", "touch"]);
    assert_eq!(visitor.row(), r#"{"n":1}"#);
}

#[tokio::test]
async fn a_format_without_tombstones_removes_what_has_moved() {
    let mut visitor = Visitor::new(|b| b.clock(|| SystemTime::UNIX_EPOCH));
    visitor.request(async |s| s.insert("n", 1)).await.unwrap();
    let old = visitor.cookie.clone();
    let calls = visitor.request(async |s| s.cycle_id().await.map(|_| ())).await.unwrap();
    assert_eq!(calls, ["get", "create", "remove"]);
    assert_ne!(visitor.cookie, old);
    assert_eq!(visitor.rows.rows.lock().len(), 1);
}

#[tokio::test]
async fn a_write_that_cannot_be_known_again_is_reported_and_not_repeated() {
    let mut visitor = Visitor::new(|b| b.clock(|| SystemTime::UNIX_EPOCH));
    visitor.request(async |s| s.insert("n", 1)).await.unwrap();
    *visitor.rows.lose.lock() = true;
    let outcome =
        visitor.request(async |s| s.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).map(|_| ())).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(visitor.row(), r#"{"n":2}"#, "applied once");
}
