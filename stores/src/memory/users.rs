//! Which keys are bound to a user; the other direction is kept with the keys.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    ops::Bound,
    sync::Arc,
};

use hashbrown::HashMap;
use parking_lot::Mutex;

/// Shards of the users; fewer than of the keys, since a user is looked up at a login and not at a request.
const SHARDS: usize = 16;

/// A sorted set: a user's keys can be read a few at a time while they come and go.
type Keys = BTreeSet<Arc<[u8]>>;

/// The keys of each user. Locked after a key's shard, never before it.
pub(super) struct Users {
    shards: [Mutex<HashMap<Arc<str>, Keys, RandomState>>; SHARDS],
    hasher: RandomState,
}

impl Users {
    pub(super) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::new(HashMap::with_hasher(RandomState::new()))),
            hasher: RandomState::new(),
        }
    }

    /// Adds `key` to the keys of `user` and returns the user's shared name.
    pub(super) fn add(&self, user: &str, key: Arc<[u8]>) -> Arc<str> {
        let mut shard = self.shard(user).lock();
        if let Some((name, _)) = shard.get_key_value(user) {
            let name = name.clone();
            if let Some(keys) = shard.get_mut(user) {
                keys.insert(key);
            }
            return name;
        }
        let name: Arc<str> = Arc::from(user);
        shard.insert(name.clone(), BTreeSet::from([key]));
        name
    }

    /// Removes `key` from the keys of `user`, and the user with the last one.
    pub(super) fn remove(&self, user: &str, key: &[u8]) {
        let mut shard = self.shard(user).lock();
        let Some(keys) = shard.get_mut(user) else {
            return;
        };
        keys.remove(key);
        if keys.is_empty() {
            shard.remove(user);
            if shard.len() <= shard.capacity() / 4 {
                let room = shard.len() * 2;
                shard.shrink_to(room);
            }
        }
    }

    /// Returns at most `limit` keys of `user` that sort after `last`.
    pub(super) fn keys_after(&self, user: &str, last: Option<&Arc<[u8]>>, limit: usize) -> Vec<Arc<[u8]>> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let shard = self.shard(user).lock();
        let keys =
            shard.get(user).map(|keys| keys.range::<Arc<[u8]>, _>((from, Bound::Unbounded)).take(limit));
        keys.into_iter().flatten().cloned().collect()
    }

    fn shard(&self, user: &str) -> &Mutex<HashMap<Arc<str>, Keys, RandomState>> {
        let hash = self.hasher.hash_one(user);
        &self.shards[(hash % SHARDS as u64) as usize]
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_leaves_with_the_last_key() {
        let users = Users::new();
        for key in [b"a", b"b"] {
            users.add("ann", Arc::from(&key[..]));
        }
        users.remove("ann", b"a");
        assert_eq!(users.len(), 1);
        users.remove("ann", b"b");
        users.remove("nobody", b"b");
        assert_eq!(users.len(), 0);
    }

    #[test]
    fn keys_are_read_a_few_at_a_time_each_once() {
        let users = Users::new();
        for number in 0..100_u8 {
            users.add("ann", Arc::from(&[number][..]));
        }
        let (mut seen, mut last) = (Vec::new(), None);
        loop {
            let some = users.keys_after("ann", last.as_ref(), 7);
            let Some(end) = some.last().cloned() else { break };
            seen.extend(some);
            last = Some(end);
        }
        assert_eq!(seen.len(), 100);
    }
}
