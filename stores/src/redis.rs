//! The store in Redis and Valkey: one server, a cluster, or the master that sentinels name.

mod admin;
mod backend;
mod batch;
mod builder;
mod classify;
mod cluster;
mod command;
mod index;
mod link;
mod names;
mod pool;
mod reply;
mod script;
mod sentinel;
mod server;
mod slots;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ::redis::{Client, Value};
use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_core::{
    AdminStore, AtomicStore, Error, ErrorKind, IndexedStore, Key, Result, StatusSender, StatusStream, Store,
    Swapped, Ttl,
};

pub use self::builder::RedisStoreBuilder;
pub(crate) use self::builder::check_timeout;
use self::{
    backend::Backend,
    classify::STORE,
    command::command,
    link::Failure,
    names::Names,
    script::{REMOVE, REPLACE},
};

/// A store in Redis 6.2 or later, or in Valkey.
///
/// It is strict: it compares and swaps on the server, so parallel requests lose nothing. It knows which sessions
/// belong to a user, and can be listed, counted and cleared. Values expire by the server's own clock.
///
/// Clones share one connection, which all requests use at the same time. It is made anew when it breaks; a store
/// belongs to the runtime it was connected in, and needs it to run.
///
/// ```no_run
/// use cloakroom::{RedisStore, SessionLayer};
/// # async fn connect() -> Result<(), cloakroom::Error> {
/// let store = RedisStore::connect("redis://127.0.0.1:6379/0").await?;
/// let sessions = SessionLayer::new(store).build()?;
/// # Ok(()) }
/// ```
///
/// # What it costs
///
/// One command and one round trip for each operation. `keys_of` and `destroy_user` take one more for each 500 keys of
/// the user, and one if some of those have ended; `scan` takes one for some 500 keys of the database, whoever wrote them.
/// In a cluster `bind` takes two, and `destroy_user` one for the keys and then two for each, side by side.
///
/// A command is sent once: if the connection breaks before the reply it is an error, and the engine finds out what became
/// of it. Those of requests that run at the same time travel together, up to 24 of them or 64 KiB, and have their replies
/// together: all of them fail when the last reply does not come.
///
/// # In the server
///
/// A value is a plain string under the prefix and its key, so `redis-cli` shows it. Every operation of a session
/// concerns this one name. The index keeps a sorted set for each user and a note for each key, named with a space after
/// the prefix; each has a ttl.
///
/// # Risk
///
/// A server that is full and may evict any key (`maxmemory-policy allkeys-…`) ends sessions early, and may drop the
/// index that "log out everywhere" goes by. Give sessions a server that evicts nothing. A replica that takes over knows
/// only what had reached it: a logout of the last moment may be undone, as Redis replicates without waiting.
#[derive(Clone)]
pub struct RedisStore {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Backend,
    names: Names,
    status: Arc<StatusSender>,
    /// Whether the server compares and swaps without a script, as far as is known.
    has_ifeq: AtomicBool,
    max_value_bytes: usize,
}

impl RedisStore {
    /// Starts a store with a prefix, timeouts or certificates of its own.
    pub fn builder() -> RedisStoreBuilder {
        RedisStoreBuilder::new()
    }

    /// Connects to one server: `redis://user:password@host:6379/0`, with `rediss` for TLS.
    ///
    /// Returns when the server has answered, so a mistake shows at the start. It must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming `url` if it is none, [`ErrorKind::Unavailable`] if the server cannot be reached or
    /// is a replica, [`ErrorKind::Rejected`] for a wrong password and for a node of a cluster,
    /// [`ErrorKind::Unsupported`] if the server is older than Redis 6.2. No error quotes the url.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder().connect(url).await
    }

    /// Connects to the server of this client, over a connection of the store's own.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn from_client(client: Client) -> Result<Self> {
        Self::builder().from_client(client).await
    }

    /// Takes the connections from a pool, for applications that have one.
    ///
    /// This is several times slower than the connection that [`connect`](Self::connect) makes, since the pool asks the
    /// server twice before it hands a connection out. The status falls when a command fails, not when the server does.
    /// For `rediss://` the application itself chooses the cryptography of rustls.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and [`ErrorKind::Config`] naming `pool` if it has no runtime.
    pub async fn from_pool(pool: deadpool_redis::Pool) -> Result<Self> {
        Self::builder().from_pool(pool).await
    }

    /// Connects to a cluster. Some of its nodes are enough; user, password and TLS are those of the first url.
    ///
    /// `destroy_user` asks whose a key is and then removes it, which are two commands here, for the two lie on different
    /// nodes: a session that is bound to somebody else just then is ended, too. On one server it is one step.
    ///
    /// A command for a key whose node cannot be reached, or is not able to serve it, is tried until
    /// [`response_timeout`](RedisStoreBuilder::response_timeout) is over. The status is connected while any node is.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and [`ErrorKind::Rejected`] if the server is not part of a cluster.
    pub async fn cluster(urls: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self> {
        Self::builder().cluster(urls).await
    }

    /// Connects to the server that the sentinels call the master of this name, and follows when it is another one.
    ///
    /// The urls are those of the sentinels, each with its own password if it has one. `master` is the name alone, or
    /// with what the master wants: `redis://user:password@name/0`, with `rediss` for TLS.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and [`ErrorKind::Config`] naming `master` if the sentinels do not know it.
    pub async fn sentinel(urls: impl IntoIterator<Item = impl AsRef<str>>, master: &str) -> Result<Self> {
        Self::builder().sentinel(urls, master).await
    }

    fn new(
        backend: Backend,
        names: Names,
        status: Arc<StatusSender>,
        has_ifeq: bool,
        max_value_bytes: usize,
    ) -> Self {
        let has_ifeq = AtomicBool::new(has_ifeq);
        Self { inner: Arc::new(Inner { backend, names, status, has_ifeq, max_value_bytes }) }
    }

    fn backend(&self) -> &Backend {
        &self.inner.backend
    }

    fn names(&self) -> &Names {
        &self.inner.names
    }

    /// Sends a command that begins with the name of a value.
    async fn on_value(&self, key: &Key, verb: &str, args: &[&[u8]]) -> Result<Value> {
        let name = self.names().value(key);
        let command = command([verb.as_bytes(), &name].iter().chain(args).copied());
        self.backend().send(&name, command).await
    }

    async fn unlink(&self, name: &[u8]) -> Result<bool> {
        let unlink = command([b"UNLINK", name].into_iter());
        reply::one_or_none(&self.backend().send(name, unlink).await?)
    }

    /// Compares and swaps in the cheapest way that the server has.
    async fn replace_live(&self, key: &Key, expected: &[u8], value: &[u8], ttl: Ttl) -> Result<Swapped> {
        let (name, ttl) = (self.names().value(key), ttl.millis().to_string());
        if self.inner.has_ifeq.load(Ordering::Relaxed)
            && let Some(swapped) = self.replace_at_once(&name, expected, value, ttl.as_bytes()).await?
        {
            return Ok(swapped);
        }
        // A script, which is sent the old value whole: that costs the server less than its digest.
        let args = [expected, value, ttl.as_bytes()];
        reply::swapped(self.backend().run(&REPLACE, &[&name], &args).await?)
    }

    /// Compares and swaps without a script; `None` if this server cannot, which is then remembered.
    async fn replace_at_once(
        &self,
        name: &[u8],
        expected: &[u8],
        value: &[u8],
        ttl: &[u8],
    ) -> Result<Option<Swapped>> {
        let set = command([b"SET", name, value, b"IFEQ", expected, b"GET", b"PX", ttl].into_iter());
        match self.backend().try_send(name, set).await {
            Ok(before) => reply::swapped_from(before, expected).map(Some),
            // An older server has taken over.
            Err(Failure::Sent(error)) if error.detail() == Some("syntax error") => {
                self.inner.has_ifeq.store(false, Ordering::Relaxed);
                Ok(None)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    fn check_size(&self, value: &[u8]) -> Result<()> {
        if value.len() <= self.inner.max_value_bytes {
            return Ok(());
        }
        let limit = self.inner.max_value_bytes;
        Err(Error::new(ErrorKind::TooLarge).store(STORE).hint(format!("a value has at most {limit} bytes")))
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let found = self.on_value(key, "GET", &[]).await.and_then(reply::bytes);
        found.map_err(|error| error.operation("get"))
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.check_size(&value).map_err(|error| error.operation("set"))?;
        let ttl = ttl.millis().to_string();
        let set = self.on_value(key, "SET", &[&value, b"PX", ttl.as_bytes()]).await;
        set.and_then(|reply| reply::okay(&reply)).map_err(|error| error.operation("set"))
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.unlink(&self.names().value(key)).await.map_err(|error| error.operation("destroy"))
    }

    fn status(&self) -> StatusStream {
        self.inner.status.subscribe()
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }

    fn as_indexed(&self) -> Option<&dyn IndexedStore> {
        Some(self)
    }

    fn as_admin(&self) -> Option<&dyn AdminStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for RedisStore {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        self.check_size(&value).map_err(|error| error.operation("create"))?;
        let ttl = ttl.millis().to_string();
        let set = self.on_value(key, "SET", &[&value, b"PX", ttl.as_bytes(), b"NX"]).await;
        set.and_then(|reply| reply::okay_or_nil(&reply)).map_err(|error| error.operation("create"))
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        self.check_size(&value).map_err(|error| error.operation("replace"))?;
        let replaced = self.replace_live(key, expected, &value, ttl).await;
        replaced.map_err(|error| error.operation("replace"))
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        let name = self.names().value(key);
        let removed = self.backend().run(&REMOVE, &[&name], &[expected]).await;
        removed.and_then(reply::swapped).map_err(|error| error.operation("remove"))
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        let ttl = ttl.millis().to_string();
        let touched = self.on_value(key, "PEXPIRE", &[ttl.as_bytes()]).await;
        touched.and_then(|reply| reply::one_or_none(&reply)).map_err(|error| error.operation("touch"))
    }
}

/// Shows where it is connected to and the prefix, never a user name, a password, a key or a value.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("backend", self.backend())
            .field("names", self.names())
            .field("status", &self.inner.status)
            .finish()
    }
}
