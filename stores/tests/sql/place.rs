//! A database of its own for one test, and what the tests of all SQL stores ask of it.

use std::time::Duration;

use cloakroom::{AdminStore, AtomicStore, IndexedStore, Key, Result, Store, Ttl};

/// An hour: longer than any test.
pub(crate) const LONG: Ttl = Ttl::from_secs(3600);

/// A place for one test: a database on a server, or a file.
pub(crate) trait Place: Send + Sync + Sized + 'static {
    type Store: Store + AtomicStore + IndexedStore + AdminStore + Clone;

    /// The tables of version 1 named `old`, as that version made them.
    const VERSION_1: &'static [&'static str];

    /// Inserts `rows` rows into the table `many`, with keys that begin with a word, and an end in milliseconds since
    /// 1970; the words `{rows}`, `{word}` and `{end}` stand for them.
    const FILL: &'static str;

    /// Makes the place.
    async fn make() -> Self;

    /// Connects to it; makes no tables.
    async fn open(&self, table: &str) -> Result<Self::Store>;

    /// As [`open`](Self::open), with a background task that sweeps so often.
    async fn open_sweeping(&self, table: &str, every: Duration) -> Self::Store;

    fn stop_sweeping(store: &Self::Store);

    async fn migrate(store: &Self::Store) -> Result<()>;

    fn ddl(store: &Self::Store) -> String;

    /// Runs statements of the test's own, one after the other.
    async fn run(&self, sql: &str);

    /// Asks for one number.
    async fn number(&self, sql: &str) -> i64;

    /// Opens a table and makes it.
    async fn table(&self, table: &str) -> Self::Store {
        let store = self.open(table).await.expect("the place is there");
        Self::migrate(&store).await.expect("the tables can be made");
        store
    }
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).expect("a key of the test's own")
}
