//! The bounds of a memory store: how many entries and bytes it may hold, and how many it does.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts towards the bounds, when there are any. Never above them: who finds no room must make some first.
pub(super) struct Room {
    max_entries: u64,
    max_bytes: u64,
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl Room {
    /// Creates the room for these bounds, or `None` if there are none: then nothing has to be counted across shards.
    pub(super) fn new(max_entries: Option<u64>, max_bytes: Option<u64>) -> Option<Self> {
        (max_entries.is_some() || max_bytes.is_some()).then(|| Self {
            max_entries: max_entries.unwrap_or(u64::MAX),
            max_bytes: max_bytes.unwrap_or(u64::MAX),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// Returns whether an entry of this cost fits into the empty store.
    pub(super) const fn could_hold(&self, cost: u64) -> bool {
        cost <= self.max_bytes
    }

    /// Takes room for an entry of `cost`, in the place of one of cost `old` if there was one; `false`: there is none.
    pub(super) fn take(&self, cost: u64, old: Option<u64>) -> bool {
        let freed = old.unwrap_or(0);
        let fits = |bytes: u64| {
            let after = bytes.saturating_sub(freed).saturating_add(cost);
            (after <= self.max_bytes || cost <= freed).then_some(after)
        };
        if cost != freed && self.bytes.fetch_update(Relaxed, Relaxed, fits).is_err() {
            return false;
        }
        let one_more = |entries: u64| (entries < self.max_entries).then(|| entries + 1);
        if old.is_none() && self.entries.fetch_update(Relaxed, Relaxed, one_more).is_err() {
            self.bytes.fetch_sub(cost, Relaxed);
            return false;
        }
        true
    }

    /// Returns the number of entries and bytes that room was taken for.
    pub(super) fn taken(&self) -> (u64, u64) {
        (self.entries.load(Relaxed), self.bytes.load(Relaxed))
    }

    /// Gives back the room of an entry of `cost`.
    pub(super) fn give_back(&self, cost: u64) {
        self.bytes.fetch_sub(cost, Relaxed);
        self.entries.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_leaves_no_trace() {
        let room = Room::new(Some(1), Some(100)).unwrap();
        assert!(room.take(60, None));
        assert!(!room.take(30, None));
        assert!(!room.take(101, Some(60)));
        assert!(room.take(100, Some(60)));
        assert!(room.take(10, Some(100)));
        room.give_back(10);
        assert!(room.take(100, None));
    }
}
