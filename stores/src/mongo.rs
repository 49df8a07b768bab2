//! Sessions in MongoDB: one document for each key.

mod admin;
mod builder;
mod classify;
mod commands;
mod link;

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_core::{
    AdminStore, AtomicStore, Error, ErrorKind, IndexedStore, Key, Result, StatusStream, Store, Swapped, Ttl,
};
use futures_util::{
    future::{Either, select},
    stream::TryStreamExt,
};
use mongodb::{
    Client, Collection,
    action::Action,
    bson::{Bson, Document, doc},
    error::Error as DriverError,
    options::{ReturnDocument, WriteConcern},
};

pub use self::builder::{Acknowledge, MongoStoreBuilder};
pub(crate) use self::{
    builder::check_collection,
    classify::{classify, is_duplicate},
    commands::{end_of, now},
};
use self::{
    classify::{STORE, Tells, tells},
    link::Link,
};
use crate::user::check_user;

/// The largest value, in bytes. A compare-and-swap sends two of them in one command, which may have 16 MiB.
pub(crate) const MAX_VALUE: usize = 7 * 1024 * 1024;

/// Keys of a user that are read at a time: some hundred kilobytes.
const KEYS: u32 = 10_000;

/// Keys of a user that are destroyed at a time.
const DESTROY_BATCH: usize = 100;

/// Attempts of a write that others keep overtaking between its look and its insert.
pub(crate) const TRIES: usize = 16;

/// A store in MongoDB 4.4 or later: a replica set, a sharded cluster, or a single server.
///
/// It has every ability, each operation on one key in one round trip, and one more for whoever comes second of two that
/// write the first time under one key at once. All of it is one document for each key:
///
/// | field | |
/// |---|---|
/// | `_id` | the key, a string |
/// | `v` | the value, binary |
/// | `e` | when the value ends, a date; 1970 once it was removed |
/// | `u`, `b` | the user it is bound to, and until when |
/// | `w` | until when a binding waits for its value |
/// | `s` | whether the last change with a condition was done |
/// | `p` | when the document can be deleted: a TTL index does that |
///
/// Keys, users and values are data wherever they stand: dots, dollars and bytes that are BSON operators mean nothing.
///
/// **Clocks.** Ends are written and compared by the application's clock, and the TTL index, which is up to a minute late,
/// never shows. Servers whose clocks differ by a second disagree by a second about when a session ends; run NTP.
///
/// **Durability.** `create`, `remove`, `destroy`, `destroy_user` and `clear` wait for a majority of the replica set, so
/// that no failover brings back who logged out or loses who logged in. Others wait for what the address says (`w=`), and
/// else for the server's default. [`acknowledge`](MongoStoreBuilder::acknowledge) changes that. A majority that does not
/// confirm in time is [`ErrorKind::Timeout`], and no outage: the write may have been applied. Reads go to the primary,
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
    pub(crate) sessions: Collection<Document>,
    /// What a change waits for that must not be undone by a failover.
    pub(crate) durable: Option<WriteConcern>,
    timeout: Duration,
    link: Arc<Link>,
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
        MongoStoreBuilder::new()
    }

    /// Carries out a call of the driver under the deadline, and notes what it says about the connection.
    pub(crate) async fn run<T>(
        &self,
        operation: &'static str,
        call: impl IntoFuture<Output = Result<T, DriverError>>,
    ) -> Result<T> {
        self.attempt(operation, call).await?.map_err(|error| classify(&error).operation(operation))
    }

    /// As [`run`](Self::run), but leaves an error that tells of no outage to the caller.
    pub(crate) async fn attempt<T>(
        &self,
        operation: &'static str,
        call: impl IntoFuture<Output = Result<T, DriverError>>,
    ) -> Result<Result<T, DriverError>> {
        let begun = self.link.begun();
        let (call, gone) = (tokio::time::timeout(self.timeout, call.into_future()), self.link.gone());
        let (call, gone) = (pin!(call), pin!(gone));
        let outcome = select(call, gone).await;
        begun.ended();
        let error = match outcome {
            Either::Left((Ok(Ok(answer)), _)) => {
                self.link.answered();
                return Ok(Ok(answer));
            }
            Either::Left((Ok(Err(error)), _)) => {
                let told = tells(&error);
                self.link.told(told);
                if told != Tells::Outage {
                    return Ok(Err(error));
                }
                classify(&error)
            }
            Either::Left((Err(_), _)) => {
                // It may have much to do with this one operation.
                self.link.overdue();
                Error::new(ErrorKind::Timeout)
                    .store(STORE)
                    .hint(format!("the server took longer than {:?}", self.timeout))
            }
            Either::Right(_) => {
                self.link.failed();
                Error::new(ErrorKind::Unavailable)
                    .store(STORE)
                    .hint("no server that takes writes can be reached")
            }
        };
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
        pipeline: Vec<Document>,
        durable: Option<WriteConcern>,
    ) -> Result<Swapped> {
        // The document as this very change left it: what was there before, another may have changed in between where the
        // server looks it up apart.
        let call = self
            .sessions
            .find_one_and_update(commands::live(key), pipeline)
            .return_document(ReturnDocument::After)
            .projection(commands::outcome())
            .optional(durable, |call, concern| call.write_concern(concern));
        let Some(found) = self.run(operation, call).await? else { return Ok(Swapped::Gone) };
        if is_done(&found) {
            return Ok(Swapped::Done);
        }
        value(found).map(Swapped::Conflict).ok_or_else(|| foreign().operation(operation))
    }
}

#[async_trait]
impl Store for MongoStore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let call = self.sessions.find_one(commands::live(key)).projection(commands::value_only());
        let found = self.run("get", call).await?;
        found.map(|found| value(found).ok_or_else(|| foreign().operation("get"))).transpose()
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
            // A binding alone, or what has expired, is no obstacle.
            let call = self
                .sessions
                .find_one_and_update(commands::id(key), commands::write_new(&value, ttl))
                .upsert(true)
                .return_document(ReturnDocument::After)
                .projection(commands::done())
                .optional(self.durable.clone(), |call, concern| call.write_concern(concern));
            match self.attempt("create", call).await? {
                Ok(found) => return Ok(found.is_some_and(|found| is_done(&found))),
                // Two inserted it at once, and this one came second: now it is there to be looked at.
                Err(error) if is_duplicate(&error) => {}
                Err(error) => return Err(classify(&error).operation("create")),
            }
        }
        Err(contention("create"))
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        check_size("replace", &value)?;
        check_size("replace", expected)?;
        self.swap("replace", key, commands::write_if(expected, &value, ttl), None).await
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        check_size("remove", expected)?;
        self.swap("remove", key, commands::end_if(expected), self.durable.clone()).await
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        self.update("touch", commands::live(key), commands::lengthen(ttl), None).await
    }
}

#[async_trait]
impl IndexedStore for MongoStore {
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        check_user(STORE, user)?;
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
            // All of them at once; the first batch has 101 unless asked for more.
            found.batch_size(KEYS).await?.try_collect::<Vec<Document>>().await
        };
        self.run("keys_of", call).await?.into_iter().map(key).collect()
    }

    /// In two round trips for each 100 keys, so that none takes long however many there are.
    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        let mut removed = 0;
        loop {
            let found = self.sessions.find(commands::live_of(user, except)).projection(doc! { "_id": 1 });
            let call =
                async { found.limit(DESTROY_BATCH as i64).await?.try_collect::<Vec<Document>>().await };
            let found = self.run("destroy_user", call).await?;
            if found.is_empty() {
                return Ok(removed);
            }
            let last = found.len() < DESTROY_BATCH;
            let keys = found.into_iter().filter_map(|mut document| document.remove("_id")).collect();
            let call = self
                .sessions
                .update_many(commands::live_among(user, keys), commands::end())
                .optional(self.durable.clone(), |call, concern| call.write_concern(concern));
            removed += self.run("destroy_user", call).await?.matched_count;
            if last {
                return Ok(removed);
            }
        }
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

/// Returns whether the condition of the last change held.
fn is_done(document: &Document) -> bool {
    document.get_bool("s").unwrap_or(false)
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
        Error::new(ErrorKind::Corrupt).store(STORE).hint(
            "the collection holds a document whose _id is no key; give sessions a collection of their own",
        )
    };
    document.get_str("_id").ok().and_then(|key| Key::new(key).ok()).ok_or_else(foreign)
}

fn foreign() -> Error {
    Error::new(ErrorKind::Corrupt)
        .store(STORE)
        .hint("the collection holds a document that is no session's; give sessions a collection of their own")
}

fn check_size(operation: &'static str, value: &[u8]) -> Result<()> {
    if value.len() > MAX_VALUE {
        return Err(Error::new(ErrorKind::TooLarge)
            .operation(operation)
            .store(STORE)
            .hint(format!("a value of {} bytes is larger than {MAX_VALUE}", value.len())));
    }
    Ok(())
}

fn contention(operation: &'static str) -> Error {
    Error::new(ErrorKind::Contention)
        .operation(operation)
        .store(STORE)
        .hint("16 others inserted the same key and removed it again, one after the other")
}
