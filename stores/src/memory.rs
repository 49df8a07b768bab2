//! The store inside the process: sharded, strict, bounded if asked to, and free of expired entries by itself.

mod clock;
mod index;
mod inner;
mod room;
mod shard;
mod sweeper;
mod table;
#[cfg(test)]
mod tests;
mod users;

use std::{fmt, future::poll_fn, sync::Arc, task::Poll};

use async_trait::async_trait;
use bytes::Bytes;
#[cfg(doc)]
use cloakroom_core::ErrorKind;
use cloakroom_core::{AdminStore, AtomicStore, Error, IndexedStore, Key, Result, Store, Swapped, Ttl};
use futures_util::stream::{self, BoxStream, StreamExt};

use self::{
    inner::{BATCH, Counts, Inner, SHARDS},
    room::Room,
    shard::Value,
};
use crate::user::check_user;

/// A store in this process's memory, for tests, for one machine, and for sessions that may end with the process.
///
/// It is strict: it compares and swaps, so parallel requests lose nothing. It knows which sessions belong to a user,
/// and can be listed, counted and cleared.
///
/// Clones share one store. It needs no runtime when it is made and may serve several.
///
/// ```
/// use cloakroom::{MemoryStore, Key, Store, Ttl};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = MemoryStore::new();
/// let key = Key::new("a-key")?;
/// store.set(&key, "value".into(), Ttl::from_secs(60)).await?;
/// assert_eq!(store.get(&key).await?.as_deref(), Some(&b"value"[..]));
/// # Ok::<(), cloakroom::Error>(()) }).unwrap();
/// ```
///
/// # Memory
///
/// A value of 100 bytes under a key of 43 takes about 280 bytes. Values are copied in and handed out as views of
/// that copy, which live as long as their readers keep them.
///
/// Expired entries leave without being read: a thread of the store's own, started with the first entry, sleeps until
/// one is due. It removes at most 64 under one lock, and ends when the last clone of the store is dropped. On a
/// platform without threads each write removes a little instead.
///
/// # Risk
///
/// Unless [bounded](Self::builder) it grows with the number of live sessions. Where visitors that are not logged in
/// can create sessions, set a bound.
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

impl MemoryStore {
    /// What each entry adds to [`MemoryStats::bytes`] besides its key and its value, in bytes.
    ///
    /// It stands for the entry's places in the tables, so that a bound in bytes is close to what the process takes.
    pub const ENTRY_OVERHEAD: u64 = shard::OVERHEAD;

    /// Creates an empty store without bounds.
    #[must_use]
    pub fn new() -> Self {
        Self { inner: Inner::new(None) }
    }

    /// Starts a store with bounds.
    pub const fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder { max_entries: None, max_bytes: None }
    }

    /// Returns how many live values had to leave because the store was full, since it was made.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.stats().evicted
    }

    /// Returns what the store holds and what it dropped. Takes each of its 64 locks for an instant.
    #[must_use]
    pub fn stats(&self) -> MemoryStats {
        let Counts { entries, bytes, bindings, expired, evicted } = self.inner.counts();
        MemoryStats { entries, bytes, bindings, expired, evicted }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows counts, never a key or a value.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.stats();
        f.debug_struct("MemoryStore")
            .field("entries", &stats.entries)
            .field("bytes", &stats.bytes)
            .finish_non_exhaustive()
    }
}

/// What a [`MemoryStore`] holds and what it dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Values held, expired ones that were not swept yet among them.
    pub entries: u64,
    /// Bytes of their keys and values, and [`MemoryStore::ENTRY_OVERHEAD`] for each.
    pub bytes: u64,
    /// Keys bound to a user, those among them whose value is gone or not there yet.
    pub bindings: u64,
    /// Values that left because their ttl had passed, since the store was made.
    pub expired: u64,
    /// Live values that left because the store was full, since it was made.
    pub evicted: u64,
}

/// The bounds of a [`MemoryStore`]. None by default.
///
/// Neither is ever exceeded. When a value needs room, the one nearest to expiry leaves: exactly that one as a rule,
/// and one of the nearest after many values were renewed at once. A value never leaves to make room for itself.
/// Bindings to users are not counted.
///
/// ```
/// let store = cloakroom::MemoryStore::builder().max_bytes(512 << 20).build()?;
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct MemoryStoreBuilder {
    max_entries: Option<u64>,
    max_bytes: Option<u64>,
}

impl MemoryStoreBuilder {
    /// Holds at most this many values, at least 1.
    pub const fn max_entries(mut self, max_entries: u64) -> Self {
        self.max_entries = Some(max_entries);
        self
    }

    /// Holds at most this many bytes, counted as [`MemoryStats::bytes`]; room for at least one entry.
    ///
    /// A value that does not fit into the empty store is [`ErrorKind::TooLarge`].
    pub const fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = Some(max_bytes);
        self
    }

    /// Creates the store.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming `max_entries` if it is 0, or `max_bytes` if no entry at all fits.
    pub fn build(self) -> Result<MemoryStore> {
        if self.max_entries == Some(0) {
            return Err(Error::config("max_entries", "must be at least 1"));
        }
        if self.max_bytes.is_some_and(|bytes| bytes <= MemoryStore::ENTRY_OVERHEAD) {
            let cure =
                format!("must be more than {}, what an empty entry takes", MemoryStore::ENTRY_OVERHEAD);
            return Err(Error::config("max_bytes", cure));
        }
        Ok(MemoryStore { inner: Inner::new(Room::new(self.max_entries, self.max_bytes)) })
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        Ok(self.inner.get(key))
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        let stored = self.inner.put(key, &value, ttl, |_| None::<()>);
        stored.map(drop).map_err(|error| error.operation("set"))
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        let absent = self.inner.remove(key, |live| live.is_none().then_some(()));
        Ok(absent.is_none())
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
impl AtomicStore for MemoryStore {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        let taken = self.inner.put(key, &value, ttl, |live| live.map(drop));
        taken.map(|taken| taken.is_none()).map_err(|error| error.operation("create"))
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        let refused = self.inner.put(key, &value, ttl, |live| mismatch(live, expected));
        refused.map(|refused| refused.unwrap_or(Swapped::Done)).map_err(|error| error.operation("replace"))
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        let refused = self.inner.remove(key, |live| mismatch(live, expected));
        Ok(refused.unwrap_or(Swapped::Done))
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        Ok(self.inner.touch(key, ttl))
    }
}

#[async_trait]
impl IndexedStore for MemoryStore {
    /// # Errors
    /// [`ErrorKind::Value`] when the user's name is empty or longer than 255 bytes.
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        check_user("memory", user)?;
        self.inner.bind(key, user, ttl);
        Ok(())
    }

    async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
        let (mut keys, mut last) = (Vec::new(), None);
        loop {
            let some = self.inner.bound_after(user, last.as_ref());
            for key in some.iter().filter(|key| self.inner.is_bound(key, user)) {
                keys.push(inner::key_of(key)?);
            }
            match next_of(some) {
                Some(next) => last = Some(next),
                None => return Ok(keys),
            }
            breathe().await;
        }
    }

    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        let (mut destroyed, mut last) = (0, None);
        loop {
            let some = self.inner.bound_after(user, last.as_ref());
            for key in &some {
                let spared = except.is_some_and(|except| except.as_bytes() == &**key);
                destroyed += u64::from(!spared && self.inner.destroy_bound(key, user));
            }
            match next_of(some) {
                Some(next) => last = Some(next),
                None => return Ok(destroyed),
            }
            breathe().await;
        }
    }
}

#[async_trait]
impl AdminStore for MemoryStore {
    fn scan(&self) -> BoxStream<'_, Result<Key>> {
        let batches = stream::unfold((0, u32::MAX), move |(mut stripe, mut cursor)| async move {
            if cursor == 0 {
                (stripe, cursor) = (stripe + 1, u32::MAX);
                breathe().await;
            }
            if stripe == SHARDS {
                return None;
            }
            let keys = self.inner.keys_below(stripe, &mut cursor);
            Some((stream::iter(keys), (stripe, cursor)))
        });
        batches.flatten().boxed()
    }

    async fn len(&self) -> Result<u64> {
        let mut len = 0;
        for stripe in 0..SHARDS {
            // What is expired is not counted; removing it is the quickest way not to.
            while self.inner.sweep(stripe, BATCH).1 {
                breathe().await;
            }
            len += self.inner.entries(stripe);
        }
        Ok(len)
    }

    async fn clear(&self) -> Result<u64> {
        let mut cleared = 0;
        for stripe in 0..SHARDS {
            let mut cursor = u32::MAX;
            while cursor > 0 {
                cleared += self.inner.clear_below(stripe, &mut cursor);
                breathe().await;
            }
        }
        Ok(cleared)
    }

    async fn sweep(&self, limit: u32) -> Result<u64> {
        let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut swept = 0;
        for stripe in 0..SHARDS {
            loop {
                let (removed, more) = self.inner.sweep(stripe, left);
                swept += removed as u64;
                left -= removed;
                if left == 0 {
                    return Ok(swept);
                }
                if !more {
                    break;
                }
                breathe().await;
            }
        }
        Ok(swept)
    }
}

/// Says why a conditional write may not be applied to what is there.
fn mismatch(live: Option<&Value>, expected: &[u8]) -> Option<Swapped> {
    match live {
        None => Some(Swapped::Gone),
        Some(value) if value.equals(expected) => None,
        Some(value) => Some(Swapped::Conflict(value.value())),
    }
}

/// Returns where to go on after a batch of a user's keys, or `None` if it was the last.
fn next_of(mut batch: Vec<Arc<[u8]>>) -> Option<Arc<[u8]>> {
    if batch.len() < BATCH { None } else { batch.pop() }
}

/// Lets other tasks of the same thread run, whatever the runtime: work on a million entries is no reason to stop them.
async fn breathe() {
    let mut rested = false;
    poll_fn(|context| {
        if rested {
            return Poll::Ready(());
        }
        rested = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
