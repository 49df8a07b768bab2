//! The tables of Node's session stores: the conformance suite over each, and what is special about it.
#![cfg(all(feature = "mongo", feature = "mysql", feature = "postgres", feature = "sqlite"))]
#![allow(clippy::unwrap_used)] // A helper that fails is a test that fails.

mod connect_mongo;
mod connect_pg_simple;
mod json;
mod koa_generic_session_mongo;
mod koa_mysql_session;
mod koa_pg_session;
mod koa_sqlite3_session;
mod table;
