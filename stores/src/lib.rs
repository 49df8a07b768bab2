//! HTTP sessions for Rust: everything of `cloakroom-core`, and one store for each backend feature.

pub use cloakroom_core::*;
