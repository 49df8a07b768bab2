//! The store of one application: the memory store, with switches, and a log of what it was asked.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cloakroom::{
    AdminStore, AtomicStore, Bytes, Error, ErrorKind, Key, MemoryStore, Result, StatusSender, StatusStream,
    Store, Swapped, Ttl, async_trait,
};
use futures_util::TryStreamExt;
use serde_json::{Value, json};

/// A store on the bench. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Bench(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    rows: MemoryStore,
    status: StatusSender,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    /// What was asked since the log was last taken.
    log: Vec<(&'static str, String)>,
    /// The ttl each key was last given.
    ttls: HashMap<Key, Ttl>,
    /// What fails, and with which message.
    failing: BTreeMap<String, String>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let status = StatusSender::connecting();
        status.connected();
        Self(Arc::new(Shared { rows: MemoryStore::new(), status, notes: Mutex::default() }))
    }

    /// Says that the connection is there. Operations worked all along: the ancestor's state is what is tested.
    pub(crate) fn connect(&self) {
        self.0.status.connected();
    }

    /// Says that the connection is lost.
    pub(crate) fn disconnect(&self) {
        self.0.status.disconnected();
    }

    /// Lets `get`, `set`, `destroy` or `touch` fail until [`heal`](Self::heal).
    pub(crate) fn fail(&self, method: &str, message: &str) {
        self.notes().failing.insert(method.to_owned(), message.to_owned());
    }

    /// Ends what [`fail`](Self::fail) began.
    pub(crate) fn heal(&self) {
        self.notes().failing.clear();
    }

    /// Drops every row.
    pub(crate) async fn clear(&self) -> Result<()> {
        self.0.rows.clear().await.map(drop)
    }

    /// Puts a row there, as another program would.
    pub(crate) async fn put(&self, key: &str, value: &str) -> Result<()> {
        let (key, ttl) = (Key::new(key)?, Ttl::from_secs(24 * 60 * 60));
        self.notes().ttls.insert(key.clone(), ttl);
        self.0.rows.set(&key, Bytes::copy_from_slice(value.as_bytes()), ttl).await
    }

    /// Returns the live rows, and the log, which begins anew.
    pub(crate) async fn dump(&self) -> Result<Value> {
        let keys: Vec<Key> = self.0.rows.scan().try_collect().await?;
        let mut rows = serde_json::Map::new();
        for key in keys {
            let Some(bytes) = self.0.rows.get(&key).await? else { continue };
            let raw = String::from_utf8_lossy(&bytes).into_owned();
            let value: Value = serde_json::from_str(&raw).unwrap_or_default();
            let ttl = self.notes().ttls.get(&key).map(|ttl| ttl.millis());
            rows.insert(key.as_str().to_owned(), json!({ "value": value, "raw": raw, "ttl": ttl }));
        }
        let log = std::mem::take(&mut self.notes().log);
        Ok(json!({ "rows": rows, "log": log }))
    }

    /// Notes a call by the ancestor's name for it.
    ///
    /// # Errors
    /// The one that was asked for.
    fn note(&self, method: &'static str, key: &Key, ttl: Option<Ttl>) -> Result<()> {
        let mut notes = self.notes();
        notes.log.push((method, key.as_str().to_owned()));
        if let Some(message) = notes.failing.get(method) {
            return Err(Error::new(ErrorKind::Rejected).store("bench").hint(message.clone()));
        }
        if let Some(ttl) = ttl {
            notes.ttls.insert(key.clone(), ttl);
        }
        Ok(())
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for Bench {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.note("get", key, None)?;
        self.0.rows.get(key).await
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.note("set", key, Some(ttl))?;
        self.0.rows.set(key, value, ttl).await
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.note("destroy", key, None)?;
        self.0.rows.destroy(key).await
    }

    fn status(&self) -> StatusStream {
        self.0.status.subscribe()
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for Bench {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        self.note("set", key, Some(ttl))?;
        self.0.rows.create(key, value, ttl).await
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        self.note("set", key, Some(ttl))?;
        self.0.rows.replace(key, expected, value, ttl).await
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        self.note("destroy", key, None)?;
        self.0.rows.remove(key, expected).await
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        self.note("touch", key, Some(ttl))?;
        self.0.rows.touch(key, ttl).await
    }
}
