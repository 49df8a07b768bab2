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

/// Nothing is swept in the background of these without `sweep_every`: `stores/src/sweep.rs`.
#[test]
fn a_row_of_node_is_nobodys_to_delete_unless_it_is_asked_for() {
    use cloakroom::shape::{ConnectPgSimple, KoaMysqlSession, KoaPgSession, KoaSqlite3Session};

    let builders = [
        format!("{:?}", ConnectPgSimple::builder("UTC")),
        format!("{:?}", KoaPgSession::builder("UTC")),
        format!("{:?}", KoaMysqlSession::builder()),
        format!("{:?}", KoaSqlite3Session::builder()),
    ];
    for builder in builders {
        assert!(builder.contains("sweep_every: None"), "{builder}");
    }
}

#[tokio::test]
async fn a_sweep_without_a_pause_is_refused_before_anything_is_opened() {
    use std::time::Duration;

    use cloakroom::{
        ErrorKind,
        shape::{ConnectPgSimple, KoaMysqlSession, KoaPgSession, KoaSqlite3Session},
    };

    // Nobody answers at these addresses.
    let (pg, mysql, sqlite) =
        ("postgres://u:p@127.0.0.1:1/d", "mysql://u:p@127.0.0.1:1/d", "sqlite:///nowhere/a.db");
    let never = Duration::ZERO;
    let errors = [
        ConnectPgSimple::builder("UTC").sweep_every(never).connect(pg).await.map(drop),
        KoaPgSession::builder("UTC").sweep_every(never).connect(pg).await.map(drop),
        KoaMysqlSession::builder().sweep_every(never).connect(mysql).await.map(drop),
        KoaSqlite3Session::builder().sweep_every(never).connect(sqlite).await.map(drop),
    ]
    .map(Result::unwrap_err);
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(error.field(), Some("sweep_every"));
    }
}
