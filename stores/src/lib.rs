//! HTTP sessions for Rust: everything of `cloakroom-core`, and one store for each backend feature.

mod around;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "metrics")]
mod metered;
mod migrating;
mod prefixed;
#[cfg(feature = "redis")]
mod redis;
mod timeout;

pub use cloakroom_core::*;

#[cfg(feature = "memory")]
pub use crate::memory::{MemoryStats, MemoryStore, MemoryStoreBuilder};
#[cfg(feature = "metrics")]
pub use crate::metered::Metered;
#[cfg(feature = "redis")]
pub use crate::redis::{RedisStore, RedisStoreBuilder};
pub use crate::{migrating::Migrating, prefixed::Prefixed, timeout::Timeout};
