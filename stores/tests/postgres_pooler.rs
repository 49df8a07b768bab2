//! The store in PostgreSQL behind a real PgBouncer that gives every transaction another connection: the conformance
//! suite, and the death of the server behind it.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used)] // A helper that fails is a test that fails.

use std::{fs, os::unix::fs::MetadataExt, time::Duration};

use cloakroom::{Key, PostgresStore, Prepare, Result, Status, Store, Ttl};
use cloakroom_conformance::{Env, Running, Server, conformance_tests};
use sqlx::postgres::PgConnectOptions;
use tokio::sync::OnceCell;

/// Starts a pooler before a server. It is of a version, or so configured, that it knows nothing of prepared statements,
/// and refuses every parameter it does not know.
async fn pooler(server: &Running) -> Running {
    let options: PgConnectOptions = server.url().parse().unwrap();
    // It does not run as root.
    let user = if fs::metadata("/proc/self").unwrap().uid() == 0 { "-u nobody " } else { "" };
    let script = format!(
        "printf '%s\\n' '[databases]' \
         '* = host={} port={} dbname=postgres user=postgres password=postgres' \
         '[pgbouncer]' 'listen_addr = 127.0.0.1' 'listen_port = {{port}}' 'unix_socket_dir =' 'auth_type = any' \
         'pool_mode = transaction' 'default_pool_size = 4' 'server_login_retry = 1' 'max_client_conn = 500' \
         > {{dir}}/pooler.ini && exec pgbouncer {user}{{dir}}/pooler.ini",
        options.get_host(),
        options.get_port(),
    );
    let url = "postgres://postgres:postgres@127.0.0.1:{port}/postgres";
    Server::command("sh", url).arg("-c").arg(script).start().await.expect("PgBouncer is installed")
}

fn store() -> cloakroom::PostgresStoreBuilder {
    PostgresStore::builder().prepare(Prepare::EachTime).sweep_every(None)
}

/// The pooler of this process, before the server that all share.
async fn shared() -> &'static (Running, Running) {
    static SHARED: OnceCell<(Running, Running)> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let server = Server::postgres().shared().await.unwrap();
            let pooler = pooler(&server).await;
            (server, pooler)
        })
        .await
}

async fn open(env: Env) -> Result<PostgresStore> {
    let (_, pooler) = shared().await;
    let builder = store().table(env.namespace()).max_connections(4).timeout(Duration::from_secs(4));
    let store = builder.connect(pooler.url()).await?;
    store.migrate().await?;
    Ok(store)
}

conformance_tests! {
    server: none,
    open: open,
    abilities: [atomic, indexed, admin],
}

/// An application that knows nothing of PostgreSQL, but for its address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_can_say_that_a_pooler_keeps_no_prepared_statements() {
    let (_, pooler) = shared().await;
    let table = Env::new("").namespace().to_owned();
    let url = format!("{}?table={table}&prepare=each_time&sweep_every=never&timeout=4s", pooler.url());
    let store = cloakroom::connect(url).await.unwrap();
    // Many at once, so that the pooler hands out one connection after the other.
    let calls = (0..40).map(|number| {
        let store = &store;
        async move {
            let key = Key::new(format!("key-{number}")).unwrap();
            store.set(&key, "kept".into(), Ttl::from_secs(600)).await.unwrap();
            assert_eq!(store.get(&key).await.unwrap().as_deref(), Some(&b"kept"[..]));
        }
    });
    futures_util::future::join_all(calls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_the_server_behind_a_pooler_is_an_outage_and_its_return_is_noticed() {
    let server = Server::postgres().start().await.unwrap();
    let pooler = pooler(&server).await;
    let store = store().timeout(Duration::from_millis(500)).connect(pooler.url()).await.unwrap();
    store.migrate().await.unwrap();
    let key = Key::new("one").unwrap();
    store.set(&key, "kept".into(), Ttl::from_secs(600)).await.unwrap();
    server.kill().await.unwrap();
    let mut status = store.status();
    for _ in 0..20 {
        let error = store.get(&key).await.expect_err("there is no server");
        assert!(error.is_retryable(), "{error}");
        if status.current() != Status::Connected {
            break;
        }
    }
    assert!(matches!(status.current(), Status::Disconnected { .. }));
    server.start().await.unwrap();
    while status.current() != Status::Connected {
        tokio::time::timeout(Duration::from_secs(15), status.changed()).await.expect("it is noticed");
    }
    assert_eq!(store.get(&key).await.unwrap().as_deref(), Some(&b"kept"[..]));
}
