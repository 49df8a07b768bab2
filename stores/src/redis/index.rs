//! Which sessions belong to a user.
//!
//! Two things are kept for a binding: a member in the user's sorted set, scored by when the binding expires, and a note
//! under the key's own name that says who its user is. The note decides; the set is where to look. A set drops what
//! has expired whenever it is read or written, and what is stale when it is read.

use std::collections::HashSet;

use async_trait::async_trait;
use cloakroom_core::{Error, ErrorKind, IndexedStore, Key, Result, Ttl};
use futures_util::{StreamExt, TryStreamExt, future::try_join, stream};
use redis::Value;

use super::{
    RedisStore,
    classify::STORE,
    reply,
    script::{BIND, BOUND, FORGET},
};

/// The longest name of a user, in bytes.
const MAX_USER_LEN: usize = 255;

/// For how long nobody takes a binding without a value for stale, in milliseconds.
const GRACE: u64 = 60_000;

/// How many keys are looked at together.
const AT_ONCE: usize = 64;

/// How many keys one script call drops.
const BATCH: usize = 500;

#[async_trait]
impl IndexedStore for RedisStore {
    /// One round trip; in a cluster two, since the two names belong to different nodes.
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        if !is_user(user) {
            let error = Error::new(ErrorKind::Value).hint("a user is 1 to 255 bytes of text");
            return Err(error.store(STORE).operation("bind"));
        }
        self.note(key, user, ttl).await.map_err(|error| error.operation("bind"))
    }

    /// One round trip for the keys, and one more for all of their values.
    async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
        if !is_user(user) {
            return Ok(Vec::new());
        }
        self.live_keys(user).await.map_err(|error| error.operation("keys_of"))
    }

    /// One round trip for the keys, one for whom they belong to now, and one to remove their values.
    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        if !is_user(user) {
            return Ok(0);
        }
        self.end_all(user, except).await.map_err(|error| error.operation("destroy_user"))
    }
}

impl RedisStore {
    async fn note(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        let (set, owner) = (self.names().user(user), self.names().owner(key));
        let spread = self.backend().is_spread();
        let keys: &[&[u8]] = if spread { &[&set] } else { &[&set, &owner] };
        let bound = self.backend().run(&BIND, keys, |command| {
            command.arg(key.as_bytes()).arg(ttl.millis()).arg(user).arg(GRACE);
        });
        reply::one_or_none(&bound.await?)?;
        if spread {
            // Last, since it decides: until now the key belongs to whom it did before.
            let mut command = redis::cmd("SET");
            command.arg(&owner).arg(user).arg("PX").arg(ttl.millis());
            reply::okay(&self.backend().send(&owner, &command).await?)?;
        }
        Ok(())
    }

    async fn live_keys(&self, user: &str) -> Result<Vec<Key>> {
        let looked = self.bound_to(user).await?.into_iter().map(|key| self.look(key, user));
        let looked: Vec<_> = stream::iter(looked).buffer_unordered(AT_ONCE).try_collect().await?;
        let (live, stale): (Vec<_>, Vec<_>) = looked.into_iter().partition(|(_, is_live)| *is_live);
        let set = self.names().user(user);
        for batch in stale.chunks(BATCH) {
            let keys = [&*set];
            let forget = self.backend().run(&FORGET, &keys, |command| {
                for (key, _) in batch {
                    command.arg(key.as_bytes());
                }
            });
            reply::count(&forget.await?)?;
        }
        Ok(live.into_iter().map(|(key, _)| key).collect())
    }

    async fn end_all(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        let keys = self.bound_to(user).await?.into_iter().filter(|key| Some(key) != except);
        let ended = stream::iter(keys.map(|key| self.end(key, user))).buffer_unordered(AT_ONCE);
        ended.try_fold(0, async |sum, ended| Ok(sum + u64::from(ended))).await
    }

    /// Returns the keys that a user's set names, whether or not they are still the user's.
    async fn bound_to(&self, user: &str) -> Result<HashSet<Key>> {
        let bound = self.backend().run(&BOUND, &[&self.names().user(user)], |_| ()).await?;
        let keys = reply::list(bound)?.into_iter();
        // Nothing but keys was put there by us.
        Ok(keys.filter_map(|key| Key::new(String::from_utf8(key).ok()?).ok()).collect())
    }

    /// Looks whether a key still belongs to a user and has a live value.
    async fn look(&self, key: Key, user: &str) -> Result<(Key, bool)> {
        let value = self.names().value(&key);
        let mut exists = redis::cmd("EXISTS");
        exists.arg(&value);
        let (owned, exists) =
            try_join(self.is_owner(&key, user), self.backend().send(&value, &exists)).await?;
        Ok((key, owned && reply::one_or_none(&exists)?))
    }

    /// Removes the value under a key that still belongs to a user.
    async fn end(&self, key: Key, user: &str) -> Result<bool> {
        Ok(self.is_owner(&key, user).await? && self.unlink(&self.names().value(&key)).await?)
    }

    async fn is_owner(&self, key: &Key, user: &str) -> Result<bool> {
        let owner = self.names().owner(key);
        let mut get = redis::cmd("GET");
        get.arg(&owner);
        Ok(match self.backend().send(&owner, &get).await? {
            Value::BulkString(name) => name == user.as_bytes(),
            Value::Nil => false,
            _ => return Err(reply::unexpected()),
        })
    }
}

const fn is_user(user: &str) -> bool {
    !user.is_empty() && user.len() <= MAX_USER_LEN
}
