//! `Fleet`, two instances of an application in the middle of a move: one leaves sessions in place, one moves them.

use cloakroom::{
    AdminStore, AtomicStore, BoxStream, Bytes, IndexedStore, Key, Migrating, Result, StatusStream, Store,
    Swapped, Ttl, async_trait,
};

/// Begins sessions through the instance that leaves them in the old store, and does all else through the other.
#[derive(Clone, Debug)]
pub(crate) struct Fleet<F, T> {
    begins: Migrating<F, T>,
    moves: Migrating<F, T>,
}

impl<F: Store + Clone, T: Store + Clone> Fleet<F, T> {
    pub(crate) fn new(from: F, to: T) -> Self {
        let moves = Migrating::new(from, to).expect("both compare and swap");
        Self { begins: moves.clone().in_place(), moves }
    }
}

#[async_trait]
impl<F: Store, T: Store> Store for Fleet<F, T> {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.moves.get(key).await
    }
    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.begins.set(key, value, ttl).await
    }
    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.moves.destroy(key).await
    }
    fn status(&self) -> StatusStream {
        self.moves.status()
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
impl<F: Store, T: Store> AtomicStore for Fleet<F, T> {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        self.begins.create(key, value, ttl).await
    }
    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        self.moves.replace(key, expected, value, ttl).await
    }
    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        self.moves.remove(key, expected).await
    }
    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        self.moves.touch(key, ttl).await
    }
}

#[async_trait]
impl<F: Store, T: Store> IndexedStore for Fleet<F, T> {
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        self.begins.bind(key, user, ttl).await
    }
    async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
        self.moves.keys_of(user).await
    }
    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        self.moves.destroy_user(user, except).await
    }
}

#[async_trait]
impl<F: Store, T: Store> AdminStore for Fleet<F, T> {
    fn scan(&self) -> BoxStream<'_, Result<Key>> {
        self.moves.scan()
    }
    async fn len(&self) -> Result<u64> {
        self.moves.len().await
    }
    async fn clear(&self) -> Result<u64> {
        self.moves.clear().await
    }
    async fn sweep(&self, limit: u32) -> Result<u64> {
        self.moves.sweep(limit).await
    }
}
