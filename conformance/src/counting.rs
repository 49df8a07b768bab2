//! `Counting`, a wrapper that counts the calls of each operation.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cloakroom_core::{
    AdminStore, AtomicStore, BoxStream, Bytes, ErrorKind, IndexedStore, Key, Result, StatusStream, Store,
    Swapped, Ttl,
};
use futures_util::{TryStreamExt, stream};

use crate::operation::{Operation, forward_through_around};

/// Counts the calls of each operation and hands them on as they are.
///
/// Clones count together. An ability is handed out exactly when the inner store has it.
///
/// ```
/// use cloakroom_conformance::{Counting, Operation, Reference};
/// use cloakroom_core::{Bytes, Key, Store, Ttl};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = Counting::new(Reference::new());
/// let key = Key::new("a-key")?;
/// store.set(&key, Bytes::from_static(b"value"), Ttl::from_secs(60)).await?;
/// store.get(&key).await?;
/// store.get(&key).await?;
/// assert_eq!(store.counts().to_string(), "get 2, set 1");
/// assert_eq!(store.counts().of(Operation::Get), 2);
/// store.reset();
/// assert_eq!(store.counts().total(), 0);
/// # Ok::<(), cloakroom_core::Error>(()) }).unwrap();
/// ```
pub struct Counting<S> {
    inner: Arc<S>,
    counters: Arc<[AtomicU64; Operation::ALL.len()]>,
}

impl<S: Store> Counting<S> {
    /// Wraps `inner`; every count is 0.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self { inner: Arc::new(inner), counters: Arc::default() }
    }

    /// Returns the inner store. What is called on it is not counted.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Returns how often each operation was called since the start or the last [`reset`](Self::reset).
    ///
    /// A call counts when it is first polled, whether it succeeds or not. A scan counts once.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (count, counter) in counts.0.iter_mut().zip(&*self.counters) {
            *count = counter.load(Ordering::SeqCst);
        }
        counts
    }

    /// Begins again from 0.
    pub fn reset(&self) {
        for counter in &*self.counters {
            counter.store(0, Ordering::SeqCst);
        }
    }

    async fn around<T>(
        &self,
        operation: Operation,
        _: Option<&Key>,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.counters[operation as usize].fetch_add(1, Ordering::SeqCst);
        call.await
    }

    fn outer_status(&self) -> StatusStream {
        self.inner.status()
    }
}

impl<S> Clone for Counting<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), counters: Arc::clone(&self.counters) }
    }
}

impl<S: Store> fmt::Debug for Counting<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counting").field("inner", &self.inner).field("counts", &self.counts()).finish()
    }
}

forward_through_around!(Counting);

/// How often each operation of a [`Counting`] store was called. `Display` names those that were: `get 2, set 1`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([u64; Operation::ALL.len()]);

impl Counts {
    /// Returns the calls of one operation.
    #[must_use]
    pub const fn of(&self, operation: Operation) -> u64 {
        self.0[operation as usize]
    }

    /// Returns the calls of all operations together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns the calls of all operations that may change what is stored.
    #[must_use]
    pub fn writes(&self) -> u64 {
        let writes = Operation::ALL.into_iter().filter(|operation| operation.is_write());
        writes.map(|operation| self.of(operation)).sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for operation in Operation::ALL {
            let count = self.of(operation);
            if count > 0 {
                write!(f, "{separator}{operation} {count}")?;
                separator = ", ";
            }
        }
        if separator.is_empty() {
            f.write_str("nothing")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counts({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Plain, Reference};

    #[tokio::test]
    async fn every_operation_is_counted_under_its_own_name() {
        let store = Counting::new(Reference::new());
        let (key, value, ttl) = (Key::new("k").unwrap(), Bytes::new(), Ttl::from_secs(9));
        store.get(&key).await.unwrap();
        store.set(&key, value.clone(), ttl).await.unwrap();
        store.destroy(&key).await.unwrap();
        let atomic = store.as_atomic().unwrap();
        atomic.create(&key, value.clone(), ttl).await.unwrap();
        atomic.replace(&key, b"", value, ttl).await.unwrap();
        atomic.remove(&key, b"").await.unwrap();
        atomic.touch(&key, ttl).await.unwrap();
        let indexed = store.as_indexed().unwrap();
        indexed.bind(&key, "u", ttl).await.unwrap();
        indexed.keys_of("u").await.unwrap();
        indexed.destroy_user("u", None).await.unwrap();
        let admin = store.as_admin().unwrap();
        admin.scan().try_collect::<Vec<_>>().await.unwrap();
        admin.len().await.unwrap();
        admin.clear().await.unwrap();
        admin.sweep(1).await.unwrap();
        let counts = store.clone().counts();
        for operation in Operation::ALL {
            assert_eq!(counts.of(operation), 1, "{operation}");
        }
        assert_eq!((counts.total(), counts.writes()), (14, 10));
        store.reset();
        assert_eq!(store.counts().to_string(), "nothing");
    }

    #[tokio::test]
    async fn abilities_are_those_of_the_inner_store() {
        let plain = Counting::new(Plain::new(Reference::new()));
        assert!(plain.as_atomic().is_none() && plain.as_indexed().is_none() && plain.as_admin().is_none());
        let error = AtomicStore::touch(&plain, &Key::new("k").unwrap(), Ttl::MIN).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(plain.scan().try_next().await.is_err());
    }
}
