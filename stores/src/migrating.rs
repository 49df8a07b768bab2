//! Two stores as one, while live sessions are moved from the one to the other.

mod held;
mod in_place;
mod takeover;

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_core::{
    AdminStore, AtomicStore, Error, Guarantee, IndexedStore, Key, Result, StatusStream, Store, Swapped, Ttl,
};
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};

use self::{
    held::{Held, MOVED, Stage, check},
    takeover::{TRIES, contention, unsupported},
};

/// Moves live sessions from one store to another while they are used: nobody is logged out.
///
/// New sessions begin in `to`. One that is still in `from` is read there, and moves when it is first written: saved,
/// renewed or touched. After the longest time that a session lives unused, every session that is left is in `to`;
/// [`left_behind`](Self::left_behind) counts those that are not. Then give the application `to` alone.
///
/// ```
/// # #[cfg(feature = "memory")] {
/// use cloakroom::{AtomicStore, Key, MemoryStore, Migrating, Store, Swapped, Ttl};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let (old, new) = (MemoryStore::new(), MemoryStore::new());
/// let (key, ttl) = (Key::new("a-key")?, Ttl::from_secs(60));
/// old.set(&key, "cart: 1".into(), ttl).await?;
///
/// let store = Migrating::new(old, new.clone())?;
/// assert_eq!(store.get(&key).await?.as_deref(), Some(&b"cart: 1"[..]));
/// assert_eq!(store.replace(&key, b"cart: 1", "cart: 2".into(), ttl).await?, Swapped::Done);
/// assert_eq!(new.get(&key).await?.as_deref(), Some(&b"cart: 2"[..]));
/// # Ok::<(), cloakroom::Error>(()) }).unwrap(); }
/// ```
///
/// # What it promises
/// Its guarantee is [`Guarantee::Migrating`]: nothing is lost and no logout is undone, whatever number of processes
/// moves, reads, changes and ends one session at once, and wherever one of them dies. A move that was cut off is
/// finished by whoever comes next. All this holds while **every** process that uses either store uses both, through
/// this type. It rests on compare-and-swap, so both stores must be [`AtomicStore`]s; an index or administration it has
/// if both have it.
///
/// # Rolling it out
/// An instance that knows only `from` does not see what has moved, and its visitors would be logged out. To change
/// without a gap, roll out [`in_place`](Self::in_place) first, which leaves every session where it is, and when all
/// instances are on it, the same without.
///
/// # Times
/// How long a value in `from` has left cannot be asked of a store. That is why a session moves with a write and not
/// with a read: the write says how long it shall live, and one that is only read ends on time in `from`. After a write
/// that was cut off the old value may stand with the new ttl, and live as long as that. An absolute end is in the record
/// itself, and holds in any case.
///
/// # What it costs
/// A session in `to` costs one call to read, to replace and to remove, two to touch, create, set and destroy; one in
/// `from` costs two to read. The one write that moves it costs eight. An id that is in neither store costs three. While
/// either store is away its status is disconnected. A note of some 20 bytes stays in `from` for each session that moved,
/// for as long as its entry in the index may last, if there is an index: delete the old table or prefix afterwards.
/// [`len`](AdminStore::len), [`clear`](AdminStore::clear) and [`scan`](AdminStore::scan) look at each key in `from`.
/// Of several calls that destroy a session during its move, more than one may answer that it did. A key that is created
/// anew while it is being destroyed may be destroyed again; no random key ever is.
///
/// # Risk
/// A store that loses acknowledged writes in a failover can lose the removal of a session from `from`. One that was then
/// destroyed in `to` alone would be back. Replicate `from` synchronously while sessions are moved, or do not fail over.
#[derive(Clone, Debug)]
pub struct Migrating<F, T> {
    from: F,
    to: T,
    place: Place,
}

/// Where a session is written that is still in `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In `to`: it moves.
    Moves,
    /// Where it is; new ones in `from`.
    Stays,
}

impl<F: Store, T: Store> Migrating<F, T> {
    /// Creates a store of both that moves sessions out of `from` into `to` as they are written.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](cloakroom_core::ErrorKind::Config) naming `from` or `to` when that store cannot compare and
    /// swap.
    pub fn new(from: F, to: T) -> Result<Self> {
        let cure = "must be a store that can compare and swap (an AtomicStore)";
        if from.as_atomic().is_none() {
            return Err(Error::config("from", cure));
        }
        if to.as_atomic().is_none() {
            return Err(Error::config("to", cure));
        }
        Ok(Self { from, to, place: Place::Moves })
    }

    /// Leaves sessions in `from`, where new ones begin as well, and uses those that others have moved to `to`.
    ///
    /// For the first of two roll-outs: while instances that know only `from` are still running.
    #[must_use]
    pub fn in_place(mut self) -> Self {
        self.place = Place::Stays;
        self
    }

    /// Returns the store that sessions are moved out of.
    #[must_use]
    pub const fn from(&self) -> &F {
        &self.from
    }

    /// Returns the store that sessions are moved to.
    #[must_use]
    pub const fn to(&self) -> &T {
        &self.to
    }

    /// Returns how many live sessions are still in `from`. Looks at each key there.
    ///
    /// # Errors
    /// As [`Store::get`], and [`ErrorKind::Unsupported`](cloakroom_core::ErrorKind::Unsupported) when `from` cannot
    /// list its keys.
    pub async fn left_behind(&self) -> Result<u64> {
        // Of a million keys two share a hash in one count of forty million.
        let (hasher, mut seen) = (RandomState::new(), HashSet::new());
        let mut keys = self.left_keys(admin(&self.from)?);
        while let Some(key) = keys.try_next().await? {
            seen.insert(hasher.hash_one(&key));
        }
        Ok(seen.len() as u64)
    }

    /// Yields the keys whose values are in `from`.
    fn left_keys<'a>(&'a self, admin: &'a dyn AdminStore) -> BoxStream<'a, Result<Key>> {
        let left = move |key: Key| async move { Ok(self.left(&key).await?.map(|_| key)) };
        admin.scan().try_filter_map(left).boxed()
    }

    /// Writes what is under `key` in `from`, if anything is, to where it belongs: with a note nothing of it counts.
    async fn bind_left(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        let indexed = indexed(&self.from)?;
        match self.from.get(key).await?.map(Held::read).transpose()? {
            Some(Held::Value(_)) => indexed.bind(key, user, ttl).await,
            // Bound in `to` by now: the entry in `from` may go.
            Some(Held::Moved) => self.atomic_from()?.remove(key, &MOVED).await.map(drop),
            Some(Held::Claim(_)) | None => Ok(()),
        }
    }
}

#[async_trait]
impl<F: Store, T: Store> Store for Migrating<F, T> {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let mut from_was_empty = false;
        for _ in 0..TRIES {
            let claim = match self.to.get(key).await?.map(Held::read).transpose()? {
                Some(Held::Value(value)) => return Ok(Some(value)),
                Some(Held::Claim(claim)) if claim.stage == Stage::Verified => Some(claim),
                // Seen after `from` was empty, so that nothing was on its way past us.
                Some(_) | None if from_was_empty => return Ok(None),
                Some(_) | None => None,
            };
            if let Some(value) = self.left(key).await? {
                return Ok(Some(value));
            }
            if let Some(claim) = claim {
                return Ok(Some(claim.value));
            }
            from_was_empty = true;
        }
        Err(contention())
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        check(&value)?;
        if self.place == Place::Stays {
            return self.set_in_place(key, value, ttl).await;
        }
        for _ in 0..TRIES {
            match self.left(key).await? {
                None => return self.to.set(key, value, ttl).await,
                Some(old) => match self.to.get(key).await?.map(Held::read).transpose()? {
                    Some(Held::Claim(claim)) => self.settle(key, claim).await?,
                    Some(Held::Value(_) | Held::Moved) => drop(self.retire(key, &old, Ttl::MAX).await?),
                    None => self.take_over(key, &old, ttl).await?,
                },
            }
        }
        Err(contention())
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        // In this order: see `takeover`.
        let was_left = self.destroy_left(key).await?;
        Ok(self.to.destroy(key).await? || was_left)
    }

    fn status(&self) -> StatusStream {
        self.from.status().both(self.to.status())
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Migrating
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }

    fn as_indexed(&self) -> Option<&dyn IndexedStore> {
        self.from.as_indexed().and(self.to.as_indexed()).map(|_| self as &dyn IndexedStore)
    }

    fn as_admin(&self) -> Option<&dyn AdminStore> {
        self.from.as_admin().and(self.to.as_admin()).map(|_| self as &dyn AdminStore)
    }
}

#[async_trait]
impl<F: Store, T: Store> AtomicStore for Migrating<F, T> {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        check(&value)?;
        if self.place == Place::Stays {
            return self.create_in_place(key, value, ttl).await;
        }
        if self.left(key).await?.is_some() {
            return Ok(false);
        }
        for _ in 0..TRIES {
            if self.atomic_to()?.create(key, value.clone(), ttl).await? {
                return Ok(true);
            }
            match self.to.get(key).await?.map(Held::read).transpose()? {
                Some(Held::Claim(claim)) if claim.stage == Stage::Pending => self.settle(key, claim).await?,
                Some(_) => return Ok(false),
                None => {}
            }
        }
        Err(contention())
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        check(&value)?;
        let mut from_was_empty = false;
        for _ in 0..TRIES {
            match self.atomic_to()?.replace(key, expected, value.clone(), ttl).await? {
                Swapped::Done => return Ok(Swapped::Done),
                Swapped::Conflict(found) => match Held::read(found)? {
                    Held::Claim(claim) => self.settle(key, claim).await?,
                    Held::Value(found) => return Ok(Swapped::Conflict(found)),
                    Held::Moved => return Ok(Swapped::Gone),
                },
                Swapped::Gone if from_was_empty => return Ok(Swapped::Gone),
                Swapped::Gone => match self.left(key).await? {
                    None => from_was_empty = true,
                    Some(found) if found != expected => return Ok(Swapped::Conflict(found)),
                    Some(_) if self.place == Place::Stays => {
                        let swapped = self.atomic_from()?.replace(key, expected, value.clone(), ttl).await?;
                        if swapped == Swapped::Done {
                            return Ok(Swapped::Done);
                        }
                    }
                    Some(_) => self.take_over(key, expected, ttl).await?,
                },
            }
        }
        Err(contention())
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        let mut from_was_empty = false;
        for _ in 0..TRIES {
            match self.atomic_to()?.remove(key, expected).await? {
                Swapped::Done => return Ok(Swapped::Done),
                Swapped::Conflict(found) => match Held::read(found)? {
                    Held::Claim(claim) => self.settle(key, claim).await?,
                    Held::Value(found) => return Ok(Swapped::Conflict(found)),
                    Held::Moved => return Ok(Swapped::Gone),
                },
                Swapped::Gone if from_was_empty => return Ok(Swapped::Gone),
                Swapped::Gone => match self.left(key).await? {
                    None => from_was_empty = true,
                    Some(found) if found != expected => return Ok(Swapped::Conflict(found)),
                    Some(_) => {
                        if self.retire(key, expected, takeover::BOUND).await? == Swapped::Done {
                            return self.remove_moved(key, expected).await;
                        }
                    }
                },
            }
        }
        Err(contention())
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        let mut from_was_empty = false;
        for _ in 0..TRIES {
            match self.to.get(key).await?.map(Held::read).transpose()? {
                Some(Held::Value(_)) => {
                    if self.atomic_to()?.touch(key, ttl).await? {
                        return Ok(true);
                    }
                }
                Some(Held::Claim(claim)) => self.settle(key, claim).await?,
                Some(Held::Moved) | None if from_was_empty => return Ok(false),
                Some(Held::Moved) | None => match self.left(key).await? {
                    None => from_was_empty = true,
                    Some(value) if self.place == Place::Stays => {
                        let same = self.atomic_from()?.replace(key, &value, value.clone(), ttl).await?;
                        if same == Swapped::Done {
                            return Ok(true);
                        }
                    }
                    Some(value) => self.take_over(key, &value, ttl).await?,
                },
            }
        }
        Err(contention())
    }
}

#[async_trait]
impl<F: Store, T: Store> IndexedStore for Migrating<F, T> {
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        let to = indexed(&self.to)?;
        if self.place == Place::Stays {
            // The value may be about to come up in `from`.
            indexed(&self.from)?.bind(key, user, ttl).await?;
            return to.bind(key, user, ttl).await;
        }
        to.bind(key, user, ttl).await?;
        self.bind_left(key, user, ttl).await
    }

    async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
        // What leaves `from` after this is in `to`, with an entry that stays in `from`.
        let bound = indexed(&self.from)?.keys_of(user).await?;
        let mut keys = Vec::new();
        for key in bound {
            if self.get(&key).await?.is_some() {
                keys.push(key);
            }
        }
        let mut seen: HashSet<Key> = keys.iter().cloned().collect();
        let moved = indexed(&self.to)?.keys_of(user).await?;
        keys.extend(moved.into_iter().filter(|key| seen.insert(key.clone())));
        Ok(keys)
    }

    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        let mut removed = 0;
        for key in indexed(&self.from)?.keys_of(user).await? {
            if Some(&key) != except {
                removed += u64::from(self.destroy(&key).await?);
            }
        }
        Ok(removed + indexed(&self.to)?.destroy_user(user, except).await?)
    }
}

#[async_trait]
impl<F: Store, T: Store> AdminStore for Migrating<F, T> {
    fn scan(&self) -> BoxStream<'_, Result<Key>> {
        match (admin(&self.from), admin(&self.to)) {
            // In this order: a key that moves meanwhile is met twice rather than not at all.
            (Ok(from), Ok(to)) => self.left_keys(from).chain(to.scan()).boxed(),
            (Err(error), _) | (_, Err(error)) => futures_util::stream::iter([Err(error)]).boxed(),
        }
    }

    /// A session that is being moved may count twice.
    async fn len(&self) -> Result<u64> {
        Ok(self.left_behind().await? + admin(&self.to)?.len().await?)
    }

    async fn clear(&self) -> Result<u64> {
        let left = self.left_behind().await?;
        admin(&self.from)?.clear().await?;
        Ok(left + admin(&self.to)?.clear().await?)
    }

    async fn sweep(&self, limit: u32) -> Result<u64> {
        let swept = admin(&self.from)?.sweep(limit).await?;
        let rest = limit.saturating_sub(u32::try_from(swept).unwrap_or(limit));
        Ok(swept + admin(&self.to)?.sweep(rest).await?)
    }
}

fn indexed(store: &impl Store) -> Result<&dyn IndexedStore> {
    store.as_indexed().ok_or_else(|| unsupported("one of the two stores has no index of users"))
}

fn admin(store: &impl Store) -> Result<&dyn AdminStore> {
    store.as_admin().ok_or_else(|| unsupported("one of the two stores cannot list its keys"))
}
