//! Where the quickstart keeps its sessions: in the place that `SESSION_URL` names, a file unless it is set.

use std::{env, sync::Arc};

use cloakroom::{MemoryStore, SqliteStore, Store};

use crate::failure::Failure;

/// The file unless `SESSION_URL` says otherwise, in the folder that the program is started in.
const URL: &str = "sqlite://quickstart.db";

/// Opens the store that `SESSION_URL` names: `sqlite://other.db`, or `memory:` to forget everything at the end.
///
/// # Errors
/// A [`Failure`] when it names no store, or one that cannot be opened.
pub async fn store() -> Result<Arc<dyn Store>, Failure> {
    let url = match env::var("SESSION_URL") {
        Ok(url) => url,
        Err(env::VarError::NotPresent) => URL.to_owned(),
        // Not shown: an address may hold a password.
        Err(env::VarError::NotUnicode(_)) => return Err(unknown()),
    };
    if url == "memory:" {
        return Ok(Arc::new(MemoryStore::new()));
    }
    if !url.starts_with("sqlite:") {
        return Err(unknown());
    }
    let store = SqliteStore::connect(&url).await?;
    store.migrate().await?;
    Ok(Arc::new(store))
}

fn unknown() -> Failure {
    Failure::new(format!(
        "SESSION_URL names no store that the quickstart knows: set it to an address such as {URL}, or to memory:, or \
         leave it out"
    ))
}
