//! What all handles of a memory store share: the shards, and every operation on them, none of which waits.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc, Weak,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
};

use bytes::Bytes;
use cloakroom_core::{Error, ErrorKind, Key, Result, Ttl};
use parking_lot::{Mutex, MutexGuard};

use super::{
    clock::Clock,
    room::Room,
    shard::{Shard, Value},
    sweeper::Alarm,
    table::{Item, Table},
    users::Users,
};

/// A power of two.
pub(super) const SHARDS: usize = 64;

/// The most entries that are removed, or looked at in a row, under one lock: some tens of microseconds.
pub(super) const BATCH: usize = 64;

/// The most renewed entries that are moved back in a queue to find the one nearest to expiry.
const EFFORT: usize = 256;

pub(super) struct Inner {
    stripes: Box<[Stripe]>,
    pub(super) users: Users,
    room: Option<Room>,
    pub(super) clock: Clock,
    /// Keyed at random: third parties may choose keys.
    hasher: RandomState,
    pub(super) alarm: Arc<Alarm>,
    /// There is no sweeper thread, so writers sweep.
    unswept: AtomicBool,
    this: Weak<Self>,
}

/// A shard behind its lock, and what may be known of it without.
#[repr(align(128))]
struct Stripe {
    shard: Mutex<Shard>,
    values_due: AtomicU64,
    bindings_due: AtomicU64,
}

/// Where a key is.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    pub(super) stripe: usize,
    pub(super) tag: u32,
}

/// How a write ended.
enum Step<T> {
    Refused(T),
    Stored { _old: Option<Value> },
    NoRoom,
}

/// Sums over the shards.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) bindings: u64,
    pub(super) expired: u64,
    pub(super) evicted: u64,
}

impl Inner {
    pub(super) fn new(room: Option<Room>) -> Arc<Self> {
        let stripe = || Stripe {
            shard: Mutex::new(Shard::new()),
            values_due: AtomicU64::new(u64::MAX),
            bindings_due: AtomicU64::new(u64::MAX),
        };
        Arc::new_cyclic(|this| Self {
            stripes: std::iter::repeat_with(stripe).take(SHARDS).collect(),
            users: Users::new(),
            room,
            clock: Clock::new(),
            hasher: RandomState::new(),
            alarm: Alarm::new(),
            unswept: AtomicBool::new(false),
            this: this.clone(),
        })
    }

    pub(super) fn get(&self, key: &Key) -> Option<Bytes> {
        let spot = self.spot(key.as_bytes());
        let shard = self.stripes[spot.stripe].shard.lock();
        let item = shard.live(spot.tag, key.as_bytes(), self.clock.now())?;
        Some(shard.values.get(item).value())
    }

    /// Stores a value, unless `refuse` answers something about the live value that is there.
    pub(super) fn put<T>(
        &self,
        key: &Key,
        value: &[u8],
        ttl: Ttl,
        refuse: impl Fn(Option<&Value>) -> Option<T>,
    ) -> Result<Option<T>> {
        let spot = self.spot(key.as_bytes());
        if self.unswept.load(Relaxed) {
            self.sweep(spot.stripe, 2);
        }
        let mut fresh = Some(Value::new(key, value));
        loop {
            let step = self.change(spot.stripe, |shard, now| {
                let found = shard.values.find(spot.tag, key.as_bytes());
                let old = found.map(|item| shard.values.get(item));
                let live = old.filter(|value| value.is_live(now));
                if let Some(refusal) = refuse(live) {
                    return Step::Refused(refusal);
                }
                let lapsed = old.is_some() && live.is_none();
                let old = old.map(Value::cost);
                let cost = fresh.as_ref().map_or(0, Value::cost);
                if self.room.as_ref().is_some_and(|room| !room.take(cost, old)) {
                    return Step::NoRoom;
                }
                shard.expired += u64::from(lapsed);
                let value = fresh.take().map(|value| value.dies_at(now.saturating_add(nanos(ttl))));
                match (found, value) {
                    (Some(item), Some(value)) => Step::Stored { _old: Some(shard.overwrite(item, value)) },
                    (None, Some(value)) => {
                        shard.insert(spot.tag, value);
                        Step::Stored { _old: None }
                    }
                    (_, None) => Step::Stored { _old: None },
                }
            });
            match (step, &fresh) {
                (Step::Refused(refusal), _) => return Ok(Some(refusal)),
                (Step::NoRoom, Some(value)) if self.could_hold(value) => self.evict(spot, key),
                (Step::NoRoom, Some(_)) => {
                    let hint = "the value is larger than the store's `max_bytes`";
                    return Err(Error::new(ErrorKind::TooLarge).store("memory").hint(hint));
                }
                (Step::Stored { .. } | Step::NoRoom, _) => return Ok(None),
            }
        }
    }

    /// Removes the live value under `key`, unless `refuse` answers something about it.
    pub(super) fn remove<T>(&self, key: &Key, refuse: impl Fn(Option<&Value>) -> Option<T>) -> Option<T> {
        let spot = self.spot(key.as_bytes());
        let (refusal, _removed) = self.change(spot.stripe, |shard, now| {
            let live = shard.live(spot.tag, key.as_bytes(), now);
            let refusal = refuse(live.map(|item| shard.values.get(item)));
            let removed = live.filter(|_| refusal.is_none()).map(|item| self.take(shard, item, now));
            (refusal, removed)
        });
        refusal
    }

    pub(super) fn touch(&self, key: &Key, ttl: Ttl) -> bool {
        let spot = self.spot(key.as_bytes());
        self.change(spot.stripe, |shard, now| {
            let live = shard.live(spot.tag, key.as_bytes(), now);
            if let Some(item) = live {
                shard.renew(item, now.saturating_add(nanos(ttl)));
            }
            live.is_some()
        })
    }

    /// Returns the live keys among the next few entries below `cursor`, which starts above all of them.
    ///
    /// Numbers are walked downwards because removals only ever move an entry down, from the end: one that was not
    /// reached yet is still below the cursor, whatever comes and goes meanwhile.
    pub(super) fn keys_below(&self, stripe: usize, cursor: &mut u32) -> Vec<Result<Key>> {
        let mut keys = Vec::with_capacity(BATCH);
        let shard = self.stripes[stripe].shard.lock();
        let now = self.clock.now();
        for item in below(cursor, &shard.values) {
            let value = shard.values.get(item);
            if value.is_live(now) {
                keys.push(key_of(value.key()));
            }
        }
        keys
    }

    /// Removes the next few entries below `cursor`, as [`keys_below`](Self::keys_below), with their bindings, and
    /// returns how many were live.
    pub(super) fn clear_below(&self, stripe: usize, cursor: &mut u32) -> u64 {
        let mut removed = Vec::with_capacity(BATCH);
        self.change(stripe, |shard, now| {
            let mut live = 0;
            for item in below(cursor, &shard.values) {
                let tag = shard.values.tag(item);
                let value = self.take(shard, item, now);
                live += u64::from(value.is_live(now));
                if let Some(bound) = shard.bindings.find(tag, value.key()) {
                    self.forget(&shard.bindings.remove(bound));
                }
                removed.push(value);
            }
            live
        })
    }

    /// Removes at most `limit` expired entries, and says how many and whether it stopped before the end.
    pub(super) fn sweep(&self, stripe: usize, limit: usize) -> (usize, bool) {
        let due = self.stripes[stripe].due();
        if due == u64::MAX || due > self.clock.now() {
            return (0, false);
        }
        let mut removed = Vec::with_capacity(limit.min(BATCH));
        let take_out = |shard: &mut Shard, now| {
            let mut steps = 0..BATCH;
            while let Some(item) = shard.values.first_at(now) {
                if steps.next().is_none() || removed.len() == limit {
                    return true;
                }
                if shard.values.get(item).is_live(now) {
                    shard.values.settle(item);
                } else {
                    removed.push(self.take(shard, item, now));
                    shard.expired += 1;
                }
            }
            while let Some(bound) = shard.bindings.first_at(now) {
                if steps.next().is_none() {
                    return true;
                }
                if let Some(binding) = shard.review(bound, now) {
                    self.forget(&binding);
                }
            }
            false
        };
        // Handed on to who waits: a thread that takes the lock again at once would else keep it.
        let more = self.change_then(stripe, take_out, |shard| MutexGuard::unlock_fair(shard));
        (removed.len(), more)
    }

    /// Takes out what is due, as long as told to; `true` if it was told to stop.
    ///
    /// A shard is emptied before the next one, while it is in the cache; whoever waits for its lock gets it after each
    /// batch.
    pub(super) fn sweep_all(&self, go_on: impl Fn() -> bool) -> bool {
        for stripe in 0..SHARDS {
            while self.sweep(stripe, BATCH).1 {
                if !go_on() {
                    return true;
                }
            }
        }
        false
    }

    /// Returns when the next entry or binding wants to be looked at, `u64::MAX` for never.
    pub(super) fn next_due(&self) -> u64 {
        self.stripes.iter().map(Stripe::due).min().unwrap_or(u64::MAX)
    }

    /// Returns the number of entries in a shard, expired ones among them.
    pub(super) fn entries(&self, stripe: usize) -> u64 {
        u64::from(self.stripes[stripe].shard.lock().values.len())
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = self.stripes.iter().fold(Counts::default(), |sum, stripe| {
            let shard = stripe.shard.lock();
            Counts {
                entries: sum.entries + u64::from(shard.values.len()),
                bytes: sum.bytes + shard.bytes,
                bindings: sum.bindings + u64::from(shard.bindings.len()),
                expired: sum.expired + shard.expired,
                evicted: sum.evicted + shard.evicted,
            }
        });
        // Shards are added up one after the other; where there are bounds, there is a total that is never above them.
        if let Some(room) = &self.room {
            (counts.entries, counts.bytes) = room.taken();
        }
        counts
    }

    /// Makes room by removing the entry nearest to expiry, but not the one at `spare`.
    fn evict(&self, spare: Spot, key: &Key) {
        let mut passed_over = None;
        for attempt in 0..=SHARDS {
            let (mut first, mut rival) = ((u64::MAX, SHARDS), u64::MAX);
            for (number, stripe) in self.stripes.iter().enumerate() {
                let due = stripe.values_due.load(Relaxed);
                if Some(number) == passed_over {
                    continue;
                }
                rival = rival.min(due.max(first.0));
                first = first.min((due, number));
            }
            let stripe = first.1;
            if stripe == SHARDS || first.0 == u64::MAX {
                // Others took the room and have not let go of their locks yet: let them.
                thread::yield_now();
                return;
            }
            let victim = self.change(stripe, |shard, now| {
                let except =
                    (stripe == spare.stripe).then(|| shard.values.find(spare.tag, key.as_bytes())).flatten();
                let item = shard.values.nearest(except, EFFORT)?;
                // It was renewed since it was queued, so another shard's first may be nearer; but not for ever.
                if shard.values.get(item).due() > rival && attempt < SHARDS {
                    return None;
                }
                let value = self.take(shard, item, now);
                if value.is_live(now) {
                    shard.evicted += 1;
                } else {
                    shard.expired += 1;
                }
                Some(value)
            });
            if victim.is_some() {
                return;
            }
            if stripe == spare.stripe {
                passed_over = Some(stripe);
            }
        }
    }

    /// Takes a value out of its shard and gives back its room.
    pub(super) fn take(&self, shard: &mut Shard, item: u32, now: u64) -> Value {
        let value = shard.take(item, now);
        if let Some(room) = &self.room {
            room.give_back(value.cost());
        }
        value
    }

    fn could_hold(&self, value: &Value) -> bool {
        self.room.as_ref().is_none_or(|room| room.could_hold(value.cost()))
    }

    /// Runs `change` under the shard's lock and with a time read under it, then tells the sweeper what became due
    /// earlier. Let `change` return what it removed, so that memory is freed after the lock.
    pub(super) fn change<R>(&self, stripe: usize, change: impl FnOnce(&mut Shard, u64) -> R) -> R {
        self.change_then(stripe, change, |shard| drop(shard))
    }

    /// As [`change`](Self::change), but the lock is given up with `unlock`.
    fn change_then<R>(
        &self,
        stripe: usize,
        change: impl FnOnce(&mut Shard, u64) -> R,
        unlock: impl FnOnce(MutexGuard<'_, Shard>),
    ) -> R {
        let stripe = &self.stripes[stripe];
        let mut shard = stripe.shard.lock();
        let answer = change(&mut shard, self.clock.now());
        let sooner = stripe.publish(&shard);
        unlock(shard);
        if let Some(due) = sooner
            && self.alarm.sleeps_past(due)
            && !self.alarm.nudge(&self.this)
        {
            self.unswept.store(true, Relaxed);
        }
        answer
    }

    /// Lets time pass for this store.
    #[cfg(test)]
    pub(super) fn advance(&self, by: std::time::Duration) {
        self.clock.advance(by);
        self.alarm.nudge(&self.this);
    }

    /// Returns the number of users with a binding, and the number of places all tables have memory for.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> (usize, usize) {
        let places = |stripe: &Stripe| {
            let shard = stripe.shard.lock();
            shard.values.places() + shard.bindings.places()
        };
        (self.users.len(), self.stripes.iter().map(places).sum())
    }

    pub(super) fn spot(&self, key: &[u8]) -> Spot {
        // The bytes alone: the length that hashing a slice puts in front only matters where more than one is hashed.
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        let hash = hasher.finish();
        // The upper half chooses the shard and the lower one the place in it: they must not depend on each other.
        Spot { stripe: (hash >> 32) as usize % SHARDS, tag: hash as u32 }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.alarm.stop();
    }
}

impl Stripe {
    fn due(&self) -> u64 {
        self.values_due.load(SeqCst).min(self.bindings_due.load(SeqCst))
    }

    /// Lets others see what is due in the shard; returns it if that is sooner than it was.
    fn publish(&self, shard: &Shard) -> Option<u64> {
        let mut sooner = None;
        for (shown, due) in
            [(&self.values_due, shard.values.next_at()), (&self.bindings_due, shard.bindings.next_at())]
        {
            let before = shown.load(Relaxed);
            if due != before {
                shown.store(due, SeqCst);
            }
            if due < before {
                sooner = Some(sooner.map_or(due, |other: u64| other.min(due)));
            }
        }
        sooner
    }
}

/// Moves the cursor a batch down and returns the numbers it passed, highest first.
fn below<T: Item>(cursor: &mut u32, table: &Table<T>) -> impl Iterator<Item = u32> + use<T> {
    let top = (*cursor).min(table.len());
    *cursor = top.saturating_sub(BATCH as u32);
    (*cursor..top).rev()
}

pub(super) fn key_of(bytes: &[u8]) -> Result<Key> {
    Key::new(std::str::from_utf8(bytes).unwrap_or_default())
}

pub(super) const fn nanos(ttl: Ttl) -> u64 {
    ttl.millis().saturating_mul(1_000_000)
}
