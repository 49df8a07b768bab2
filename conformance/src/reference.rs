//! `Reference`, a store that is trivially correct, and `Plain`, a wrapper that hides every ability.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use cloakroom_core::{
    AdminStore, AtomicStore, BoxStream, Bytes, Error, ErrorKind, IndexedStore, Key, Result, StatusStream,
    Store, Swapped, Ttl, async_trait,
};
use futures_util::stream;
use parking_lot::Mutex;
use tokio::time::Instant;

/// A store inside the process that is correct because there is nothing to it: one lock around one sorted map.
///
/// It has every ability. It is the model other stores are compared with and a test double for code that needs a
/// store; it is not for production, since it never sweeps by itself and every call takes the same lock. Clones are
/// handles onto the same data.
///
/// Time is tokio's: in a runtime whose clock is paused, values expire when the clock is advanced.
#[derive(Clone, Default)]
pub struct Reference(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    rows: BTreeMap<Key, Row>,
    owners: BTreeMap<Key, Owner>,
}

struct Row {
    value: Bytes,
    dies: Instant,
}

struct Owner {
    user: String,
    dies: Instant,
}

impl Reference {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl State {
    /// The live row under `key`: the one place that decides what is absent.
    fn live(&mut self, key: &Key) -> Option<&mut Row> {
        let now = Instant::now();
        self.rows.get_mut(key).filter(|row| row.dies > now)
    }

    fn write(&mut self, key: &Key, value: Bytes, ttl: Ttl) {
        let dies = Instant::now() + ttl.duration();
        self.rows.insert(key.clone(), Row { value, dies });
    }

    fn keys_of(&mut self, user: &str) -> Vec<Key> {
        let now = Instant::now();
        self.owners.retain(|_, owner| owner.dies > now);
        let bound: Vec<Key> =
            self.owners.iter().filter(|(_, owner)| owner.user == user).map(|(key, _)| key.clone()).collect();
        bound.into_iter().filter(|key| self.live(key).is_some()).collect()
    }
}

/// Shows that it is one, never the keys or the values.
impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reference")
    }
}

#[async_trait]
impl Store for Reference {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        Ok(self.0.lock().live(key).map(|row| row.value.clone()))
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.0.lock().write(key, value, ttl);
        Ok(())
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        let mut state = self.0.lock();
        let was_live = state.live(key).is_some();
        state.rows.remove(key);
        Ok(was_live)
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }

    fn as_indexed(&self) -> Option<&dyn IndexedStore> {
        Some(self)
    }

    fn as_admin(&self) -> Option<&dyn AdminStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for Reference {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        let mut state = self.0.lock();
        let vacant = state.live(key).is_none();
        if vacant {
            state.write(key, value, ttl);
        }
        Ok(vacant)
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        let mut state = self.0.lock();
        Ok(match state.live(key) {
            None => Swapped::Gone,
            Some(row) if row.value != expected => Swapped::Conflict(row.value.clone()),
            Some(_) => {
                state.write(key, value, ttl);
                Swapped::Done
            }
        })
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        let mut state = self.0.lock();
        Ok(match state.live(key) {
            None => Swapped::Gone,
            Some(row) if row.value != expected => Swapped::Conflict(row.value.clone()),
            Some(_) => {
                state.rows.remove(key);
                Swapped::Done
            }
        })
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        let mut state = self.0.lock();
        let live = state.live(key);
        let touched = live.is_some();
        if let Some(row) = live {
            row.dies = Instant::now() + ttl.duration();
        }
        Ok(touched)
    }
}

#[async_trait]
impl IndexedStore for Reference {
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        if user.is_empty() || user.len() > 255 {
            let error = Error::new(ErrorKind::Value).operation("bind").store("reference");
            return Err(error.hint("a user is 1 to 255 bytes of text"));
        }
        let owner = Owner { user: user.to_owned(), dies: Instant::now() + ttl.duration() };
        self.0.lock().owners.insert(key.clone(), owner);
        Ok(())
    }

    async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
        Ok(self.0.lock().keys_of(user))
    }

    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        let mut state = self.0.lock();
        let mut removed = 0;
        for key in state.keys_of(user) {
            if Some(&key) != except {
                state.rows.remove(&key);
                removed += 1;
            }
        }
        Ok(removed)
    }
}

#[async_trait]
impl AdminStore for Reference {
    fn scan(&self) -> BoxStream<'_, Result<Key>> {
        // From one key to the next live one: a key that lives all the while is met, and nothing is copied.
        Box::pin(stream::unfold(None::<Key>, move |last| async move {
            let now = Instant::now();
            let after = last.as_ref().map_or(Unbounded, Excluded);
            let next = self
                .0
                .lock()
                .rows
                .range::<Key, _>((after, Unbounded))
                .find(|(_, row)| row.dies > now)
                .map(|(key, _)| key.clone());
            next.map(|key| (Ok(key.clone()), Some(key)))
        }))
    }

    async fn len(&self) -> Result<u64> {
        let now = Instant::now();
        let state = self.0.lock();
        Ok(state.rows.values().filter(|row| row.dies > now).count() as u64)
    }

    async fn clear(&self) -> Result<u64> {
        let now = Instant::now();
        let mut state = self.0.lock();
        let live = state.rows.values().filter(|row| row.dies > now).count() as u64;
        let rows = std::mem::take(&mut state.rows);
        // A binding without a value stays: its login may be under way.
        state.owners.retain(|key, _| !rows.contains_key(key));
        Ok(live)
    }

    async fn sweep(&self, limit: u32) -> Result<u64> {
        let now = Instant::now();
        let mut state = self.0.lock();
        let expired: Vec<Key> = state
            .rows
            .iter()
            .filter(|(_, row)| row.dies <= now)
            .take(limit as usize)
            .map(|(key, _)| key.clone())
            .collect();
        for key in &expired {
            state.rows.remove(key);
        }
        Ok(expired.len() as u64)
    }
}

/// A store without abilities: hands `get`, `set`, `destroy` and `status` to the inner store and hides the rest.
///
/// With it any store stands in for a three-method one, whose guarantee is
/// [`LastWriterWins`](cloakroom_core::Guarantee::LastWriterWins).
#[derive(Clone, Debug)]
pub struct Plain<S>(S);

impl<S: Store> Plain<S> {
    /// Wraps `inner`.
    pub const fn new(inner: S) -> Self {
        Self(inner)
    }

    /// Returns the inner store.
    pub const fn inner(&self) -> &S {
        &self.0
    }
}

#[async_trait]
impl<S: Store> Store for Plain<S> {
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
}
