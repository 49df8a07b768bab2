//! Sessions in MongoDB: one document for each key.

mod classify;
mod commands;
mod link;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_core::{
    AdminStore, AtomicStore, Error, ErrorKind, IndexedStore, Key, Result, StatusStream, Store, Swapped, Ttl,
};
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt, once};
use mongodb::{
    Client, Collection, Database,
    action::Action,
    bson::{Bson, Document, doc},
    error::Error as DriverError,
    options::{ClientOptions, CollectionOptions, ReadPreference, SelectionCriteria, WriteConcern},
};

use self::{
    classify::{classify, is_duplicate},
    link::Link,
};

/// The largest value, in bytes. A compare-and-swap sends two of them in one command, which may have 16 MiB.
const MAX_VALUE: usize = 7 * 1024 * 1024;

/// The longest user a store has to take, in bytes.
const MAX_USER_LEN: usize = 255;

/// Keys that a scan fetches at a time.
const SCAN_BATCH: u32 = 1000;

/// Attempts of a write that others keep overtaking between its look and its insert.
const TRIES: usize = 16;

/// A store in MongoDB 4.2 or later: a replica set, a sharded cluster, or a single server.
///
/// It has every ability, each operation in one round trip. All of it is one document for each key:
///
/// | field | |
/// |---|---|
/// | `_id` | the key, a string |
/// | `v` | the value, binary |
/// | `e` | when the value ends, a date; 1970 once it was removed |
/// | `u`, `b` | the user it is bound to, and until when |
/// | `w` | until when a binding waits for its value |
/// | `p` | when the document can be deleted: a TTL index does that |
///
/// Keys, users and values are data wherever they stand: dots, dollars and bytes that are BSON operators mean nothing.
///
/// **Clocks.** Ends are written and compared by the application's clock, and the TTL index, which is up to a minute late,
/// never shows. Servers whose clocks differ by a second disagree by a second about when a session ends; run NTP.
///
/// **Durability.** `create`, `remove`, `destroy`, `destroy_user` and `clear` wait for a majority of the replica set, so
/// that no failover brings back who logged out or loses who logged in. Others wait for what the address says (`w=`), and
/// else for the server's default. [`acknowledge`](MongoStoreBuilder::acknowledge) changes that. Reads go to the primary,
/// whatever the address says.
///
/// **Retries.** [`connect`](Self::connect) switches off the driver's own retries of writes, as the contract of stores
/// asks; sessions settle a lost reply by reading. A client of your own may have them on: the server then knows a write by
/// its transaction number and does not apply it twice. Reads are retried.
///
/// **Permissions.** `find`, `insert`, `update` and `remove` on the collection, and `createIndex` unless
/// [`leave_indexes`](MongoStoreBuilder::leave_indexes) is called.
///
/// **Limits.** Values have at most 7 MiB; larger ones are [`ErrorKind::TooLarge`]. The collection must have no collation
/// of its own.
///
/// Dropping a future closes the connection it was using; the server may still apply the write.
///
/// ```no_run
/// use cloakroom::MongoStore;
///
/// # async fn connect() -> cloakroom::Result<()> {
/// let store = MongoStore::connect("mongodb://localhost:27017/shop").await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct MongoStore {
    sessions: Collection<Document>,
    durable: Option<WriteConcern>,
    timeout: Duration,
    link: Arc<Link>,
}

/// Configures a [`MongoStore`]: begin with [`MongoStore::builder`], end with one of `connect`, `from_client` and
/// `from_collection`.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it connects"]
pub struct MongoStoreBuilder {
    collection: String,
    database: Option<String>,
    timeout: Duration,
    acknowledge: Acknowledge,
    indexes: Indexes,
}

/// Who must have a create, a removal or a destroy before it counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Acknowledge {
    /// A majority of the replica set.
    #[default]
    Majority,
    /// What the address or the client says, and else the server's default, which is a majority as well since version 5.
    ///
    /// # Risk
    /// With `w=1` a failover can bring back a session that was logged out.
    Configured,
}

/// Whether to create the indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Indexes {
    Create,
    Leave,
}

impl MongoStore {
    /// Connects to the server at `url`, `mongodb://` or `mongodb+srv://`, and creates the two indexes if they are not
    /// there.
    ///
    /// Sessions are in the collection `sessions` of the database in the address, or of `cloakroom` if there is none.
    ///
    /// # Errors
    /// As [`MongoStoreBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder().connect(url).await
    }

    /// Uses a client of the application's, and creates the two indexes if they are not there.
    ///
    /// # Errors
    /// As [`MongoStoreBuilder::connect`].
    pub async fn from_client(client: Client) -> Result<Self> {
        Self::builder().from_client(client).await
    }

    /// Uses a collection of the application's, and creates the two indexes if they are not there.
    ///
    /// # Errors
    /// As [`MongoStoreBuilder::connect`].
    pub async fn from_collection<T: Send + Sync>(collection: Collection<T>) -> Result<Self> {
        Self::builder().from_collection(collection).await
    }

    /// Creates a builder with the defaults that the methods of [`MongoStoreBuilder`] name.
    pub fn builder() -> MongoStoreBuilder {
        MongoStoreBuilder {
            collection: "sessions".to_owned(),
            database: None,
            timeout: Duration::from_secs(4),
            acknowledge: Acknowledge::default(),
            indexes: Indexes::Create,
        }
    }

    /// Carries out a call of the driver under the deadline, and notes what it says about the connection.
    async fn run<T>(
        &self,
        operation: &'static str,
        call: impl IntoFuture<Output = Result<T, DriverError>>,
    ) -> Result<T> {
        self.attempt(operation, call).await?.map_err(|error| classify(&error).operation(operation))
    }

    /// As [`run`](Self::run), but leaves an error that tells of no outage to the caller.
    async fn attempt<T>(
        &self,
        operation: &'static str,
        call: impl IntoFuture<Output = Result<T, DriverError>>,
    ) -> Result<Result<T, DriverError>> {
        let error = match tokio::time::timeout(self.timeout, call.into_future()).await {
            Ok(Ok(answer)) => {
                self.link.answered();
                return Ok(Ok(answer));
            }
            Ok(Err(error)) => match classify(&error) {
                outage if outage.is_retryable() && outage.kind() != ErrorKind::Contention => outage,
                _ => return Ok(Err(error)),
            },
            Err(_) => Error::new(ErrorKind::Timeout)
                .store("mongo")
                .hint(format!("the server took longer than {:?}", self.timeout)),
        };
        self.link.failed();
        Err(error.operation(operation))
    }

    /// Updates the one document that a filter finds; `true` if it found one.
    async fn update(
        &self,
        operation: &'static str,
        filter: Document,
        pipeline: Vec<Document>,
        durable: Option<WriteConcern>,
    ) -> Result<bool> {
        let call = self
            .sessions
            .update_one(filter, pipeline)
            .optional(durable, |call, concern| call.write_concern(concern));
        Ok(self.run(operation, call).await?.matched_count > 0)
    }

    /// Changes the live document under `key` by a pipeline with a condition on its value, and tells what it found.
    async fn swap(
        &self,
        operation: &'static str,
        key: &Key,
        expected: &[u8],
        pipeline: Vec<Document>,
        durable: Option<WriteConcern>,
    ) -> Result<Swapped> {
        let call = self
            .sessions
            .find_one_and_update(commands::live(key), pipeline)
            .projection(commands::value_only())
            .optional(durable, |call, concern| call.write_concern(concern));
        Ok(match self.run(operation, call).await?.and_then(value) {
            None => Swapped::Gone,
            Some(found) if found == expected => Swapped::Done,
            Some(found) => Swapped::Conflict(found),
        })
    }
}

impl MongoStoreBuilder {
    /// Sets the collection. The default is `sessions`.
    pub fn collection(mut self, name: impl Into<String>) -> Self {
        self.collection = name.into();
        self
    }

    /// Sets the database. The default is that of the address or client, or `cloakroom` if it has none.
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = Some(name.into());
        self
    }

    /// Sets the deadline of each operation, from 1 ms. The default is 4 seconds.
    ///
    /// In an outage the driver looks for a server for half of it, unless the address says otherwise
    /// (`serverSelectionTimeoutMS`).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets who must have a create, a removal or a destroy before it counts as done. The default is
    /// [`Acknowledge::Majority`].
    pub fn acknowledge(mut self, acknowledge: Acknowledge) -> Self {
        self.acknowledge = acknowledge;
        self
    }

    /// Creates no index: for who has no permission to. Whoever has it creates them once, here in the shell:
    ///
    /// ```js
    /// db.sessions.createIndex({ p: 1 }, { name: "cloakroom_purge", expireAfterSeconds: 0 })
    /// db.sessions.createIndex({ u: 1 }, { name: "cloakroom_user", sparse: true })
    /// ```
    ///
    /// Without the first nothing that has expired is ever deleted, unless
    /// [`sweep`](cloakroom_core::AdminStore::sweep) is called; without the second each
    /// [`keys_of`](cloakroom_core::IndexedStore::keys_of) reads the whole collection.
    pub fn leave_indexes(mut self) -> Self {
        self.indexes = Indexes::Leave;
        self
    }

    /// Connects to the server at `url`, `mongodb://` or `mongodb+srv://`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming `url`, `timeout`, `collection` or `database` when it cannot be used;
    /// [`ErrorKind::Unavailable`] when no server answers, [`ErrorKind::Rejected`] when it refuses the credentials or the
    /// indexes. The address is in none of them.
    pub async fn connect(self, url: &str) -> Result<MongoStore> {
        // The driver's message quotes the address.
        let mut options = ClientOptions::parse(url).await.map_err(|error| match classify(&error) {
            error if error.is_retryable() => error.operation("connect"),
            _ => Error::config(
                "url",
                "is no address of a MongoDB; write mongodb://user:password@host:27017/database, \
                     with special characters of the password percent-encoded",
            )
            .store("mongo"),
        })?;
        options.retry_writes = Some(false);
        options.server_selection_timeout.get_or_insert(self.timeout / 2);
        options.connect_timeout.get_or_insert(self.timeout / 2);
        options.app_name.get_or_insert_with(|| "cloakroom".to_owned());
        let link = Link::new();
        link.follow(&mut options);
        let client = Client::with_options(options).map_err(|error| classify(&error).operation("connect"))?;
        let database = self.database_of(&client);
        self.open(&database, link).await
    }

    /// Uses a client of the application's. Its options hold, but that reads go to the primary.
    ///
    /// Give it a `serverSelectionTimeoutMS` of 2 seconds or so: the driver's default is 30, and the deadline of each
    /// operation then ends what it waits for. The status follows what operations answer, and a ping every now and then
    /// while they fail; the client's own monitoring cannot be watched from here.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn from_client(self, client: Client) -> Result<MongoStore> {
        let database = self.database_of(&client);
        self.open(&database, Link::new()).await
    }

    /// Uses a collection of the application's, and of its client what [`from_client`](Self::from_client) does. The names
    /// given to this builder are not used.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn from_collection<T: Send + Sync>(mut self, collection: Collection<T>) -> Result<MongoStore> {
        let namespace = collection.namespace();
        let database = collection.client().database(&namespace.db);
        self.collection = namespace.coll;
        self.open(&database, Link::new()).await
    }

    fn database_of(&self, client: &Client) -> Database {
        match &self.database {
            Some(name) => client.database(name),
            None => client.default_database().unwrap_or_else(|| client.database("cloakroom")),
        }
    }

    async fn open(self, database: &Database, link: Arc<Link>) -> Result<MongoStore> {
        if self.timeout < Duration::from_millis(1) {
            return Err(Error::config("timeout", "must be at least 1 ms; try 4 seconds"));
        }
        let bad = |name: &str| name.is_empty() || name.contains(['$', '\0']);
        if bad(&self.collection) || self.collection.starts_with("system.") {
            return Err(Error::config("collection", "must be a name without `$`, such as sessions"));
        }
        if bad(database.name()) || database.name().contains(['/', '\\', '.', ' ', '"']) {
            return Err(Error::config("database", "must be a name of letters, digits, `_` and `-`"));
        }
        let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
        let options = CollectionOptions::builder().selection_criteria(primary).build();
        link.probe(database.clone());
        let store = MongoStore {
            sessions: database.collection_with_options(&self.collection, options),
            durable: (self.acknowledge == Acknowledge::Majority).then(|| {
                WriteConcern::builder()
                    .w(mongodb::options::Acknowledgment::Majority)
                    .w_timeout(self.timeout)
                    .build()
            }),
            timeout: self.timeout,
            link,
        };
        if self.indexes == Indexes::Create {
            store.run("create indexes", store.sessions.create_indexes(commands::indexes())).await?;
        } else {
            store.run("connect", database.run_command(doc! { "ping": 1 })).await?;
        }
        Ok(store)
    }
}

#[async_trait]
impl Store for MongoStore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let call = self.sessions.find_one(commands::live(key)).projection(commands::value_only());
        Ok(self.run("get", call).await?.and_then(value))
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        check_size("set", &value)?;
        for _ in 0..TRIES {
            let call = self.sessions.update_one(commands::id(key), commands::write(&value, ttl)).upsert(true);
            match self.attempt("set", call).await? {
                // Two inserted it at once, and this one came second: now it is there to be updated.
                Err(error) if is_duplicate(&error) => {}
                outcome => return outcome.map(drop).map_err(|error| classify(&error).operation("set")),
            }
        }
        Err(contention("set"))
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.update("destroy", commands::live(key), commands::end(), self.durable.clone()).await
    }

    fn status(&self) -> StatusStream {
        self.link.status()
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
impl AtomicStore for MongoStore {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        check_size("create", &value)?;
        for _ in 0..TRIES {
            // A live document does not match the filter, and the insert that follows meets its key.
            let call = self
                .sessions
                .update_one(commands::not_live(key), commands::write(&value, ttl))
                .upsert(true)
                .optional(self.durable.clone(), |call, concern| call.write_concern(concern));
            match self.attempt("create", call).await? {
                Ok(_) => return Ok(true),
                Err(error) if is_duplicate(&error) => {}
                Err(error) => return Err(classify(&error).operation("create")),
            }
            // What came first may have been a binding only, which is no obstacle.
            if self.get(key).await?.is_some() {
                return Ok(false);
            }
        }
        Err(contention("create"))
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        check_size("replace", &value)?;
        check_size("replace", expected)?;
        self.swap("replace", key, expected, commands::write_if(expected, &value, ttl), None).await
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        check_size("remove", expected)?;
        self.swap("remove", key, expected, commands::end_if(expected), self.durable.clone()).await
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        self.update("touch", commands::live(key), commands::lengthen(ttl), None).await
    }
}

#[async_trait]
impl IndexedStore for MongoStore {
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        if user.is_empty() || user.len() > MAX_USER_LEN {
            return Err(Error::new(ErrorKind::Value)
                .operation("bind")
                .store("mongo")
                .hint("a user is 1 to 255 bytes of text"));
        }
        for _ in 0..TRIES {
            let call = self.sessions.update_one(commands::id(key), commands::bind(user, ttl)).upsert(true);
            match self.attempt("bind", call).await? {
                Err(error) if is_duplicate(&error) => {}
                outcome => return outcome.map(drop).map_err(|error| classify(&error).operation("bind")),
            }
        }
        Err(contention("bind"))
    }

    async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
        let call = async {
            let found = self.sessions.find(commands::live_of(user, None)).projection(doc! { "_id": 1 });
            found.await?.try_collect::<Vec<Document>>().await
        };
        self.run("keys_of", call).await?.into_iter().map(key).collect()
    }

    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        let call = self
            .sessions
            .update_many(commands::live_of(user, except), commands::end())
            .optional(self.durable.clone(), |call, concern| call.write_concern(concern));
        Ok(self.run("destroy_user", call).await?.matched_count)
    }
}

#[async_trait]
impl AdminStore for MongoStore {
    fn scan(&self) -> BoxStream<'_, Result<Key>> {
        let open = async {
            let found = self.sessions.find(commands::live_any()).projection(doc! { "_id": 1 });
            self.run("scan", found.batch_size(SCAN_BATCH)).await
        };
        let keys = once(open).map_ok(move |cursor| {
            futures_util::stream::try_unfold(cursor, move |mut cursor| async move {
                let next = self.run("scan", cursor.try_next()).await?;
                next.map(|document| key(document).map(|key| (key, cursor))).transpose()
            })
        });
        keys.try_flatten().boxed()
    }

    async fn len(&self) -> Result<u64> {
        self.run("len", self.sessions.count_documents(commands::live_any())).await
    }

    async fn clear(&self) -> Result<u64> {
        let delete = |filter| {
            let call = self.sessions.delete_many(filter);
            call.optional(self.durable.clone(), |call, concern| call.write_concern(concern))
        };
        let live = self.run("clear", delete(commands::live_any())).await?.deleted_count;
        self.run("clear", delete(commands::dead_any())).await?;
        Ok(live)
    }

    /// The server's TTL index does this by itself, within a minute or so. Two round trips.
    async fn sweep(&self, limit: u32) -> Result<u64> {
        let call = async {
            let found = self.sessions.find(commands::dead_any()).projection(doc! { "_id": 1 });
            // To the server a limit of 0 is none.
            found.limit(i64::from(limit.max(1))).await?.try_collect::<Vec<Document>>().await
        };
        let found = self.run("sweep", call).await?;
        let keys = found.into_iter().take(limit as usize).filter_map(|mut document| document.remove("_id"));
        let call = self.sessions.delete_many(commands::dead_among(keys.collect()));
        Ok(self.run("sweep", call).await?.deleted_count)
    }
}

impl fmt::Debug for MongoStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoStore")
            .field("namespace", &self.sessions.namespace().to_string())
            .field("timeout", &self.timeout)
            .field("status", &self.link.status().current())
            .finish_non_exhaustive()
    }
}

/// Takes the value out of a document.
fn value(mut document: Document) -> Option<Bytes> {
    match document.remove("v") {
        Some(Bson::Binary(binary)) => Some(binary.bytes.into()),
        _ => None,
    }
}

/// Takes the key out of a document.
fn key(document: Document) -> Result<Key> {
    let foreign = || {
        Error::new(ErrorKind::Corrupt).store("mongo").hint(
            "the collection holds a document whose _id is no key; give sessions a collection of their own",
        )
    };
    document.get_str("_id").ok().and_then(|key| Key::new(key).ok()).ok_or_else(foreign)
}

fn check_size(operation: &'static str, value: &[u8]) -> Result<()> {
    if value.len() > MAX_VALUE {
        return Err(Error::new(ErrorKind::TooLarge)
            .operation(operation)
            .store("mongo")
            .hint(format!("a value of {} bytes is larger than {MAX_VALUE}", value.len())));
    }
    Ok(())
}

fn contention(operation: &'static str) -> Error {
    Error::new(ErrorKind::Contention)
        .operation(operation)
        .store("mongo")
        .hint("16 others inserted the same key and removed it again, one after the other")
}
