//! What the SQL stores share: names and templates, the connection and its status, what a driver's error means.

mod connections;
mod fault;
mod link;
mod name;
mod walk;

use std::time::Duration;

use cloakroom_core::{Error, ErrorKind, Key, Result, Ttl};
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::user::check_user;

pub(crate) use self::{
    connections::Connections,
    fault::{Fault, Tells, general},
    link::{Line, Link, Preparing},
    name::{Names, Quote},
    walk::{Walk, more},
};

/// How long an operation may take unless the builder says otherwise.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

/// How many keys one statement of a scan, a count or a clearing looks at.
pub(crate) const PAGE: i64 = 1000;

/// A statement made of a template, shared by every call.
#[derive(Clone, Debug)]
pub(crate) struct Sql(SqlStr);

impl Sql {
    /// Takes text in which nothing came from a visitor: templates of ours with names that were checked.
    pub(crate) fn new(text: String) -> Self {
        Self(AssertSqlSafe(std::sync::Arc::<str>::from(text)).into_sql_str())
    }

    pub(crate) fn text(&self) -> SqlStr {
        self.0.clone()
    }
}

/// Checks what builders are told about time: what is longer cannot be counted with, and is meant as "never".
pub(crate) fn check_times(timeout: Duration, sweep_every: Option<Duration>) -> Result<()> {
    const HOUR: Duration = Duration::from_secs(3600);
    if timeout.is_zero() || timeout > HOUR {
        return Err(Error::config("timeout", "must be more than zero, and an hour at most"));
    }
    if sweep_every.is_some_and(|every| every.is_zero() || every > HOUR * 24 * 400) {
        return Err(Error::config(
            "sweep_every",
            "must be more than zero, and 400 days at most; `None` switches it off",
        ));
    }
    Ok(())
}

/// A ttl as SQL counts: 400 days at most, so the cast is exact.
pub(crate) const fn millis(ttl: Ttl) -> i64 {
    ttl.millis() as i64
}

/// Checks the name of a user, which is 1 to 255 bytes.
pub(crate) fn user_bytes<'a>(store: &'static str, user: &'a str) -> Result<&'a [u8]> {
    check_user(store, user)?;
    Ok(user.as_bytes())
}

/// Reads a key back from its row.
pub(crate) fn key_of(store: &'static str, text: &str) -> Result<Key> {
    Key::new(text).map_err(|_| {
        // Not the key itself: it may be somebody's.
        Error::new(ErrorKind::Backend).store(store).hint("the table holds a key that is none")
    })
}

/// Checks that a table's schema is not newer than this crate.
pub(crate) fn check_version(store: &'static str, found: i64, known: usize) -> Result<usize> {
    match usize::try_from(found) {
        Ok(version) if version <= known => Ok(version),
        _ => Err(Error::config(
            "table",
            format!(
                "has version {found} of the schema, and this version of cloakroom knows {known}: update it"
            ),
        )
        .store(store)
        .operation("migrate")),
    }
}
