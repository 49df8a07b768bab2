//! What the examples share: how they are served, and the quickstart itself.

mod failure;
mod human;
pub mod quickstart;
mod serve;
#[cfg(all(feature = "memory", feature = "sqlite"))]
mod store;

#[cfg(all(feature = "memory", feature = "sqlite"))]
pub use crate::store::store;
pub use crate::{failure::Failure, serve::serve};

/// The code in the pages of this repository, compiled and run with the tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../README.md")]
    struct Readme;

    #[doc = include_str!("../../CONTRIBUTING.md")]
    struct Contributing;

    #[doc = include_str!("../README.md")]
    struct Examples;
}
