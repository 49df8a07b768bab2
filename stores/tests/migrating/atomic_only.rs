//! `AtomicOnly`, a store that can compare and swap and nothing else.

use cloakroom::{AtomicStore, Bytes, Key, MemoryStore, Result, Store, Swapped, Ttl, async_trait};

/// A memory store without its index and its administration.
#[derive(Clone, Debug, Default)]
pub(crate) struct AtomicOnly(MemoryStore);

#[async_trait]
impl Store for AtomicOnly {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.0.get(key).await
    }
    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.0.set(key, value, ttl).await
    }
    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.0.destroy(key).await
    }
    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for AtomicOnly {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        self.0.create(key, value, ttl).await
    }
    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        self.0.replace(key, expected, value, ttl).await
    }
    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        self.0.remove(key, expected).await
    }
    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        self.0.touch(key, ttl).await
    }
}
