//! One shard: the values and the bindings of the keys that hash to it.

use std::sync::Arc;

use bytes::Bytes;
use cloakroom_core::Key;

use super::table::{Item, Table};

/// How long a binding without a live value is kept, in nanoseconds: a key is bound before its value is written, and
/// whoever sweeps or lists in between must not lose the binding. Far longer than any store operation may take.
pub(super) const GRACE: u64 = 60_000_000_000;

/// What each value is counted with besides its key and itself: its places in the tables and the allocator's rounding.
pub(super) const OVERHEAD: u64 = 144;

/// A stored value with its key.
pub(super) struct Value {
    /// The key, then the value: one allocation for both, and reading clones a view of it.
    data: Bytes,
    dies: u64,
    key_len: u8,
}

impl Value {
    /// Copies both, so that the value pins no larger buffer it may have been cut from.
    pub(super) fn new(key: &Key, value: &[u8]) -> Self {
        let key = key.as_bytes();
        let mut data = Vec::with_capacity(key.len() + value.len());
        data.extend_from_slice(key);
        data.extend_from_slice(value);
        let data = Bytes::from(data);
        // The first clone allocates the reference count: here, and not in a reader that holds the lock.
        drop(data.clone());
        Self {
            data,
            dies: 0,
            // At most `Key::MAX_LEN`, 255.
            key_len: u8::try_from(key.len()).unwrap_or(u8::MAX),
        }
    }

    pub(super) const fn dies_at(mut self, dies: u64) -> Self {
        self.dies = dies;
        self
    }

    pub(super) const fn is_live(&self, now: u64) -> bool {
        self.dies > now
    }

    pub(super) fn value(&self) -> Bytes {
        self.data.slice(usize::from(self.key_len)..)
    }

    pub(super) fn equals(&self, value: &[u8]) -> bool {
        &self.data[usize::from(self.key_len)..] == value
    }

    pub(super) const fn cost(&self) -> u64 {
        self.data.len() as u64 + OVERHEAD
    }
}

impl Item for Value {
    fn key(&self) -> &[u8] {
        &self.data[..usize::from(self.key_len)]
    }

    fn due(&self) -> u64 {
        self.dies
    }
}

/// That a key belongs to a user.
pub(super) struct Binding {
    pub(super) key: Arc<[u8]>,
    pub(super) user: Arc<str>,
    /// When the binding lapses.
    dies: u64,
    /// When it was made or renewed.
    bound: u64,
    /// When to see whether it is still of use.
    check: u64,
}

impl Binding {
    pub(super) fn new(key: Arc<[u8]>, user: Arc<str>, now: u64, ttl: u64) -> Self {
        let mut binding = Self { key, user, dies: 0, bound: 0, check: now.saturating_add(GRACE) };
        binding.renew(now, ttl);
        binding
    }

    pub(super) fn renew(&mut self, now: u64, ttl: u64) {
        self.dies = now.saturating_add(ttl);
        self.bound = now;
        self.check = self.check.min(self.dies);
    }

    pub(super) const fn is_live(&self, now: u64) -> bool {
        self.dies > now
    }

    /// Returns when to look at the binding again, or `None` if it is of no more use.
    fn next_check(&self, value: Presence, now: u64) -> Option<u64> {
        let graced = self.bound.saturating_add(GRACE);
        match value {
            _ if !self.is_live(now) => None,
            // Not before it lapses: the shard hastens the check when the value leaves.
            Presence::Live => Some(self.dies),
            Presence::Absent => (graced > now).then(|| graced.min(self.dies)),
        }
    }
}

impl Item for Binding {
    fn key(&self) -> &[u8] {
        &self.key
    }

    fn due(&self) -> u64 {
        self.check
    }
}

#[derive(Clone, Copy)]
enum Presence {
    Live,
    Absent,
}

pub(super) struct Shard {
    pub(super) values: Table<Value>,
    pub(super) bindings: Table<Binding>,
    pub(super) bytes: u64,
    pub(super) expired: u64,
    pub(super) evicted: u64,
}

impl Shard {
    pub(super) const fn new() -> Self {
        Self { values: Table::new(), bindings: Table::new(), bytes: 0, expired: 0, evicted: 0 }
    }

    /// Returns the number of the live value under `key`.
    pub(super) fn live(&self, tag: u32, key: &[u8], now: u64) -> Option<u32> {
        self.values.find(tag, key).filter(|&item| self.values.get(item).is_live(now))
    }

    /// Stores a value whose key is not there yet.
    pub(super) fn insert(&mut self, tag: u32, value: Value) {
        self.bytes += value.cost();
        self.values.insert(tag, value);
    }

    /// Stores a value in the place of the one with the same key, and returns that.
    pub(super) fn overwrite(&mut self, item: u32, value: Value) -> Value {
        self.bytes += value.cost();
        let old = std::mem::replace(self.values.get_mut(item), value);
        self.bytes -= old.cost();
        self.values.hasten(item);
        old
    }

    pub(super) fn renew(&mut self, item: u32, dies: u64) {
        self.values.get_mut(item).dies = dies;
        self.values.hasten(item);
    }

    /// Takes a value out: the only way one leaves. Its binding, if there is one, is looked at soon.
    pub(super) fn take(&mut self, item: u32, now: u64) -> Value {
        let tag = self.values.tag(item);
        let value = self.values.remove(item);
        self.bytes -= value.cost();
        if !self.bindings.is_empty()
            && let Some(bound) = self.bindings.find(tag, value.key())
        {
            let binding = self.bindings.get_mut(bound);
            binding.check = binding.check.min(now.saturating_add(GRACE));
            self.bindings.hasten(bound);
        }
        value
    }

    /// Takes the binding out if it is of no more use, and otherwise sets the time to look again.
    pub(super) fn review(&mut self, bound: u32, now: u64) -> Option<Binding> {
        let tag = self.bindings.tag(bound);
        let value = match self.live(tag, self.bindings.get(bound).key(), now) {
            Some(_) => Presence::Live,
            None => Presence::Absent,
        };
        match self.bindings.get(bound).next_check(value, now) {
            None => Some(self.bindings.remove(bound)),
            Some(check) => {
                self.bindings.get_mut(bound).check = check;
                self.bindings.settle(bound);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding::new(Arc::from(&b"k"[..]), Arc::from("u"), 100, 10 * GRACE)
    }

    #[test]
    fn a_binding_waits_for_its_value_but_not_for_ever() {
        let binding = binding();
        assert_eq!(binding.next_check(Presence::Absent, 100 + GRACE - 1), Some(100 + GRACE));
        assert_eq!(binding.next_check(Presence::Absent, 100 + GRACE), None);
    }

    #[test]
    fn a_binding_stays_with_its_value_until_it_lapses() {
        let binding = binding();
        let lapses = 100 + 10 * GRACE;
        assert_eq!(binding.next_check(Presence::Live, lapses - 1), Some(lapses));
        assert_eq!(binding.next_check(Presence::Live, lapses), None);
    }

    #[test]
    fn a_value_is_a_copy_that_pins_nothing() {
        let large = Bytes::from(vec![7; 100_000]);
        let cut = large.slice(10..20);
        let value = Value::new(&Key::new("k").unwrap(), &cut);
        drop(cut);
        assert_eq!(value.value(), large.slice(10..20));
        assert!(large.is_unique());
        assert_eq!(value.cost(), 11 + OVERHEAD);
    }
}
