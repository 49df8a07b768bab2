//! The collection of connect-mongo, an Express store in MongoDB.

use std::{fmt, time::Duration};

use bytes::Bytes;
use cloakroom_core::{
    AtomicStore, Error, ErrorKind, Key, Result, StatusStream, Store, Swapped, Ttl, async_trait,
};
use mongodb::{
    Client,
    action::Action,
    bson::{Bson, Document, doc},
};

use super::json::json;
use crate::mongo::{MAX_VALUE, MongoStore, MongoStoreBuilder, TRIES, classify, end_of, is_duplicate, now};

/// The name of this store in errors of its own; those of the driver have the name of the store beneath.
const STORE: &str = "connect-mongo";

/// The collection of [connect-mongo](https://www.npmjs.com/package/connect-mongo) 6: `_id` is the id, `session` the JSON as
/// a string, `expires` a date. It goes with the profile of Express, whose ids stand there without a prefix.
///
/// It is strict: each conditional write is one command with the text of the JSON in its filter; a second one reads the
/// latest text if it did not fit. Node's own writes compare nothing. Ends are written and compared by the application's
/// clock, as Node does it, and a document without an end is there until it is written. The fields that connect-mongo
/// puts there for options of its own, such as `lastModified` and `createdAt`, stay as they are.
///
/// Connection, durability and deadlines are those of [`MongoStore`]. What has ended is deleted by the index that Node
/// makes; none is made here.
///
/// ```no_run
/// use cloakroom::shape::ConnectMongo;
///
/// # async fn open() -> cloakroom::Result<()> {
/// let store = ConnectMongo::builder().connect("mongodb://localhost:27017/shop").await?;
/// # Ok(()) }
/// ```
///
/// # Limits
///
/// A session that is no string is [`ErrorKind::Corrupt`], and no conditional write changes it: connect-mongo stores one
/// as a document with `stringify: false`, or if it encrypts. Values have at most 7 MiB; larger ones are
/// [`ErrorKind::TooLarge`].
#[derive(Clone)]
pub struct ConnectMongo(MongoStore);

impl ConnectMongo {
    /// Starts a store over the collection `sessions` of a Node program.
    pub fn builder() -> ConnectMongoBuilder {
        ConnectMongoBuilder(MongoStore::builder().like_node())
    }

    /// Says what a conditional write has met; `None` if what it expected is there after all, so that it may try again.
    async fn met(&self, key: &Key, expected: &[u8]) -> Result<Option<Swapped>> {
        Ok(match self.get(key).await? {
            None => Some(Swapped::Gone),
            Some(current) if current != expected => Some(Swapped::Conflict(current)),
            Some(_) => None,
        })
    }

    /// Whether there is a document, of any form, that has not ended.
    async fn is_there(&self, operation: &'static str, key: &Key) -> Result<bool> {
        let call = self.0.sessions.find_one(live(key)).projection(doc! { "_id": 1 });
        Ok(self.0.run(operation, call).await?.is_some())
    }

    /// Deletes the one document that a filter finds; `true` if it found one.
    async fn delete(&self, operation: &'static str, filter: Document) -> Result<bool> {
        let call = self.0.sessions.delete_one(filter);
        let call = call.optional(self.0.durable.clone(), |call, concern| call.write_concern(concern));
        Ok(self.0.run(operation, call).await?.deleted_count > 0)
    }
}

/// Says where the collection of a Node program is.
#[derive(Clone, Debug)]
#[must_use]
pub struct ConnectMongoBuilder(MongoStoreBuilder);

impl ConnectMongoBuilder {
    /// Names the collection. `sessions` by default, as in Node (`collectionName`).
    pub fn collection(self, name: impl Into<String>) -> Self {
        Self(self.0.collection(name))
    }

    /// Names the database (`dbName`). By default that of the address or the client, or `test` if it has none, as in Node.
    pub fn database(self, name: impl Into<String>) -> Self {
        Self(self.0.database(name))
    }

    /// Sets the deadline of each operation. 4 seconds by default.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }

    /// Connects to the server at `url`, `mongodb://` or `mongodb+srv://`.
    ///
    /// # Errors
    /// As [`MongoStoreBuilder::connect`].
    pub async fn connect(self, url: &str) -> Result<ConnectMongo> {
        self.0.connect(url).await.map(ConnectMongo)
    }

    /// Uses a client of the application's, as [`MongoStoreBuilder::from_client`] does.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn from_client(self, client: Client) -> Result<ConnectMongo> {
        self.0.from_client(client).await.map(ConnectMongo)
    }
}

#[async_trait]
impl Store for ConnectMongo {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let call = self.0.sessions.find_one(live(key)).projection(doc! { "_id": 0, "session": 1 });
        let Some(mut found) = self.0.run("get", call).await? else { return Ok(None) };
        match found.remove("session") {
            Some(Bson::String(text)) => Ok(Some(text.into())),
            _ => Err(error(ErrorKind::Corrupt, "get").hint(
                "the session is no string: connect-mongo encrypts it, or keeps documents (`stringify: false`)",
            )),
        }
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        let text = text("set", &value)?;
        for _ in 0..TRIES {
            let call =
                self.0.sessions.update_one(doc! { "_id": key.as_str() }, written(text, ttl)).upsert(true);
            match self.0.attempt("set", call).await? {
                // Two inserted it at once, and this one came second: now it is there to be updated.
                Err(error) if is_duplicate(&error) => {}
                outcome => return outcome.map(drop).map_err(|error| classify(&error).operation("set")),
            }
        }
        Err(error(ErrorKind::Contention, "set"))
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.delete("destroy", live(key)).await
    }

    fn status(&self) -> StatusStream {
        self.0.status()
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for ConnectMongo {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        let text = text("create", &value)?;
        for _ in 0..TRIES {
            // A live document does not match, and the insert that follows meets its id.
            let call = self
                .0
                .sessions
                .update_one(ended(key), written(text, ttl))
                .upsert(true)
                .optional(self.0.durable.clone(), |call, concern| call.write_concern(concern));
            match self.0.attempt("create", call).await? {
                Ok(_) => return Ok(true),
                Err(error) if is_duplicate(&error) => {}
                Err(error) => return Err(classify(&error).operation("create")),
            }
            if self.is_there("create", key).await? {
                return Ok(false);
            }
        }
        Err(error(ErrorKind::Contention, "create"))
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        let text = text("replace", &value)?;
        for _ in 0..TRIES {
            if let Some(filter) = holding(key, expected) {
                let call = self.0.sessions.update_one(filter, written(text, ttl));
                if self.0.run("replace", call).await?.matched_count > 0 {
                    return Ok(Swapped::Done);
                }
            }
            if let Some(met) = self.met(key, expected).await? {
                return Ok(met);
            }
        }
        Err(error(ErrorKind::Contention, "replace"))
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        for _ in 0..TRIES {
            if let Some(filter) = holding(key, expected)
                && self.delete("remove", filter).await?
            {
                return Ok(Swapped::Done);
            }
            if let Some(met) = self.met(key, expected).await? {
                return Ok(met);
            }
        }
        Err(error(ErrorKind::Contention, "remove"))
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        let longer = doc! { "$set": { "expires": end_of(ttl.duration()) } };
        let call = self.0.sessions.update_one(live(key), longer);
        Ok(self.0.run("touch", call).await?.matched_count > 0)
    }
}

/// Shows collection and connection, never the address, a key or a value.
impl fmt::Debug for ConnectMongo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConnectMongo").field(&self.0).finish()
    }
}

/// Finds the document under `key` if it has not ended, as connect-mongo looks for it.
fn live(key: &Key) -> Document {
    doc! {
        "_id": key.as_str(),
        "$or": [{ "expires": { "$exists": false } }, { "expires": { "$gt": now() } }],
    }
}

/// Finds it if it has ended: exactly if [`live`] does not.
fn ended(key: &Key) -> Document {
    doc! { "_id": key.as_str(), "expires": { "$exists": true, "$not": { "$gt": now() } } }
}

/// Finds it if it has not ended and holds this text; `None` if that is no text, which no document holds.
fn holding(key: &Key, expected: &[u8]) -> Option<Document> {
    let expected = str::from_utf8(expected).ok()?;
    let mut filter = live(key);
    filter.insert("session", expected);
    Some(filter)
}

fn written(text: &str, ttl: Ttl) -> Document {
    doc! { "$set": { "session": text, "expires": end_of(ttl.duration()) } }
}

fn text<'v>(operation: &'static str, value: &'v [u8]) -> Result<&'v str> {
    json(value, MAX_VALUE).map_err(|error| error.operation(operation).store(STORE))
}

fn error(kind: ErrorKind, operation: &'static str) -> Error {
    Error::new(kind).operation(operation).store(STORE)
}
