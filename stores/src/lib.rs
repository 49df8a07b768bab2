//! HTTP sessions for Rust: everything of `cloakroom-core`, and one store for each backend feature.

#[cfg(feature = "memory")]
mod memory;
mod prefixed;
#[cfg(feature = "redis")]
mod redis;

pub use cloakroom_core::*;

#[cfg(feature = "memory")]
pub use crate::memory::{MemoryStats, MemoryStore, MemoryStoreBuilder};
pub use crate::prefixed::Prefixed;
#[cfg(feature = "redis")]
pub use crate::redis::{RedisStore, RedisStoreBuilder};
