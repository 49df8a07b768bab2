//! A folder for the SQLite files of one test, gone with its last clone.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use cloakroom::{Result, SqliteStore};
use cloakroom_conformance::Env;

#[derive(Clone)]
pub(crate) struct Folder(Arc<Guard>);

struct Guard(PathBuf);

impl Folder {
    /// Makes the folder of a place, or returns it: one for a place and those beside it.
    pub(crate) fn shared(env: &Env) -> Self {
        env.shared_with_neighbours(|| Self::new(env.namespace()))
    }

    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("the test's folder can be made");
        Self(Arc::new(Guard(path)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.0
    }

    /// Returns the address of the folder's one database.
    pub(crate) fn url(&self) -> String {
        format!("sqlite://{}/sessions.db", self.path().display())
    }

    /// Opens a store over a table of its own, with few connections since there are many tests, and no sweeper.
    pub(crate) async fn store(&self, table: &str) -> Result<SqliteStore> {
        let builder = SqliteStore::builder().table(table).max_connections(4).sweep_every(None);
        let store = builder.connect(&self.url()).await?;
        store.migrate().await?;
        Ok(store)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
