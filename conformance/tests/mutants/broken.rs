//! A store over `Reference` with one bug: the handle, what it remembers, and the three methods.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cloakroom_conformance::{Env, Reference};
use cloakroom_core::{
    AdminStore, AtomicStore, Bytes, Error, ErrorKind, IndexedStore, Key, Result, StatusSender, StatusStream,
    Store, Ttl, async_trait,
};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};

use crate::bug::Bug;

/// Longer than any case.
pub(crate) const FOR_EVER: Ttl = Ttl::MAX;

/// What a mutant refuses when it refuses large values; more than the engine's limit.
const LIMIT: usize = 2 * 1024 * 1024;

/// The longest key of a mutant that does not take the longest there is.
pub(crate) const LONGEST_KEY: usize = 200;

/// The backend of one mutant: a reference for each namespace.
pub(crate) struct Server {
    bug: Bug,
    spaces: Mutex<BTreeMap<String, Arc<Space>>>,
}

/// One namespace: the rows, and what bugs remember beside them.
#[derive(Default)]
pub(crate) struct Space {
    pub(crate) rows: Reference,
    past: Mutex<BTreeMap<Key, Past>>,
    last_written: Mutex<Bytes>,
    set_up: AtomicBool,
    /// Every binding ever made.
    pub(crate) bound: Mutex<Vec<(Key, String)>>,
    /// What a scan holds that holds the store.
    pub(crate) scanning: Connection,
}

/// The one connection of a store that has only one.
pub(crate) struct Connection(Arc<Semaphore>);

impl Default for Connection {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Connection {
    pub(crate) async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

/// What was written last under a key, whether or not it is still there.
#[derive(Clone)]
pub(crate) struct Past {
    pub(crate) value: Bytes,
    pub(crate) ttl: Ttl,
    pub(crate) dies: Instant,
    pub(crate) destroyed: bool,
}

impl Past {
    /// Not destroyed, only expired.
    pub(crate) fn is_expired(&self) -> bool {
        !self.destroyed && self.dies <= Instant::now()
    }
}

impl Server {
    pub(crate) fn new(bug: Bug) -> Arc<Self> {
        let spaces = Mutex::default();
        Arc::new(Self { bug, spaces })
    }

    pub(crate) async fn open(self: Arc<Self>, env: &Env) -> Result<Broken> {
        let space = Arc::clone(self.spaces.lock().entry(env.namespace().to_owned()).or_default());
        if self.bug == Bug::OpeningRaces {
            // Two who both find nothing set up both set up, and the second fails.
            let found = space.set_up.load(Ordering::SeqCst);
            gap().await;
            if !found && space.set_up.swap(true, Ordering::SeqCst) {
                return Err(ErrorKind::Backend.into());
            }
        }
        Ok(Broken {
            bug: self.bug,
            namespace: env.namespace().to_owned(),
            server: self,
            space,
            seen: Mutex::default(),
            replies: Mutex::default(),
            own_index: Reference::new(),
        })
    }
}

/// One handle of a mutant.
pub(crate) struct Broken {
    pub(crate) bug: Bug,
    namespace: String,
    server: Arc<Server>,
    pub(crate) space: Arc<Space>,
    /// What this handle read or wrote last.
    pub(crate) seen: Mutex<BTreeMap<Key, Bytes>>,
    replies: Mutex<VecDeque<Option<Bytes>>>,
    pub(crate) own_index: Reference,
}

/// Gives everybody else the time to come between.
pub(crate) async fn gap() {
    sleep(Duration::from_millis(1)).await;
}

impl Broken {
    pub(crate) fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    pub(crate) fn rows(&self) -> &Reference {
        &self.space.rows
    }

    /// The namespaces that a sloppy pattern over this one's name matches, this one among them.
    pub(crate) fn spaces_like(&self, matches: impl Fn(&str, &str) -> bool) -> Vec<Arc<Space>> {
        let spaces = self.server.spaces.lock();
        let own = self.namespace.as_str();
        let like = spaces.iter().filter(|(name, _)| matches(own, name));
        like.map(|(_, space)| Arc::clone(space)).collect()
    }

    /// The key as this store writes it.
    pub(crate) fn row(&self, key: &Key) -> Key {
        let text = key.as_str();
        let written = match self.bug {
            Bug::KeysFolded => text.to_ascii_lowercase(),
            Bug::KeysCutAt32 => text.chars().take(32).collect(),
            Bug::LongKeysAreCut => text.chars().take(LONGEST_KEY).collect(),
            Bug::KeysSanitized => text.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-"),
            _ => return key.clone(),
        };
        Key::new(written).expect("what was printable still is")
    }

    /// The value as this store writes it.
    fn stored(&self, value: Bytes) -> Bytes {
        match self.bug {
            Bug::ValuesAreText => String::from_utf8_lossy(&value).into_owned().into(),
            Bug::ValuesAreTrimmed => value.trim_ascii_end().to_vec().into(),
            Bug::ValuesEndAtNul => value.split(|&byte| byte == 0).next().unwrap_or_default().to_vec().into(),
            Bug::ValuesEndAt64KiB => value.slice(..value.len().min(65_535)),
            _ => value,
        }
    }

    /// The ttl as this store takes it.
    fn lives(&self, ttl: Ttl) -> Ttl {
        match self.bug {
            Bug::TtlIgnored => FOR_EVER,
            Bug::TtlRoundedDown => Ttl::from_millis((ttl.millis() / 1000 * 1000).max(1000)),
            Bug::TtlOf32Bits => Ttl::from_millis(u64::from(ttl.millis() as u32)),
            _ => ttl,
        }
    }

    /// Ends the binding of a key.
    pub(crate) async fn unbind(&self, key: &Key) -> Result<()> {
        self.rows().bind(key, "-", Ttl::MIN).await
    }

    /// Waits for the end of a scan, where that is the bug.
    pub(crate) async fn wait_for_scans(&self) {
        if self.is(Bug::ScanHoldsTheStore) {
            // Closed by nobody.
            let _ = self.space.scanning.acquire().await;
        }
    }

    pub(crate) fn past(&self, key: &Key) -> Option<Past> {
        self.space.past.lock().get(key).cloned()
    }

    /// Every key that was ever written and not destroyed: the rows of a table, live or not.
    pub(crate) fn rows_ever(&self) -> Vec<Key> {
        let past = self.space.past.lock();
        past.iter().filter(|(_, past)| !past.destroyed).map(|(key, _)| key.clone()).collect()
    }

    /// The keys whose live value is the same as that under `key`.
    pub(crate) async fn twins(&self, key: &Key) -> Result<Vec<Key>> {
        let value = self.rows().get(key).await?;
        let mut twins = Vec::new();
        let mut keys = self.rows().scan();
        while let Some(other) = keys.next().await {
            let other = other?;
            if other != *key && self.rows().get(&other).await? == value {
                twins.push(other);
            }
        }
        Ok(twins)
    }

    /// Notes what was written, after it was.
    pub(crate) fn remember(&self, key: &Key, value: &Bytes, ttl: Ttl) {
        let past =
            Past { value: value.clone(), ttl, dies: Instant::now() + ttl.duration(), destroyed: false };
        self.space.past.lock().insert(key.clone(), past);
        self.seen.lock().insert(key.clone(), value.clone());
        *self.space.last_written.lock() = value.clone();
    }

    pub(crate) fn forget(&self, key: &Key) {
        if let Some(past) = self.space.past.lock().get_mut(key) {
            past.destroyed = true;
        }
        self.seen.lock().remove(key);
    }

    pub(crate) fn forget_all(&self) {
        self.space.past.lock().values_mut().for_each(|past| past.destroyed = true);
        self.seen.lock().clear();
    }

    /// Writes a row with all the bugs of values and ttls, and remembers it.
    pub(crate) async fn write(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        let (value, ttl) = (self.stored(value), self.lives(ttl));
        self.rows().set(key, value.clone(), ttl).await?;
        self.remember(key, &value, ttl);
        Ok(())
    }

    /// The time a live value has left, as far as the writes tell.
    pub(crate) fn left(&self, key: &Key) -> Ttl {
        let left = self.past(key).map(|past| past.dies.saturating_duration_since(Instant::now()));
        Ttl::new(left.unwrap_or_default())
    }

    /// Refuses what a mutant refuses, its own way.
    pub(crate) async fn refuse(&self, key: &Key, value: &Bytes, ttl: Ttl) -> Result<()> {
        let too_large = value.len() > LIMIT;
        match self.bug {
            Bug::TooLargeLosesTheOldValue if too_large => {
                self.rows().destroy(key).await?;
                Err(ErrorKind::TooLarge.into())
            }
            Bug::TooLargeIsABackendError if too_large => Err(ErrorKind::Backend.into()),
            Bug::ErrorsQuoteTheKey if too_large => {
                Err(Error::new(ErrorKind::TooLarge).hint(format!("{} is too large", key.as_str())))
            }
            Bug::TtlTooShortIsAnError if ttl == Ttl::MIN => Err(ErrorKind::Backend.into()),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bug {
            Bug::DebugShowsValues => write!(f, "Broken({:?})", self.seen.lock()),
            _ => write!(f, "Broken({:?})", self.bug),
        }
    }
}

#[async_trait]
impl Store for Broken {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.wait_for_scans().await;
        if self.is(Bug::LogsKeys) {
            tracing::debug!(key = key.as_str(), "get");
        }
        let key = &self.row(key);
        if self.is(Bug::LongKeysAreAbsent) && key.as_bytes().len() > LONGEST_KEY {
            return Ok(None);
        }
        if self.is(Bug::ReadsAreCached) {
            let cached = self.seen.lock().get(key).cloned();
            if cached.is_some() {
                return Ok(cached);
            }
        }
        let mut found = self.rows().get(key).await?;
        match self.bug {
            Bug::ReadsTakeTheValue => {
                self.rows().destroy(key).await?;
            }
            Bug::AbsentIsEmpty => found = Some(found.unwrap_or_default()),
            Bug::EmptyIsAbsent => found = found.filter(|value| !value.is_empty()),
            Bug::OneBufferForAllValues => {
                let last = self.space.last_written.lock().clone();
                found = found.map(|value| if value.len() == last.len() { last } else { value });
            }
            Bug::KeysFoundByPrefix if found.is_none() => {
                let mut keys = self.rows().scan();
                while let Some(other) = keys.next().await {
                    let other = other?;
                    if other.as_str().starts_with(key.as_str()) {
                        return self.rows().get(&other).await;
                    }
                }
            }
            Bug::ReadsRenew => {
                if let Some(past) = self.past(key) {
                    self.rows().touch(key, past.ttl).await?;
                }
            }
            Bug::ExpiredFlickers if found.is_none() => {
                let expired = self.past(key).filter(Past::is_expired);
                let first_time = self.seen.lock().remove(key).is_some();
                found = expired.filter(|_| !first_time).map(|past| past.value);
            }
            Bug::CreateStoresApart => {
                let apart = self.rows().get(&apart(key)).await?;
                return Ok(apart.or(found));
            }
            Bug::RepliesAreMixedUp => {
                self.replies.lock().push_back(found);
                gap().await;
                return Ok(self.replies.lock().pop_front().flatten());
            }
            _ => {}
        }
        match &found {
            Some(value) => self.seen.lock().insert(key.clone(), value.clone()),
            // Some bugs go by whether a handle has seen a value before.
            None if self.is(Bug::ExpiredFlickers) => None,
            None => self.seen.lock().remove(key),
        };
        Ok(found)
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        if self.is(Bug::LogsValuesAtTrace) {
            tracing::trace!(?value, "set");
        }
        let key = &self.row(key);
        self.refuse(key, &value, ttl).await?;
        match self.bug {
            Bug::SetIgnoresEmptyValues if value.is_empty() => return Ok(()),
            Bug::SetWritesInPlace => {
                let mut whole = self.rows().get(key).await?.unwrap_or_default().to_vec();
                let kept = whole.split_off(value.len().min(whole.len()));
                return self.write(key, [&value[..], &kept].concat().into(), ttl).await;
            }
            Bug::DestroyedForEver if self.past(key).is_some_and(|past| past.destroyed) => return Ok(()),
            Bug::SetKeepsTheTtl if self.rows().get(key).await?.is_some() => {
                return self.write(key, value, self.left(key)).await;
            }
            Bug::TtlOfAllIsOne => {
                let keys: Vec<_> = self.rows().scan().take(20).collect().await;
                for other in keys {
                    self.rows().touch(&other?, ttl).await?;
                }
            }
            Bug::ExpiredBlocksSet if self.past(key).is_some_and(|past| past.is_expired()) => return Ok(()),
            Bug::SetDeletesFirst => {
                self.rows().destroy(key).await?;
                gap().await;
            }
            Bug::SetExpiresLater => {
                self.rows().set(key, value.clone(), FOR_EVER).await?;
                gap().await;
            }
            Bug::SetIsTorn => {
                let mut half = value[..value.len() / 2].to_vec();
                let old = self.rows().get(key).await?.unwrap_or_default();
                half.extend_from_slice(&old[old.len() / 2..]);
                self.rows().set(key, half.into(), ttl).await?;
                gap().await;
            }
            Bug::SetWritesOthersBack if key.as_str().starts_with("key-of-") => {
                let keys: Vec<_> = self.rows().scan().collect().await;
                let mut file = Vec::new();
                for other in keys {
                    let other = other?;
                    file.push((self.rows().get(&other).await?.unwrap_or_default(), other));
                }
                gap().await;
                for (value, other) in file {
                    self.rows().set(&other, value, FOR_EVER).await?;
                }
            }
            Bug::SetUnbinds => self.unbind(key).await?,
            _ => {}
        }
        self.write(key, value, ttl).await
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        let key = &self.row(key);
        let expired = self.past(key).is_some_and(|past| past.is_expired());
        let was_there = self.rows().get(key).await?.is_some();
        match self.bug {
            Bug::DestroyByPrefix | Bug::DestroyByPattern => {
                let keys: Vec<_> = self.rows().scan().collect().await;
                let mut removed = false;
                for other in keys {
                    let other = other?;
                    let hit = match self.bug {
                        Bug::DestroyByPrefix => other.as_bytes().starts_with(key.as_bytes()),
                        _ => matches(key.as_bytes(), other.as_bytes()),
                    };
                    removed |= hit && self.rows().destroy(&other).await?;
                }
                return Ok(removed);
            }
            Bug::DestroyBlanksFirst if was_there => {
                self.rows().set(key, Bytes::new(), FOR_EVER).await?;
                gap().await;
            }
            Bug::DestroyReadsFirst => gap().await,
            Bug::DestroyUnbinds => self.unbind(key).await?,
            Bug::CreateStoresApart if self.rows().destroy(&apart(key)).await? => {
                self.rows().destroy(key).await?;
                return Ok(true);
            }
            _ => {}
        }
        let removed = self.rows().destroy(key).await?;
        self.forget(key);
        Ok(match self.bug {
            Bug::DestroyIsAlwaysTrue => true,
            Bug::DestroyIsNeverTrue => false,
            Bug::DestroyReadsFirst => was_there,
            Bug::ExpiredIsDestroyed => removed || expired,
            _ => removed,
        })
    }

    fn status(&self) -> StatusStream {
        match self.bug {
            Bug::NeverConnected => StatusSender::connecting().subscribe(),
            _ => StatusStream::always_connected(),
        }
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        match self.bug {
            Bug::AbilitiesHidden => None,
            Bug::AbilitiesOfAnotherStore => Some(&self.own_index),
            _ => Some(self),
        }
    }

    fn as_indexed(&self) -> Option<&dyn IndexedStore> {
        match self.bug {
            Bug::AbilitiesHidden => None,
            Bug::AbilitiesOfAnotherStore => Some(&self.own_index),
            _ => Some(self),
        }
    }

    fn as_admin(&self) -> Option<&dyn AdminStore> {
        match self.bug {
            Bug::AbilitiesHidden => None,
            Bug::AbilitiesOfAnotherStore => Some(&self.own_index),
            _ => Some(self),
        }
    }
}

/// Where a mutant keeps what was created apart from what was set.
pub(crate) fn apart(key: &Key) -> Key {
    Key::new(format!("apart/{}", key.as_str())).unwrap_or_else(|_| key.clone())
}

/// Whether a pattern of SQL or of a glob matches: `%` and `*` for anything, `_` and `?` for one byte.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'%' | b'*', rest)), _) => {
            matches(rest, text) || text.split_first().is_some_and(|(_, text)| matches(pattern, text))
        }
        (Some((b'_' | b'?', rest)), Some((_, text))) => matches(rest, text),
        (Some((byte, rest)), Some((other, text))) => byte == other && matches(rest, text),
        _ => false,
    }
}
