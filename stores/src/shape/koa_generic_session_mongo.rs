//! The collection of koa-generic-session-mongo, a Koa store in MongoDB.

use std::{fmt, time::Duration};

use bytes::Bytes;
use cloakroom_core::{
    AtomicStore, Error, ErrorKind, Key, Result, StatusStream, Store, Swapped, Ttl, async_trait,
};
use mongodb::{
    Client, IndexModel,
    action::Action,
    bson::{Document, doc, serialize_to_vec},
    options::IndexOptions,
};

use super::bson_json::{document_of, json_of, plain_document, with_fields_of};
use crate::mongo::{MAX_VALUE, MongoStore, MongoStoreBuilder, TRIES, classify, end_of, is_duplicate, now};

/// The name of this store in errors of its own; those of the driver have the name of the store beneath.
const STORE: &str = "koa-generic-session-mongo";

/// The fields of a document that are not the session's.
const OWN: [&str; 3] = ["_id", "sid", "ttl"];

/// The collection of [koa-generic-session-mongo](https://www.npmjs.com/package/koa-generic-session-mongo) 0.4: each field
/// of the session is one of the document, beside `sid`, the key with its prefix, and `ttl`, a date. It goes with the
/// profile of Koa.
///
/// It is strict: a conditional write reads the document, compares what the session in it says, and writes if the whole
/// document is still the one it read. That is a second round trip for `replace` and `remove`. Node's own writes compare
/// nothing. Ends are written and compared by the application's clock. Node's store reads what has ended until the index
/// deletes it; here it is gone.
///
/// What a Node program sees as a date or an object id is the string in the JSON that `JSON.stringify` makes of it. A
/// conditional write leaves what it does not change as it is stored, so that a date stays one.
///
/// Connection, durability and deadlines are those of [`MongoStore`]. Without a unique index of `sid` two first requests
/// could make two documents, so the one that Node makes is made here too. What has ended is deleted by Node's index of
/// `ttl`, which is not.
///
/// ```no_run
/// use cloakroom::shape::KoaGenericSessionMongo;
///
/// # async fn open() -> cloakroom::Result<()> {
/// let store = KoaGenericSessionMongo::builder().connect("mongodb://localhost:27017/shop").await?;
/// # Ok(()) }
/// ```
///
/// # Limits
///
/// As in Node, a session has no field called `sid`, `ttl` or `_id`, and no field anywhere has a name with a dot or a
/// dollar in front; it has 100 levels at most, and no text with half of a surrogate pair. That is
/// [`ErrorKind::Value`]. A document that holds another type, binary data for one, is [`ErrorKind::Corrupt`], and no
/// conditional write changes it. Values have at most 7 MiB, as JSON and as a document; larger ones are
/// [`ErrorKind::TooLarge`].
#[derive(Clone)]
pub struct KoaGenericSessionMongo(MongoStore);

impl KoaGenericSessionMongo {
    /// Starts a store over the collection `sessions` of a Node program.
    pub fn builder() -> KoaGenericSessionMongoBuilder {
        KoaGenericSessionMongoBuilder(MongoStore::builder().like_node())
    }

    async fn with_index(self) -> Result<Self> {
        let options = IndexOptions::builder().unique(true).build();
        let index = IndexModel::builder().keys(doc! { "sid": 1 }).options(options).build();
        self.0.run("create indexes", self.0.sessions.create_index(index)).await?;
        Ok(self)
    }

    /// Reads the document under `key`, as it is stored, unless it has ended.
    async fn read(&self, operation: &'static str, key: &Key) -> Result<Option<Document>> {
        self.0.run(operation, self.0.sessions.find_one(live(key))).await
    }

    /// Returns the document under `key` if it says what is expected.
    async fn holding(&self, operation: &'static str, key: &Key, expected: &[u8]) -> Result<Held> {
        let Some(stored) = self.read(operation, key).await? else { return Ok(Held::Not(Swapped::Gone)) };
        let session = session_of(operation, &stored)?;
        // Read as a document, for there are many ways to write one down.
        if document_of(expected).is_ok_and(|expected| expected == session) {
            return Ok(Held::This(stored));
        }
        let current = json_of(session).map_err(|error| of(operation, error))?;
        Ok(Held::Not(Swapped::Conflict(current.into())))
    }
}

/// What a conditional write has met.
enum Held {
    /// What it expected, in this document.
    This(Document),
    /// Something else.
    Not(Swapped),
}

/// Says where the collection of a Node program is.
#[derive(Clone, Debug)]
#[must_use]
pub struct KoaGenericSessionMongoBuilder(MongoStoreBuilder);

impl KoaGenericSessionMongoBuilder {
    /// Names the collection. `sessions` by default, as in Node (`collection`).
    pub fn collection(self, name: impl Into<String>) -> Self {
        Self(self.0.collection(name))
    }

    /// Names the database (`db`). By default that of the address or the client, or `test` if it has none, as in Node.
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
    /// As [`MongoStoreBuilder::connect`]; [`ErrorKind::Rejected`] also if the unique index of `sid` cannot be made.
    pub async fn connect(self, url: &str) -> Result<KoaGenericSessionMongo> {
        KoaGenericSessionMongo(self.0.connect(url).await?).with_index().await
    }

    /// Uses a client of the application's, as [`MongoStoreBuilder::from_client`] does.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn from_client(self, client: Client) -> Result<KoaGenericSessionMongo> {
        KoaGenericSessionMongo(self.0.from_client(client).await?).with_index().await
    }
}

#[async_trait]
impl Store for KoaGenericSessionMongo {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let Some(stored) = self.read("get", key).await? else { return Ok(None) };
        let json = json_of(session_of("get", &stored)?).map_err(|error| of("get", error))?;
        Ok(Some(json.into()))
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        let document = written("set", key, &value, ttl, None)?;
        for _ in 0..TRIES {
            let by_sid = doc! { "sid": key.as_str() };
            let call = self.0.sessions.replace_one(by_sid, &document).upsert(true);
            match self.0.attempt("set", call).await? {
                // Two inserted it at once, and this one came second: now it is there to be replaced.
                Err(error) if is_duplicate(&error) => {}
                outcome => return outcome.map(drop).map_err(|error| classify(&error).operation("set")),
            }
        }
        Err(error(ErrorKind::Contention, "set"))
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        let call = self.0.sessions.delete_one(live(key));
        let call = call.optional(self.0.durable.clone(), |call, concern| call.write_concern(concern));
        Ok(self.0.run("destroy", call).await?.deleted_count > 0)
    }

    fn status(&self) -> StatusStream {
        self.0.status()
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for KoaGenericSessionMongo {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        let document = written("create", key, &value, ttl, None)?;
        for _ in 0..TRIES {
            // A live document does not match, and the insert that follows meets its `sid`.
            let call = self
                .0
                .sessions
                .replace_one(ended(key), &document)
                .upsert(true)
                .optional(self.0.durable.clone(), |call, concern| call.write_concern(concern));
            match self.0.attempt("create", call).await? {
                Ok(_) => return Ok(true),
                Err(error) if is_duplicate(&error) => {}
                Err(error) => return Err(classify(&error).operation("create")),
            }
            if self.read("create", key).await?.is_some() {
                return Ok(false);
            }
        }
        Err(error(ErrorKind::Contention, "create"))
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        for _ in 0..TRIES {
            let stored = match self.holding("replace", key, expected).await? {
                Held::This(stored) => stored,
                Held::Not(swapped) => return Ok(swapped),
            };
            let document = written("replace", key, &value, ttl, Some(&stored))?;
            let call = self.0.sessions.replace_one(exactly(&stored), document);
            if self.0.run("replace", call).await?.matched_count > 0 {
                return Ok(Swapped::Done);
            }
        }
        Err(error(ErrorKind::Contention, "replace"))
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        for _ in 0..TRIES {
            let stored = match self.holding("remove", key, expected).await? {
                Held::This(stored) => stored,
                Held::Not(swapped) => return Ok(swapped),
            };
            let call = self.0.sessions.delete_one(exactly(&stored));
            let call = call.optional(self.0.durable.clone(), |call, concern| call.write_concern(concern));
            if self.0.run("remove", call).await?.deleted_count > 0 {
                return Ok(Swapped::Done);
            }
        }
        Err(error(ErrorKind::Contention, "remove"))
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        let longer = doc! { "$set": { "ttl": end_of(ttl.duration()) } };
        let call = self.0.sessions.update_one(live(key), longer);
        Ok(self.0.run("touch", call).await?.matched_count > 0)
    }
}

/// Shows collection and connection, never the address, a key or a value.
impl fmt::Debug for KoaGenericSessionMongo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KoaGenericSessionMongo").field(&self.0).finish()
    }
}

/// Finds the document under `key` if it has not ended. One without an end has not.
fn live(key: &Key) -> Document {
    doc! { "sid": key.as_str(), "$or": [{ "ttl": { "$exists": false } }, { "ttl": { "$gt": now() } }] }
}

/// Finds it if it has ended: exactly if [`live`] does not.
fn ended(key: &Key) -> Document {
    doc! { "sid": key.as_str(), "ttl": { "$exists": true, "$not": { "$gt": now() } } }
}

/// Finds a document that is still this one, in every field.
fn exactly(stored: &Document) -> Document {
    let same = doc! { "$expr": { "$eq": ["$$ROOT", { "$literal": stored }] } };
    let id = stored.get("_id").map(|id| ("_id".to_owned(), id.clone()));
    id.into_iter().chain(same).collect()
}

/// Returns what a document says of the session, in the types of JSON.
fn session_of(operation: &'static str, stored: &Document) -> Result<Document> {
    let mut session = stored.clone();
    for name in OWN {
        session.remove(name);
    }
    plain_document(&session).ok_or_else(|| {
        error(ErrorKind::Corrupt, operation).hint("the document holds a type that JSON has no form for")
    })
}

/// Returns the document to be written for a value, in place of the `stored` one if there is one.
fn written(
    operation: &'static str,
    key: &Key,
    value: &[u8],
    ttl: Ttl,
    stored: Option<&Document>,
) -> Result<Document> {
    let large = |size: usize| {
        let hint = format!("a value of {size} bytes is larger than {MAX_VALUE}");
        error(ErrorKind::TooLarge, operation).hint(hint)
    };
    if value.len() > MAX_VALUE {
        return Err(large(value.len()));
    }
    let mut document = document_of(value).map_err(|error| of(operation, error))?;
    if let Some(name) = OWN.into_iter().find(|name| document.contains_key(name)) {
        let hint = format!("`{name}` is a field of the document's own, and none of the session's");
        return Err(error(ErrorKind::Value, operation).hint(hint));
    }
    if let Some(stored) = stored {
        document = with_fields_of(stored, document);
    }
    document.insert("sid", key.as_str());
    document.insert("ttl", end_of(ttl.duration()));
    // The names of an array's elements take room that they do not take in JSON.
    let size = serialize_to_vec(&document).map_or(usize::MAX, |bytes| bytes.len());
    if size > MAX_VALUE {
        return Err(large(size));
    }
    Ok(document)
}

fn of(operation: &'static str, error: Error) -> Error {
    error.operation(operation).store(STORE)
}

fn error(kind: ErrorKind, operation: &'static str) -> Error {
    of(operation, Error::new(kind))
}
