//! Sessions shared with real Node programs: Koa and Express, from their own packages, beside an axum application.
//!
//! `npm ci` installs the packages once, as `programs/package-lock.json` pins them. Each test starts the programs it
//! needs, on ports and over prefixes, tables, databases or files of its own.
#![cfg(all(
    feature = "axum",
    feature = "mongo",
    feature = "mysql",
    feature = "node",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
#![allow(clippy::unwrap_used)] // A helper that fails is a test that fails.

mod app;
mod browser;
mod express;
mod express_mongo;
mod express_postgres;
mod home;
mod koa;
mod koa_mongo;
mod koa_mysql;
mod koa_postgres;
mod koa_session;
mod koa_sqlite;
mod migration;
mod pair;
mod program;
mod rotation;
mod rules;
