//! The store contract: everything a store author has to read.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::{error::Result, id::Key, status::StatusStream};
// Named in the documentation below.
#[cfg(doc)]
use crate::{error::ErrorKind, status::StatusSender};

/// Where sessions are kept: three methods and a stream of connection states.
///
/// A store maps opaque [`Key`]s to opaque bytes, each with a time to live. It never looks into either. These three
/// methods are enough to run; [`AtomicStore`] is what makes parallel requests safe, so write it too where the
/// backend can compare and swap. [`as_atomic`](Self::as_atomic), [`as_indexed`](Self::as_indexed) and
/// [`as_admin`](Self::as_admin) tell which abilities a store has.
///
/// # The rules, for every method
///
/// - **Absent is not an error**, and **expired is absent**: a value whose ttl has passed is not returned, not
///   compared with and not counted, even while its row is still there.
/// - **Every write has a ttl.** No value is ever stored without an expiry. A backend whose clock is coarser than a
///   millisecond rounds **up**. Expiry goes by the backend's clock where it has one, so that application servers
///   with wrong clocks agree.
/// - **A value is replaced whole**: no reader ever sees half of one and half of another.
/// - **A read observes every write that completed before it began**, from any process.
/// - **Values are opaque bytes**: any byte, any length up to the engine's limit (1 MiB unless configured), also
///   none. They come back as they went in. A backend with a lower limit answers [`ErrorKind::TooLarge`] and keeps
///   what it had.
/// - **Keys are opaque**: up to 255 printable ASCII bytes, quotes, `*`, `$` and dots among them. Bind them as
///   parameters. A store that needs room for something of its own, such as a prefix, may take shorter keys if its
///   documentation says so, but 128 bytes at least; every method answers [`ErrorKind::Value`] for a longer key and
///   changes nothing.
/// - **Dropping a future** leaves the store as before the call or as after it, never between.
/// - **Errors** say [`ErrorKind::Unavailable`] when the backend cannot be reached, [`ErrorKind::Timeout`] when it
///   took too long, [`ErrorKind::Rejected`] when it refused us, [`ErrorKind::Backend`] for the rest. They hold no
///   key, no value and no password.
/// - **An outage is an error, never an answer.** While the backend cannot be reached every operation ends within 5
///   seconds, with [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`]: absent would log everybody out, `Ok` would
///   lose a write, and a value from memory may be one that was destroyed. A write that failed was applied whole or not
///   at all, and is not sent later, over what was written since.
/// - **No operation is applied twice.** Switch off a driver's own retries of writes: a compare-and-swap that was
///   applied and then sent again answers `Conflict` for its own success.
///
/// # A complete store
///
/// This one runs, with [`Guarantee::LastWriterWins`], because it cannot compare and swap:
///
/// ```
/// use std::{collections::HashMap, sync::{Arc, Mutex}, time::Instant};
/// use cloakroom_core::{Bytes, Key, Result, Store, Ttl, async_trait};
///
/// #[derive(Clone, Default)]                       // clones are handles onto one map
/// struct MapStore(Arc<Mutex<HashMap<Key, (Bytes, Instant)>>>);
///
/// impl std::fmt::Debug for MapStore {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         f.write_str("MapStore")             // never the keys, never the values
///     }
/// }
///
/// #[async_trait]
/// impl Store for MapStore {
///     async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
///         let map = self.0.lock().expect("no code panics while it holds this lock");
///         Ok(map.get(key).filter(|(_, dies)| *dies > Instant::now()).map(|(value, _)| value.clone()))
///     }
///     async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
///         let mut map = self.0.lock().expect("no code panics while it holds this lock");
///         map.insert(key.clone(), (value, Instant::now() + ttl.duration()));
///         Ok(())
///     }
///     async fn destroy(&self, key: &Key) -> Result<bool> {
///         let mut map = self.0.lock().expect("no code panics while it holds this lock");
///         Ok(map.remove(key).is_some_and(|(_, dies)| dies > Instant::now()))
///     }
/// }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = MapStore::default();
/// let key = Key::new("a-key")?;
/// store.set(&key, Bytes::from_static(b"value"), Ttl::from_secs(60)).await?;
/// assert_eq!(store.get(&key).await?.as_deref(), Some(&b"value"[..]));
/// assert!(store.destroy(&key).await?);
/// assert!(!store.destroy(&key).await?);
/// # Ok::<(), cloakroom_core::Error>(()) }).unwrap();
/// ```
///
/// Prove yours with `cloakroom_conformance::conformance_tests!`.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Returns the value under `key`, or `None` if it is absent or expired.
    ///
    /// Observes every write that completed before this call, from any process. Changes nothing, above all not the
    /// ttl.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the backend cannot be reached, [`ErrorKind::Timeout`] when it took too long,
    /// [`ErrorKind::Rejected`] and [`ErrorKind::Backend`] for what it answered. [`ErrorKind::Corrupt`] when what is there
    /// is no value that this store wrote: its visitor is then anonymous and may not write, and it stays as it is. Never
    /// for an absent key.
    async fn get(&self, key: &Key) -> Result<Option<Bytes>>;

    /// Stores `value` under `key`, whether or not there was one, and lets it live for `ttl` from now.
    ///
    /// An existing value and its ttl are both replaced. When this returns `Ok`, every later [`get`](Self::get) sees
    /// the new value. After an error the old value or the new one is there, whole.
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`ErrorKind::TooLarge`] when the backend does not take a value of this size; the
    /// old one is then intact.
    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()>;

    /// Removes the value under `key`; `true` if a live one was removed, `false` if it was absent or expired.
    ///
    /// When this has returned, no reader anywhere sees the value: a cache in front of the backend must not either.
    ///
    /// # Errors
    /// As [`get`](Self::get). Never for an absent key.
    async fn destroy(&self, key: &Key) -> Result<bool>;

    /// Returns the connection's current status and its changes.
    ///
    /// A store that talks to a server keeps a [`StatusSender`], drives it from real connection errors and from a
    /// prober that runs only while disconnected (50 ms to 5 s apart, with jitter), and returns
    /// [`subscribe`](StatusSender::subscribe). The default suits a store that has no connection to lose.
    ///
    /// The status is `Disconnected` within a second of the first operation that fails in an outage, and `Connected`
    /// again within a second of the end of a short one, whether or not anybody calls. Once it is, the first operations
    /// succeed: connections that broke are not handed out. Each handle reports its own, and no subscriber, slow or
    /// gone, makes an operation wait. A wrapper passes on the status of the store within.
    fn status(&self) -> StatusStream {
        StatusStream::always_connected()
    }

    /// Returns what this store promises to parallel requests: [`Guarantee::Strict`] if it is an [`AtomicStore`].
    ///
    /// A store leaves this as it is. A wrapper passes on what the store within promises, and one of two stores has a
    /// promise of its own.
    fn guarantee(&self) -> Guarantee {
        if self.as_atomic().is_some() { Guarantee::Strict } else { Guarantee::LastWriterWins }
    }

    /// Returns this store as an [`AtomicStore`] if it is one. Write `Some(self)`.
    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        None
    }

    /// Returns this store as an [`IndexedStore`] if it is one. Write `Some(self)`.
    fn as_indexed(&self) -> Option<&dyn IndexedStore> {
        None
    }

    /// Returns this store as an [`AdminStore`] if it is one. Write `Some(self)`.
    fn as_admin(&self) -> Option<&dyn AdminStore> {
        None
    }
}

/// The ability that makes parallel requests safe: create, compare-and-swap, compare-and-delete, touch.
///
/// Each method is **one** atomic operation of the backend (`SET … NX`, `UPDATE … WHERE value = …`, a script), in one
/// round trip: never a read followed by a write. The comparison is with the stored bytes themselves, so no version
/// column is needed, and no counter that a failover rolled back can be mistaken for a newer one. A backend may
/// compare a digest on its own side instead of being sent the old value.
///
/// After [`Store::destroy`] has returned, every later `replace`, `remove` and `touch` of that key answers that it is
/// gone: none of them ever creates. Only [`create`](Self::create) and [`Store::set`] do.
#[async_trait]
pub trait AtomicStore: Store {
    /// Stores `value` under `key` unless a live value is there; `false` if one is, and then nothing changed.
    ///
    /// An expired value that has not been swept yet is no obstacle. Of several calls at once exactly one is `true`.
    ///
    /// # Errors
    /// As [`Store::set`].
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool>;

    /// Stores `value` under `key` if the live value there equals `expected` byte for byte, with a new `ttl`.
    ///
    /// `value` may equal `expected`: the ttl is then renewed. Of several calls at once with one `expected` at most
    /// one is [`Swapped::Done`], unless the value stays the same.
    ///
    /// # Errors
    /// As [`Store::set`].
    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped>;

    /// Removes the value under `key` if it equals `expected` byte for byte.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped>;

    /// Lets the value under `key` live for `ttl` from now, longer or shorter than before, and leaves it as it is;
    /// `false` if it was absent or expired. Never creates, never writes an old value back.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool>;
}

/// The answer of a conditional write.
#[derive(Clone, PartialEq, Eq)]
pub enum Swapped {
    /// The condition held and the write was applied.
    Done,
    /// There is no live value; nothing was written.
    Gone,
    /// Another value is there; nothing was written. Holds the latest committed value, not an older one.
    Conflict(Bytes),
}

/// Shows the length of a conflicting value, never its bytes.
impl fmt::Debug for Swapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("Done"),
            Self::Gone => f.write_str("Gone"),
            Self::Conflict(current) => write!(f, "Conflict({} bytes)", current.len()),
        }
    }
}

/// The ability behind "log out everywhere" and device lists: which keys belong to a user.
///
/// The index is kept apart from the values, since a store never looks into those: a value need not exist yet when its
/// key is bound, and the end of a value leaves the binding. An entry whose value is not there is never returned. For
/// at least 60 seconds after the last `bind` it is kept all the same, whatever comes across it, for the value may be
/// about to be written, and a session that the index does not know is one that "log out everywhere" misses. After
/// that it may be dropped as stale at any time.
///
/// [`Store::destroy`], [`AtomicStore::remove`] and [`destroy_user`](Self::destroy_user) therefore leave bindings to
/// run out, and so does [`AdminStore::sweep`], which may drop stale and expired ones. [`AdminStore::clear`] removes
/// the bindings of the values it removes.
///
/// A user is any text of 1 to 255 bytes, compared bytewise. Keys and users are bound as parameters.
#[async_trait]
pub trait IndexedStore: Store {
    /// Notes that `key` belongs to `user`, for `ttl` from now: the longest this session may live.
    ///
    /// Binding again renews the ttl. Binding to another user moves the key there. The value under `key` need not
    /// exist yet, and neither it nor its ttl changes.
    ///
    /// # Errors
    /// As [`Store::get`], and [`ErrorKind::Value`] when `user` is not 1 to 255 bytes; nothing is then changed.
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()>;

    /// Returns the keys bound to `user` whose values are live, in no particular order, each once.
    ///
    /// An unknown user has none, and neither has one that no key can be bound to.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn keys_of(&self, user: &str) -> Result<Vec<Key>>;

    /// Removes the values of every key bound to `user`, but `except`, and returns how many live ones were removed.
    ///
    /// The value of every key bound before this call is removed when it returns, unless the binding has expired: such
    /// a key is nobody's and its value stays. An unknown user is `Ok(0)`.
    ///
    /// # Errors
    /// As [`Store::get`]. After an error some of the values may have been removed; call again to remove the rest.
    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64>;
}

/// The ability operators want: list, count, clear, sweep.
///
/// All of it concerns this store's own keys: a store that shares its backend under a prefix or in a table of its own
/// sees and clears nothing else.
// `len` counts in the backend; an `is_empty` beside it would be a second question with the same price.
#[allow(clippy::len_without_is_empty)]
#[async_trait]
pub trait AdminStore: Store {
    /// Yields the keys of the live values.
    ///
    /// A key that is live during the whole scan is yielded at least once. One that comes or goes meanwhile may or
    /// may not be. Other calls may be made while the scan is under way, on this handle too: it holds no lock and no
    /// connection that they would wait for. Memory use does not grow with the number of keys. After an error the
    /// stream ends.
    fn scan(&self) -> BoxStream<'_, Result<Key>>;

    /// Returns the number of live values.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn len(&self) -> Result<u64>;

    /// Removes every value of this store, with the bindings of their keys, and returns how many live ones there were.
    ///
    /// A binding whose value is not there may stay to run out, or go as well.
    ///
    /// # Errors
    /// As [`Store::get`]. After an error some may have been removed.
    async fn clear(&self) -> Result<u64>;

    /// Deletes at most `limit` expired values from the backend and returns how many; never a live one.
    ///
    /// A backend that expires by itself has nothing to do and returns 0. Call again while it returns `limit`. Expired
    /// bindings, and stale ones as [`IndexedStore`] has it, may be dropped besides; they are not counted.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn sweep(&self, limit: u32) -> Result<u64>;
}

/// What a store can promise to parallel requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guarantee {
    /// No update is lost and no logout is undone: the store is an [`AtomicStore`].
    Strict,
    /// As [`Strict`](Self::Strict), of sessions that are being moved from one store to another, as long as every
    /// process reaches both of them through the same kind of wrapper. A process that uses one of the two alone does not
    /// see all sessions, and what it writes may be lost.
    Migrating,
    /// Of two parallel requests that change one session the later writes over the earlier.
    LastWriterWins,
}

impl Guarantee {
    /// Returns what `store` can promise.
    #[must_use]
    pub fn of(store: &dyn Store) -> Self {
        store.guarantee()
    }

    /// Returns the guarantee in a few words, as reports show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Migrating => "migrating",
            Self::LastWriterWins => "last writer wins",
        }
    }
}

/// How long a value lives, from now: 1 millisecond to 400 days.
///
/// Anything shorter or longer is brought to the nearer end, so that no duration can become "already expired", "for
/// ever" or an overflow in a backend. 400 days is what browsers keep a cookie at most (RFC 6265bis, section 5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ttl(u64);

impl Ttl {
    /// One millisecond.
    pub const MIN: Self = Self(1);

    /// 400 days.
    pub const MAX: Self = Self(400 * 24 * 60 * 60 * 1000);

    /// Creates a ttl from a duration; a part of a millisecond counts as a whole one.
    #[must_use]
    pub const fn new(duration: Duration) -> Self {
        let part = duration.subsec_nanos().div_ceil(1_000_000) as u64;
        Self::from_millis(duration.as_secs().saturating_mul(1000).saturating_add(part))
    }

    /// Creates a ttl from milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        if millis < Self::MIN.0 {
            Self::MIN
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// Creates a ttl from seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self::from_millis(secs.saturating_mul(1000))
    }

    /// Returns whole milliseconds, from 1.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Returns whole seconds, rounded up, from 1: for backends that count seconds.
    #[must_use]
    pub const fn secs_rounded_up(self) -> u64 {
        self.0.div_ceil(1000)
    }

    /// Returns the ttl as a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl From<Duration> for Ttl {
    fn from(duration: Duration) -> Self {
        Self::new(duration)
    }
}

type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Forwards the contract through a pointer. The inner future is handed on as it is: no second box a call.
macro_rules! forward_store {
    ($($pointer:ident),*) => {$(
        impl<S: Store + ?Sized> Store for $pointer<S> {
            fn get<'a, 'b, 'f>(&'a self, key: &'b Key) -> Pending<'f, Option<Bytes>>
            where 'a: 'f, 'b: 'f, Self: 'f {
                (**self).get(key)
            }
            fn set<'a, 'b, 'f>(&'a self, key: &'b Key, value: Bytes, ttl: Ttl) -> Pending<'f, ()>
            where 'a: 'f, 'b: 'f, Self: 'f {
                (**self).set(key, value, ttl)
            }
            fn destroy<'a, 'b, 'f>(&'a self, key: &'b Key) -> Pending<'f, bool>
            where 'a: 'f, 'b: 'f, Self: 'f {
                (**self).destroy(key)
            }
            fn status(&self) -> StatusStream {
                (**self).status()
            }
            fn guarantee(&self) -> Guarantee {
                (**self).guarantee()
            }
            fn as_atomic(&self) -> Option<&dyn AtomicStore> {
                (**self).as_atomic()
            }
            fn as_indexed(&self) -> Option<&dyn IndexedStore> {
                (**self).as_indexed()
            }
            fn as_admin(&self) -> Option<&dyn AdminStore> {
                (**self).as_admin()
            }
        }
    )*};
}

forward_store!(Arc, Box);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_saturates_at_both_ends() {
        assert_eq!(Ttl::new(Duration::ZERO), Ttl::MIN);
        assert_eq!(Ttl::new(Duration::MAX), Ttl::MAX);
        assert_eq!(Ttl::from_secs(u64::MAX), Ttl::MAX);
        assert_eq!(Ttl::from_millis(0), Ttl::MIN);
    }

    #[test]
    fn a_ttl_rounds_up_never_down() {
        assert_eq!(Ttl::new(Duration::from_nanos(1)).millis(), 1);
        assert_eq!(Ttl::new(Duration::from_micros(1_001)).millis(), 2);
        assert_eq!(Ttl::from_millis(1_001).secs_rounded_up(), 2);
        assert_eq!(Ttl::from_millis(1_000).secs_rounded_up(), 1);
    }

    #[test]
    fn a_conflict_does_not_show_the_value() {
        assert_eq!(format!("{:?}", Swapped::Conflict(Bytes::from_static(b"secret"))), "Conflict(6 bytes)");
    }
}
