//! How a store is connected, and how it names things.

use std::{sync::Arc, time::Duration};

use cloakroom_core::{Error, ErrorKind, Result};
use mongodb::{
    Client, Collection, Database,
    bson::doc,
    error::Error as DriverError,
    options::{
        ClientOptions, CollectionOptions, ConnectionString, ReadPreference, SelectionCriteria, WriteConcern,
    },
};

use super::{
    MongoStore,
    classify::{STORE, classify},
    commands,
    link::Link,
};

/// The longest that a server is told to wait for others.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Configures a [`MongoStore`]: begin with [`MongoStore::builder`], end with one of `connect`, `from_client` and
/// `from_collection`.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it connects"]
pub struct MongoStoreBuilder {
    collection: String,
    database: Option<String>,
    /// The database if neither this nor the address names one.
    fallback: &'static str,
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

impl MongoStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            collection: "sessions".to_owned(),
            database: None,
            fallback: "cloakroom",
            timeout: Duration::from_secs(4),
            acknowledge: Acknowledge::default(),
            indexes: Indexes::Create,
        }
    }

    /// As Node's driver does without a name, and without indexes of ours.
    pub(crate) fn like_node(self) -> Self {
        Self { fallback: "test", indexes: Indexes::Leave, ..self }
    }

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
    /// Once the server is known to be away, an operation gives up after 300 ms. Until then the driver looks for a server
    /// for half of this time, unless the address says otherwise (`serverSelectionTimeoutMS`).
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
        self.check()?;
        // Of `mongodb+srv` the servers are asked for in the DNS.
        let parsed = tokio::time::timeout(self.timeout, ClientOptions::parse(url).into_future()).await;
        let late = |_| {
            let hint = format!("the names of the servers took longer than {:?} to find", self.timeout);
            Error::new(ErrorKind::Unavailable).operation("connect").store(STORE).hint(hint)
        };
        let mut options = parsed.map_err(late)?.map_err(|error| unusable(url, &error))?;
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
            None => client.default_database().unwrap_or_else(|| client.database(self.fallback)),
        }
    }

    /// Finds what is wrong before anything is connected.
    fn check(&self) -> Result<()> {
        if self.timeout < Duration::from_millis(1) {
            return Err(Error::config("timeout", "must be at least 1 ms; try 4 seconds"));
        }
        check_collection("collection", &self.collection)
    }

    async fn open(self, database: &Database, link: Arc<Link>) -> Result<MongoStore> {
        self.check()?;
        if is_bad(database.name()) || database.name().contains(['/', '\\', '.', ' ', '"']) {
            return Err(Error::config("database", "must be a name of letters, digits, `_` and `-`"));
        }
        let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
        let options = CollectionOptions::builder().selection_criteria(primary).build();
        link.probe(database.clone());
        let store = MongoStore {
            sessions: database.collection_with_options(&self.collection, options),
            durable: (self.acknowledge == Acknowledge::Majority).then(|| {
                // A concern replaces all of the configured one, of which this keeps whether to wait for the journal.
                let journal = database.write_concern().and_then(|configured| configured.journal);
                let mut concern = WriteConcern::majority();
                // Sooner than the operation's own deadline, so that the server says what it waits for.
                concern.w_timeout = Some(sooner(self.timeout));
                concern.journal = journal;
                concern
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

/// Returns how long the server waits for others if an operation may take so long: whole milliseconds in 31 bits.
fn sooner(timeout: Duration) -> Duration {
    (timeout - timeout / 8).clamp(Duration::from_millis(1), LONGEST)
}

/// Checks the name of a collection, under the name that the caller knows it by.
///
/// # Errors
/// [`ErrorKind::Config`] naming `field`.
pub(crate) fn check_collection(field: &'static str, name: &str) -> Result<()> {
    if is_bad(name) || name.starts_with("system.") {
        return Err(Error::config(field, "must be a name without `$`, such as sessions"));
    }
    Ok(())
}

fn is_bad(name: &str) -> bool {
    name.is_empty() || name.contains(['$', '\0'])
}

/// Tells what is wrong with an address. The driver's message quotes it.
fn unusable(url: &str, error: &DriverError) -> Error {
    let error = classify(error).operation("connect");
    if error.is_retryable() {
        return error;
    }
    let options = url.split_once('?').is_some_and(|(base, _)| ConnectionString::parse(base).is_ok());
    let cure = match options {
        true => {
            "has an option after `?` that the driver does not know, or with a value that it cannot use; \
             a `?` in a password must be percent-encoded"
        }
        false => {
            "is no address of a MongoDB; write mongodb://user:password@host:27017/database, \
             with special characters of the password percent-encoded"
        }
    };
    Error::config("url", cure).store(STORE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_waits_for_others_a_little_less_than_an_operation_for_it() {
        for (timeout, waits) in [
            (Duration::from_millis(1), Duration::from_millis(1)),
            (Duration::from_secs(4), Duration::from_millis(3500)),
            (Duration::from_secs(8 * 3600), Duration::from_secs(7 * 3600)),
            (Duration::MAX / 2, LONGEST),
            (Duration::MAX, LONGEST),
        ] {
            assert_eq!(sooner(timeout), waits, "{timeout:?}");
        }
        assert!(i32::try_from(LONGEST.as_millis()).is_ok());
    }
}
