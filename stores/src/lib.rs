//! HTTP sessions for Rust: everything of `cloakroom-core`, and one store for each backend feature.

#[cfg(feature = "memory")]
mod memory;
mod migrating;
mod prefixed;

pub use cloakroom_core::*;

#[cfg(feature = "memory")]
pub use crate::memory::{MemoryStats, MemoryStore, MemoryStoreBuilder};
pub use crate::{migrating::Migrating, prefixed::Prefixed};
