//! The store of sessions that need none: their records are in the cookie.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    error::Result,
    id::Key,
    store::{AtomicStore, Store, Swapped, Ttl},
};

/// Keeps nothing: what a layer is given for a store when its [`Profile`](crate::Profile) keeps the session in the cookie.
///
/// Together with any other profile it is an error of `build()`. Whatever is written is answered as done, since the
/// browser has it then, and nothing is ever found. So parallel requests know nothing of one another: the guarantee is
/// [`Guarantee::LastWriterWins`](crate::Guarantee::LastWriterWins).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoStore;

#[async_trait]
impl Store for NoStore {
    async fn get(&self, _: &Key) -> Result<Option<Bytes>> {
        Ok(None)
    }

    async fn set(&self, _: &Key, _: Bytes, _: Ttl) -> Result<()> {
        Ok(())
    }

    async fn destroy(&self, _: &Key) -> Result<bool> {
        Ok(true)
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for NoStore {
    async fn create(&self, _: &Key, _: Bytes, _: Ttl) -> Result<bool> {
        Ok(true)
    }

    async fn replace(&self, _: &Key, _: &[u8], _: Bytes, _: Ttl) -> Result<Swapped> {
        Ok(Swapped::Done)
    }

    async fn remove(&self, _: &Key, _: &[u8]) -> Result<Swapped> {
        Ok(Swapped::Done)
    }

    async fn touch(&self, _: &Key, _: Ttl) -> Result<bool> {
        Ok(true)
    }
}
