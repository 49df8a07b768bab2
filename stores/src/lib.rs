//! HTTP sessions for Rust: everything of `cloakroom-core`, and one store for each backend feature.

#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
mod prefixed;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod sweep;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod task;

pub use cloakroom_core::*;

#[cfg(feature = "memory")]
pub use crate::memory::{MemoryStats, MemoryStore, MemoryStoreBuilder};
#[cfg(feature = "mysql")]
pub use crate::mysql::{MySqlStore, MySqlStoreBuilder};
#[cfg(feature = "postgres")]
pub use crate::postgres::{PostgresStore, PostgresStoreBuilder, Prepare};
pub use crate::prefixed::Prefixed;
#[cfg(feature = "sqlite")]
pub use crate::sqlite::{SqliteStore, SqliteStoreBuilder};
