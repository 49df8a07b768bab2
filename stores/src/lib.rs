//! HTTP sessions for Rust: everything of `cloakroom-core`, and one store for each backend feature.
//!
//! | store | feature |
//! |---|---|
//! | `MemoryStore`: in this process | `memory`, on by default |
//! | `MongoStore`: MongoDB | `mongo` |
//! | `MySqlStore`: MySQL and MariaDB | `mysql` |
//! | `PostgresStore`: PostgreSQL | `postgres` |
//! | `RedisStore`: Redis and Valkey | `redis` |
//! | `SqliteStore`: a file on this machine | `sqlite` |
//!
//! All of them are strict: parallel requests lose nothing. The features `mysql`, `postgres` and `sqlite` need Rust 1.94,
//! `mongo` and `redis` 1.88, like the rest.

mod around;
#[cfg(any(
    feature = "mongo",
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
mod backoff;
#[cfg(feature = "config")]
mod config;
mod connect;
mod duration;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "metrics")]
mod metered;
mod migrating;
#[cfg(feature = "mongo")]
mod mongo;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
mod prefixed;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "mongo", feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub mod shape;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod sweep;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod task;
mod timeout;
mod user;

pub use cloakroom_core::*;

#[cfg(feature = "config")]
pub use crate::config::SessionConfig;
#[cfg(feature = "memory")]
pub use crate::memory::{MemoryStats, MemoryStore, MemoryStoreBuilder};
#[cfg(feature = "metrics")]
pub use crate::metered::Metered;
#[cfg(feature = "mongo")]
pub use crate::mongo::{Acknowledge, MongoStore, MongoStoreBuilder};
#[cfg(feature = "mysql")]
pub use crate::mysql::{MySqlStore, MySqlStoreBuilder};
#[cfg(feature = "postgres")]
pub use crate::postgres::{PostgresStore, PostgresStoreBuilder, Prepare};
#[cfg(feature = "redis")]
pub use crate::redis::{RedisStore, RedisStoreBuilder};
#[cfg(feature = "sqlite")]
pub use crate::sqlite::{SqliteStore, SqliteStoreBuilder};
pub use crate::{connect::connect, migrating::Migrating, prefixed::Prefixed, timeout::Timeout};

/// The code in the guide, compiled with the tests.
#[cfg(all(doctest, feature = "axum", feature = "node", feature = "postgres", feature = "redis"))]
mod pages {
    #[doc = include_str!("../../docs/from-node.md")]
    struct FromNode;
}
