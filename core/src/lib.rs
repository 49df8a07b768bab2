//! HTTP sessions for Rust: the store contract, the session engine, cookies, and the framework adapters.
//!
//! Applications use the `cloakroom` crate, which adds the stores. A store of your own needs this crate alone: read
//! [`Store`], write three methods, and prove it with `cloakroom-conformance`.
//!
//! | to learn | read |
//! |---|---|
//! | what a handler can do | [`Session`], [`Data`] |
//! | what can be configured | [`Builder`], [`CookieConfig`], [`Expiry`], [`Keyring`] |
//! | how to write a store | [`Store`], then [`AtomicStore`] |
//! | how to adapt a framework | [`Engine`] |
//!
//! Adapters are features with the version of what they adapt: `tower-service-0_3` and `axum-core-0_5`. None is on by
//! default, and without one this crate knows no framework. The feature `encrypt` adds encryption at rest, and `node` the
//! wire formats of Koa and Express.

// What only other wire formats use is checked for use where those are.
#![cfg_attr(not(feature = "node"), allow(dead_code))]

mod adapter;
mod backend;
mod commit;
mod config;
mod cookie;
mod data;
mod devices;
mod document;
#[cfg(feature = "encrypt")]
mod encrypt;
mod end;
mod engine;
mod error;
mod event;
mod expiry;
mod gate;
mod handle;
mod headers;
mod hooks;
mod id;
mod ids;
mod keyring;
mod migrate;
mod no_store;
mod oplog;
mod plan;
mod profile;
mod record;
mod relocate;
mod repair;
mod scan;
mod session;
mod status;
mod store;
mod swap;
mod transport;
mod value;
mod work;

pub use async_trait::async_trait;
pub use bytes::Bytes;
pub use futures_util::stream::BoxStream;

pub use crate::{
    config::Builder,
    cookie::{CookieConfig, CookieOptions, Priority, SameSite},
    data::{Data, DataMut},
    devices::UserSession,
    engine::{Commit, Engine, RequestHead},
    error::{Error, ErrorKind, Result},
    expiry::Expiry,
    gate::{Fallback, OnOutage},
    headers::HeaderEdits,
    hooks::OwnedHead,
    id::{Fingerprint, Key, SessionId},
    keyring::Keyring,
    no_store::NoStore,
    plan::Save,
    profile::Profile,
    session::{LazySession, Session},
    status::{Status, StatusSender, StatusStream},
    store::{AdminStore, AtomicStore, Guarantee, IndexedStore, Store, Swapped, Ttl},
    transport::{BearerTransport, HeaderTransport, Presented, Transport},
};

#[cfg(feature = "node")]
pub use crate::profile::{express::Express, koa::Koa};

#[cfg(feature = "tower-service-0_3")]
pub use crate::adapter::{
    eager::{Eager, EagerSessionLayer},
    tower::{EmptyResponse, OnError, ResponseFuture, SessionLayer, SessionService},
};
