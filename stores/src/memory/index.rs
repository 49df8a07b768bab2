//! Which keys belong to a user: the operations on bindings.

use std::sync::Arc;

use cloakroom_core::{Key, Ttl};

use super::{
    inner::{BATCH, Inner, nanos},
    shard::{Binding, Shard},
};

impl Inner {
    pub(super) fn bind(&self, key: &Key, user: &str, ttl: Ttl) {
        let spot = self.spot(key.as_bytes());
        self.change(spot.stripe, |shard, now| {
            let found = shard.bindings.find(spot.tag, key.as_bytes());
            if let Some(bound) = found
                && *shard.bindings.get(bound).user == *user
            {
                shard.bindings.get_mut(bound).renew(now, nanos(ttl));
                shard.bindings.hasten(bound);
                return;
            }
            if let Some(bound) = found {
                self.forget(&shard.bindings.remove(bound));
            }
            let key: Arc<[u8]> = Arc::from(key.as_bytes());
            let name = self.users.add(user, key.clone());
            shard.bindings.insert(spot.tag, Binding::new(key, name, now, nanos(ttl)));
        });
    }

    /// Returns the next few keys that were ever bound to `user`, in their order; none after the last.
    pub(super) fn bound_after(&self, user: &str, last: Option<&Arc<[u8]>>) -> Vec<Arc<[u8]>> {
        self.users.keys_after(user, last, BATCH)
    }

    /// Returns whether `key` is bound to `user` and has a live value. A binding that is of no more use is dropped.
    pub(super) fn is_bound(&self, key: &[u8], user: &str) -> bool {
        let spot = self.spot(key);
        self.change(spot.stripe, |shard, now| {
            let Some(bound) = bound_to(shard, spot.tag, key, user, now) else {
                return false;
            };
            if shard.live(spot.tag, key, now).is_some() {
                return true;
            }
            if let Some(binding) = shard.review(bound, now) {
                self.forget(&binding);
            }
            false
        })
    }

    /// Removes the value under `key` if the key is bound to `user`; `true` if it was live.
    ///
    /// The binding stays for a while: a write that is under way at this moment must not leave a session that no later
    /// call finds.
    pub(super) fn destroy_bound(&self, key: &[u8], user: &str) -> bool {
        let spot = self.spot(key);
        let removed = self.change(spot.stripe, |shard, now| {
            bound_to(shard, spot.tag, key, user, now)?;
            let item = shard.live(spot.tag, key, now)?;
            Some(self.take(shard, item, now))
        });
        removed.is_some()
    }

    /// Removes the other half of a binding that was taken out of its shard.
    pub(super) fn forget(&self, binding: &Binding) {
        self.users.remove(&binding.user, &binding.key);
    }
}

/// Returns the number of the live binding of `key`, if it is to `user`.
fn bound_to(shard: &Shard, tag: u32, key: &[u8], user: &str, now: u64) -> Option<u32> {
    shard.bindings.find(tag, key).filter(|&bound| {
        let binding = shard.bindings.get(bound);
        *binding.user == *user && binding.is_live(now)
    })
}
