//! What the tests share: a clock to turn, a visitor who needs no framework, a store that watches and misbehaves.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)] // Each test file uses its part.

pub mod ear;
#[cfg(feature = "node")]
pub mod house;
pub mod logs;
pub mod shape;
#[cfg(feature = "node")]
pub mod side;
pub mod spy;
pub mod visitor;
#[cfg(feature = "axum-core-0_5")]
mod web;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use cloakroom_core::{Key, SessionId};

#[cfg(feature = "axum-core-0_5")]
#[allow(unused_imports)]
pub use web::{Browser, Reply, layer, layer_with, send};

/// Name of the cookie that the tests' layers use by default.
pub const COOKIE: &str = "__Host-sid";

/// A wall clock that stands still until it is turned.
#[derive(Clone)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    pub fn new() -> Self {
        ear::listen();
        Self(Arc::new(AtomicU64::new(1_800_000_000_000)))
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis().try_into().unwrap(), Ordering::SeqCst);
    }

    pub fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    pub fn reader(&self) -> impl Fn() -> SystemTime + Send + Sync + 'static {
        let clock = self.clone();
        move || clock.now()
    }
}

/// The store key of an unsigned or signed ticket.
pub fn key_of(ticket: &str) -> Key {
    SessionId::parse(&ticket.as_bytes()[..43]).unwrap().key()
}
