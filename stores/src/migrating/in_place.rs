//! Writes of sessions that are to stay in `from`, beside others that have moved.

use bytes::Bytes;
use cloakroom_core::{Key, Result, Store, Swapped, Ttl};

use super::{
    Migrating,
    held::{Held, MOVED},
    takeover::{TRIES, contention},
};

impl<F: Store, T: Store> Migrating<F, T> {
    /// As [`Store::set`]. A value in `from` is swapped and not set: one that was moved meanwhile is not there any more.
    pub(super) async fn set_in_place(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        let from = self.atomic_from()?;
        for _ in 0..TRIES {
            match self.to.get(key).await?.map(Held::read).transpose()? {
                Some(Held::Claim(claim)) => {
                    self.settle(key, claim).await?;
                    continue;
                }
                Some(Held::Value(_)) => {
                    // Unless it has just ended: a new one begins in `from`.
                    if self.swap_any(key, &value, ttl).await? {
                        return Ok(());
                    }
                    continue;
                }
                Some(Held::Moved) | None => {}
            }
            let written = match self.left(key).await? {
                Some(old) => from.replace(key, &old, value.clone(), ttl).await? == Swapped::Done,
                None => self.begin(key, &value, ttl).await?,
            };
            if written {
                return Ok(());
            }
        }
        Err(contention())
    }

    /// As [`AtomicStore::create`](cloakroom_core::AtomicStore::create), in `from`.
    pub(super) async fn create_in_place(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        if self.get(key).await?.is_some() {
            return Ok(false);
        }
        self.begin(key, &value, ttl).await
    }

    /// Creates a value in `from`, where nothing is but perhaps the note of an older one.
    async fn begin(&self, key: &Key, value: &Bytes, ttl: Ttl) -> Result<bool> {
        let from = self.atomic_from()?;
        if from.create(key, value.clone(), ttl).await? {
            return Ok(true);
        }
        Ok(from.replace(key, &MOVED, value.clone(), ttl).await? == Swapped::Done)
    }

    /// Puts `value` in the place of whatever value is in `to`; `false` if there is none.
    async fn swap_any(&self, key: &Key, value: &Bytes, ttl: Ttl) -> Result<bool> {
        let to = self.atomic_to()?;
        let Some(Held::Value(old)) = self.to.get(key).await?.map(Held::read).transpose()? else {
            return Ok(false);
        };
        Ok(to.replace(key, &old, value.clone(), ttl).await? == Swapped::Done)
    }
}
