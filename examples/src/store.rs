//! Where the quickstart keeps its sessions: in the place that `SESSION_URL` names, a file unless it is set.

use std::{env, sync::Arc};

use cloakroom::{ErrorKind, Store};

use crate::failure::Failure;

/// The file unless `SESSION_URL` says otherwise, in the folder that the program is started in.
const URL: &str = "sqlite://quickstart.db";

/// Opens the store that `SESSION_URL` names: `sqlite://other.db`, `memory:` to forget everything at the end, or with the
/// feature of its name `redis://localhost`, `postgres://…`, `mysql://…` or `mongodb://…`.
///
/// # Errors
/// A [`Failure`] when it names no store, one whose feature is off, or one that cannot be opened.
pub async fn store() -> Result<Arc<dyn Store>, Failure> {
    let url = match env::var("SESSION_URL") {
        Ok(url) => url,
        Err(env::VarError::NotPresent) => URL.to_owned(),
        // Not shown: an address may hold a password.
        Err(env::VarError::NotUnicode(_)) => return Err(Failure::new("SESSION_URL is not UTF-8")),
    };
    cloakroom::connect(url).await.map_err(|error| {
        Failure::new(match error.kind() {
            ErrorKind::Config => format!("SESSION_URL names no store: {error}"),
            // The address is one; what it names is down, or does not let us in.
            _ => format!("the store that SESSION_URL names cannot be opened: {error}"),
        })
    })
}
