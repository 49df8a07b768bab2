//! HTTP sessions for Rust: the store contract, the engine around a handler, cookies, and the framework adapters.

mod cookie;
mod error;
mod headers;
mod id;
mod keyring;
mod status;
mod store;

pub use async_trait::async_trait;
pub use bytes::Bytes;
pub use futures_util::stream::BoxStream;

pub use crate::{
    cookie::{CookieConfig, SameSite},
    error::{Error, ErrorKind, Result},
    headers::HeaderEdits,
    id::{Fingerprint, Key, SessionId},
    keyring::Keyring,
    status::{Status, StatusSender, StatusStream},
    store::{AdminStore, AtomicStore, Guarantee, IndexedStore, Store, Swapped, Ttl},
};
