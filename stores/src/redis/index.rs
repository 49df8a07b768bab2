//! Which sessions belong to a user.
//!
//! Two things are kept for a binding: a member in the user's sorted set, scored by when the binding expires, and a note
//! under the key's own name that says who its user is. The note decides; the set is where to look. A set drops what
//! has expired whenever it is read or written, and what is stale when it is read.

use async_trait::async_trait;
use cloakroom_core::{IndexedStore, Key, Result, Ttl};
use futures_util::{StreamExt, TryStreamExt, future::try_join, stream};
use redis::Value;

use super::{
    RedisStore,
    classify::STORE,
    command::command,
    reply,
    script::{BIND, BOUND, END, FORGET, LIVE},
};
use crate::user::{check_user, is_user};

/// For how long nobody takes a binding without a value for stale, in milliseconds.
const GRACE: &[u8] = b"60000";

/// How many keys of a cluster are looked at together.
const AT_ONCE: usize = 64;

/// How many keys one script looks at, ends or drops: a server does nothing else meanwhile.
const BATCH: usize = 500;

#[async_trait]
impl IndexedStore for RedisStore {
    /// One round trip; in a cluster two, since the two names belong to different nodes.
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        check_user(STORE, user)?;
        self.note(key, user, ttl).await.map_err(|error| error.operation("bind"))
    }

    /// One round trip for the keys, and one more for each 500 of them.
    async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
        if !is_user(user) {
            return Ok(Vec::new());
        }
        self.live_keys(user).await.map_err(|error| error.operation("keys_of"))
    }

    /// One round trip for the keys, and one more for each 500 of them; in a cluster two for each key, side by side.
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
        let (ttl, user) = (ttl.millis().to_string(), user.as_bytes());
        let args = [key.as_bytes(), ttl.as_bytes(), user, GRACE];
        reply::one_or_none(&self.backend().run(&BIND, keys, &args).await?)?;
        if spread {
            // Last, since it decides: until now the key belongs to whom it did before.
            let note = command([b"SET", &*owner, user, b"PX", ttl.as_bytes()].into_iter());
            reply::okay(&self.backend().send(&owner, note).await?)?;
        }
        Ok(())
    }

    async fn live_keys(&self, user: &str) -> Result<Vec<Key>> {
        let (mut live, mut stale) = (Vec::new(), Vec::new());
        let bound = self.bound_to(user).await?;
        for batch in bound.chunks(BATCH) {
            for (key, is_live) in batch.iter().zip(self.look(batch, user).await?) {
                if is_live { live.push(key.clone()) } else { stale.push(key) }
            }
        }
        let set = self.names().user(user);
        for batch in stale.chunks(BATCH) {
            let keys: Vec<&[u8]> = batch.iter().map(|key| key.as_bytes()).collect();
            reply::count(&self.backend().run(&FORGET, &[&set], &keys).await?)?;
        }
        Ok(live)
    }

    async fn end_all(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        let mut bound = self.bound_to(user).await?;
        bound.retain(|key| Some(key) != except);
        let mut ended = 0;
        for batch in bound.chunks(BATCH) {
            ended += self.end(batch, user).await?;
        }
        Ok(ended)
    }

    /// Returns the keys that a user's set names, whether or not they are still the user's.
    async fn bound_to(&self, user: &str) -> Result<Vec<Key>> {
        let bound = self.backend().run(&BOUND, &[&self.names().user(user)], &[]).await?;
        let keys = reply::list(bound)?.into_iter();
        // Nothing but keys was put there by us.
        Ok(keys.filter_map(|key| Key::new(String::from_utf8(key).ok()?).ok()).collect())
    }

    /// Looks of each key whether it still belongs to a user and has a live value.
    async fn look(&self, keys: &[Key], user: &str) -> Result<Vec<bool>> {
        if self.backend().is_spread() {
            let looked = keys.iter().cloned().map(|key| self.look_at(key, user));
            return stream::iter(looked).buffered(AT_ONCE).try_collect().await;
        }
        let names = self.pairs(keys);
        let names: Vec<&[u8]> = names.iter().map(|name| &**name).collect();
        let looked = self.backend().run(&LIVE, &names, &[user.as_bytes()]).await?;
        reply::flags(looked, keys.len())
    }

    async fn look_at(&self, key: Key, user: &str) -> Result<bool> {
        let value = self.names().value(&key);
        let exists = command([b"EXISTS", &*value].into_iter());
        let (owned, exists) =
            try_join(self.is_owner(&key, user), self.backend().send(&value, exists)).await?;
        Ok(owned && reply::one_or_none(&exists)?)
    }

    /// Removes the values under those keys that still belong to a user, and counts the live ones.
    async fn end(&self, keys: &[Key], user: &str) -> Result<u64> {
        if self.backend().is_spread() {
            let ended = stream::iter(keys.iter().cloned().map(|key| self.end_one(key, user)))
                .buffer_unordered(AT_ONCE);
            return ended.try_fold(0, async |sum, ended| Ok(sum + u64::from(ended))).await;
        }
        let names = self.pairs(keys);
        let names: Vec<&[u8]> = names.iter().map(|name| &**name).collect();
        reply::count(&self.backend().run(&END, &names, &[user.as_bytes()]).await?)
    }

    async fn end_one(&self, key: Key, user: &str) -> Result<bool> {
        Ok(self.is_owner(&key, user).await? && self.unlink(&self.names().value(&key)).await?)
    }

    /// Returns the names of the note and the value of each key, one after the other.
    fn pairs(&self, keys: &[Key]) -> Vec<Vec<u8>> {
        keys.iter().flat_map(|key| [self.names().owner(key), self.names().value(key)]).collect()
    }

    async fn is_owner(&self, key: &Key, user: &str) -> Result<bool> {
        let owner = self.names().owner(key);
        let get = command([b"GET", &*owner].into_iter());
        Ok(match self.backend().send(&owner, get).await? {
            Value::BulkString(name) => name == user.as_bytes(),
            Value::Nil => false,
            _ => return Err(reply::unexpected()),
        })
    }
}
