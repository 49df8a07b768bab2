//! Sessions shared with real Node programs: Koa and Express, from their own packages, beside an axum application.
//!
//! `npm ci` installs the packages once, as `programs/package-lock.json` pins them. Each test starts the programs it
//! needs, on ports and under prefixes of its own.
#![cfg(all(feature = "axum", feature = "mongo", feature = "node", feature = "postgres", feature = "redis"))]
#![allow(clippy::unwrap_used)] // A helper that fails is a test that fails.

mod app;
mod browser;
mod express;
mod express_mongo;
mod express_postgres;
mod koa;
mod koa_session;
mod migration;
mod pair;
mod program;
mod rules;
