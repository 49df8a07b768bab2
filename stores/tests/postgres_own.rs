//! What is PostgreSQL's own: time zones, poolers' transactions, its errors, and statements counted at the server.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::panic)] // A helper that fails is a test that fails.

mod sql;
#[path = "postgres_own/table.rs"]
mod table;

use std::time::{Duration, Instant};

use cloakroom::{
    AtomicStore, Error, ErrorKind, IndexedStore, PostgresStore, Prepare, Result, Status, Store, Swapped, Ttl,
};
use cloakroom_conformance::{Env, FaultProxy, Running, Server};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::sql::place::{LONG, Place, key};

/// A database of its own on the shared server.
struct Database {
    _server: Running,
    url: String,
    pool: PgPool,
}

impl Place for Database {
    type Store = PostgresStore;

    const VERSION_1: &'static [&'static str] = &[
        "CREATE TABLE old (key text COLLATE \"C\" NOT NULL PRIMARY KEY, value bytea NOT NULL, \
         expires_at bigint NOT NULL) WITH (fillfactor = 80)",
        "CREATE TABLE old_schema (id integer NOT NULL PRIMARY KEY CHECK (id = 1), version bigint NOT NULL)",
        "INSERT INTO old_schema VALUES (1, 1)",
        "INSERT INTO old VALUES ('kept', 'from before', 4102444800000)",
    ];

    const FILL: &'static str = "INSERT INTO many SELECT '{word}-' || n, 'value', {end} \
                                FROM generate_series(1, {rows}) n";

    async fn make() -> Self {
        Self::on(Server::postgres().shared().await.unwrap()).await
    }

    async fn open(&self, table: &str) -> Result<PostgresStore> {
        let builder = PostgresStore::builder().table(table).max_connections(2).sweep_every(None);
        builder.timeout(Duration::from_secs(20)).connect(&self.url).await
    }

    async fn open_sweeping(&self, table: &str, every: Duration) -> PostgresStore {
        PostgresStore::builder().table(table).sweep_every(every).connect(&self.url).await.unwrap()
    }

    fn stop_sweeping(store: &PostgresStore) {
        store.stop_sweeping();
    }

    async fn migrate(store: &PostgresStore) -> Result<()> {
        store.migrate().await
    }

    fn ddl(store: &PostgresStore) -> String {
        store.ddl()
    }

    async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap();
    }

    async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.pool).await.unwrap()
    }
}

impl Database {
    async fn on(server: Running) -> Self {
        let name = Env::new("").namespace().to_owned();
        let mut conn = PgConnection::connect(server.url()).await.unwrap();
        conn.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        let (host, _) = server.url().rsplit_once('/').unwrap();
        let url = format!("{host}/{name}");
        let pool = PgPoolOptions::new().max_connections(2).connect(&url).await.unwrap();
        Self { _server: server, url, pool }
    }

    fn options(&self) -> PgConnectOptions {
        self.url.parse().unwrap()
    }
}

sql::shared::sql_tests!(Database);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_is_made_quoted_and_kept_apart() {
    let place = Database::make().await;
    let open =
        |schema: &'static str| PostgresStore::builder().schema(schema).table("order").connect(&place.url);
    let (one, two) = (open("Select").await.unwrap(), open("select").await.unwrap());
    one.migrate().await.unwrap();
    two.migrate().await.unwrap();
    one.set(&key("a"), "of one".into(), LONG).await.unwrap();
    assert_eq!(two.get(&key("a")).await.unwrap(), None);
    assert_eq!(place.number("SELECT count(*) FROM \"Select\".\"order\"").await, 1);
    let error = open("s\"; drop schema x; --").await.map(drop).unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("schema")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_zone_of_a_connection_changes_nothing() {
    let place = Database::make().await;
    let home = place.table("zones").await;
    for (number, zone) in ["America/New_York", "Asia/Tokyo", "Pacific/Kiritimati"].into_iter().enumerate() {
        let pool = PgPoolOptions::new().after_connect(move |conn, _| {
            Box::pin(async move {
                conn.execute(AssertSqlSafe(format!("SET TIME ZONE '{zone}'"))).await?;
                Ok(())
            })
        });
        let pool = pool.connect(&place.url).await.unwrap();
        let shown: String = sqlx::query_scalar("SHOW TIME ZONE").fetch_one(&pool).await.unwrap();
        assert_eq!(shown, zone);
        let away = PostgresStore::builder().table("zones").sweep_every(None).from_pool(pool).unwrap();
        let own = key(&format!("of-{number}"));
        // Lives an hour for all, and is swept by none; what is over is over for all.
        away.set(&own, "value".into(), LONG).await.unwrap();
        assert!(home.get(&own).await.unwrap().is_some());
        home.set(&key("over"), "value".into(), Ttl::MIN).await.unwrap();
        while home.get(&key("over")).await.unwrap().is_some() {}
        assert_eq!(away.get(&key("over")).await.unwrap(), None);
        assert_eq!(cloakroom::AdminStore::sweep(&away, 100).await.unwrap(), 1);
        assert!(away.get(&own).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_each_time_everything_works_as_well() {
    let place = Database::make().await;
    let builder = PostgresStore::builder().table("each").prepare(Prepare::EachTime).sweep_every(None);
    let store = builder.connect(&place.url).await.unwrap();
    store.migrate().await.unwrap();
    let one = key("one");
    assert!(store.create(&one, "first".into(), LONG).await.unwrap());
    assert!(!store.create(&one, "second".into(), LONG).await.unwrap());
    let swapped = store.replace(&one, b"wrong", "third".into(), LONG).await.unwrap();
    assert_eq!(swapped, Swapped::Conflict("first".into()));
    assert_eq!(store.replace(&one, b"first", "third".into(), LONG).await.unwrap(), Swapped::Done);
    store.bind(&one, "ada", LONG).await.unwrap();
    assert_eq!(store.keys_of("ada").await.unwrap(), [key("one")]);
    assert!(store.touch(&one, LONG).await.unwrap() && store.destroy(&one).await.unwrap());
    // Nothing stays behind in a connection.
    let sql = "SELECT count(*) FROM pg_prepared_statements";
    let kept: i64 = sqlx::query(sql).persistent(false).fetch_one(store.pool()).await.unwrap().get(0);
    assert_eq!(kept, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_swaps_of_one_value_always_hears_the_latest() {
    crowd(Prepare::OncePerConnection).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_each_time_a_crowd_hears_the_latest_as_well() {
    crowd(Prepare::EachTime).await;
}

/// Counts one value up from many tasks.
async fn crowd(prepare: Prepare) {
    let place = Database::make().await;
    let builder = PostgresStore::builder().table("crowd").prepare(prepare).sweep_every(None);
    let store = builder.timeout(Duration::from_secs(20)).connect(&place.url).await.unwrap();
    store.migrate().await.unwrap();
    let (one, tasks, rounds) = (key("one"), 8, 25);
    store.set(&one, "0".into(), LONG).await.unwrap();
    let add = |store: PostgresStore| async move {
        let one = key("one");
        for _ in 0..rounds {
            let mut base = store.get(&one).await.unwrap().unwrap();
            loop {
                let next = (std::str::from_utf8(&base).unwrap().parse::<u32>().unwrap() + 1).to_string();
                match store.replace(&one, &base, next.into(), LONG).await.unwrap() {
                    Swapped::Done => break,
                    // Never what was expected: that was stale, or the swap would have been done.
                    Swapped::Conflict(current) => {
                        assert_ne!(current, base);
                        base = current;
                    }
                    Swapped::Gone => panic!("nobody removes it"),
                }
            }
        }
    };
    let all: Vec<_> = (0..tasks).map(|_| tokio::spawn(add(store.clone()))).collect();
    for task in all {
        task.await.unwrap();
    }
    let sum = (tasks * rounds).to_string();
    assert_eq!(store.get(&one).await.unwrap().as_deref(), Some(sum.as_bytes()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_refused_at_once_and_repeated_nowhere() {
    let place = Database::make().await;
    place.run("CREATE ROLE refused_role PASSWORD 'right' NOLOGIN").await;
    let address = place.url.split_once('@').unwrap().1;
    let url = format!("postgres://refused_role:hunter2@{address}");
    let error = PostgresStore::connect(&url).await.map(drop).unwrap_err();
    place.run("DROP ROLE refused_role").await;
    assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let store = place.open("a").await.unwrap();
    assert!(!format!("{store:?}").contains("@"), "{store:?}");
    for url in ["mysql://a:hunter2@b/c", "postgres://a:hunter2@[b/c", "hunter2"] {
        let error = PostgresStore::connect(url).await.map(drop).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("url")));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exhausted_pool_is_a_timeout_that_names_it_and_no_outage() {
    let place = Database::make().await;
    place.table("few").await;
    let pool = PgPoolOptions::new().max_connections(1).connect(&place.url).await.unwrap();
    let builder = PostgresStore::builder().table("few").timeout(Duration::from_millis(300));
    let store = builder.from_pool(pool.clone()).unwrap();
    store.get(&key("a")).await.unwrap();
    let held = pool.acquire().await.unwrap();
    let error = store.get(&key("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("max_connections"), "{error}");
    assert_eq!(store.status().current(), Status::Connected);
    drop(held);
    store.get(&key("a")).await.unwrap();
    pool.close().await;
    assert_eq!(store.get(&key("a")).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_server_that_is_slow_to_let_the_prober_in_is_not_lost() {
    let place = Database::make().await;
    place.table("slow").await;
    let options: PgConnectOptions = place.url.parse().unwrap();
    let proxy = FaultProxy::before(options.get_host(), options.get_port()).await.unwrap();
    let options = options.host("127.0.0.1").port(proxy.port());
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let builder = PostgresStore::builder().table("slow").timeout(Duration::from_secs(20));
    let store = builder.from_pool(pool.clone()).unwrap();
    store.get(&key("a")).await.unwrap();
    let held = pool.acquire().await.unwrap();
    // To log in takes five replies or more.
    proxy.delay(Duration::from_millis(300));
    let before = proxy.traffic().connections;
    let waiting = async { store.get(&key("a")).await };
    let released = async {
        // Who waits for the only connection has the server looked after, over one more.
        while proxy.traffic().connections == before || proxy.traffic().open > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(held);
    };
    let (answer, ()) = tokio::join!(waiting, released);
    assert_eq!(answer.unwrap(), None);
    assert_eq!(store.status().current(), Status::Connected);
}

/// Calls until it is an error or the status has fallen, and returns the error.
async fn first_error(store: &PostgresStore) -> Error {
    for _ in 0..100 {
        if let Err(error) = store.set(&key("a"), "value".into(), LONG).await {
            return error;
        }
    }
    panic!("no call failed");
}

async fn back(store: &PostgresStore) {
    for _ in 0..100 {
        if store.status().current() == Status::Connected {
            return store.set(&key("a"), "value".into(), LONG).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the status is {:?}", store.status().current());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_server_ends_is_an_outage_that_is_over_at_once() {
    let place = Database::make().await;
    let store = place.table("ended").await;
    back(&store).await;
    // 57P01, or the end of the stream, as the two race.
    place
        .run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        .await;
    // Whoever is given one of them first finds out.
    for _ in 0..10 {
        if let Err(error) = store.get(&key("a")).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
    }
    back(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_writes_is_away_until_it_does() {
    let place = Database::make().await;
    let store = place.table("standby").await;
    let options = place.options().database("postgres");
    let mut conn = PgConnection::connect_with(&options).await.unwrap();
    let name = place.url.rsplit_once('/').unwrap().1;
    let alter =
        |to: &str| AssertSqlSafe(format!("ALTER DATABASE {name} SET default_transaction_read_only = {to}"));
    conn.execute(alter("on")).await.unwrap();
    // What was open before may still write: as after a failover, new connections meet the standby.
    let fresh = place.open("standby").await.unwrap();
    let error = first_error(&fresh).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("25006"), "{error}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(matches!(fresh.status().current(), Status::Disconnected { .. }));
    conn.execute(alter("off")).await.unwrap();
    back(&fresh).await;
    drop(store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_connections_are_an_error_that_says_so() {
    let server = Server::postgres()
        .arg("-c")
        .arg("max_connections=6")
        .arg("-c")
        .arg("superuser_reserved_connections=0");
    let server = server.start().await.unwrap();
    let options: PgConnectOptions = server.url().parse().unwrap();
    let mut held = Vec::new();
    let refused = loop {
        match PgConnection::connect_with(&options).await {
            Ok(conn) => held.push(conn),
            Err(_) => break PostgresStore::connect(server.url()).await.map(drop).unwrap_err(),
        }
    };
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    assert!(refused.to_string().contains("53300"), "{refused}");
    // A store that is there already, and has no connection open. Its pool tries by itself, and keeps the answer to itself.
    let pool = PgPoolOptions::new().connect_lazy_with(options.clone());
    let store = PostgresStore::builder().sweep_every(None).from_pool(pool).unwrap();
    for _ in 0..20 {
        let error = store.get(&key("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("53300"), "{error}");
        // While every call fails, and connections are only being opened.
        assert_ne!(store.status().current(), Status::Connected);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    held.clear();
    let mut status = store.status();
    while status.current() != Status::Connected {
        tokio::time::timeout(Duration::from_secs(15), status.changed()).await.expect("it is noticed");
    }
    store.migrate().await.unwrap();
    drop(store);
    for _ in 0..100 {
        if PostgresStore::connect(server.url()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server's connections are free again, and it still refuses");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_is_one_statement_at_the_server() {
    let server = Server::postgres().arg("-c").arg("shared_preload_libraries=pg_stat_statements");
    let place = Database::on(server.start().await.unwrap()).await;
    place.run("CREATE EXTENSION pg_stat_statements").await;
    let store = place.table("counted").await;
    let (one, user) = (key("one"), "ada");
    // What is not an operation's: the prober's one question, should the machine be so busy that it is asked.
    const PROBE: &str = "'SELECT NOT pg_is_in_recovery() AND current_setting(%'";
    let calls = async |which: String| {
        let calls = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid \
                     WHERE d.datname = current_database() AND query NOT LIKE '%pg_stat_statements%' AND query";
        place.number(&format!("{calls} {which}")).await
    };
    let count = || calls(format!("NOT LIKE {PROBE}"));
    macro_rules! statements {
        ($call:expr) => {{
            let before = count().await;
            $call.await.unwrap();
            count().await - before
        }};
    }
    assert_eq!(statements!(store.create(&one, "1".into(), LONG)), 1, "create");
    assert_eq!(statements!(store.create(&one, "1".into(), LONG)), 1, "create of a live key");
    assert_eq!(statements!(store.get(&one)), 1, "get");
    assert_eq!(statements!(store.replace(&one, b"1", "2".into(), LONG)), 1, "replace");
    assert_eq!(statements!(store.replace(&one, b"1", "3".into(), LONG)), 1, "replace with a conflict");
    assert_eq!(statements!(store.remove(&one, b"1")), 1, "remove with a conflict");
    assert_eq!(statements!(store.touch(&one, LONG)), 1, "touch");
    assert_eq!(statements!(store.set(&one, "4".into(), LONG)), 1, "set");
    assert_eq!(statements!(store.bind(&one, user, LONG)), 1, "bind");
    assert_eq!(statements!(store.keys_of(user)), 1, "keys_of");
    assert_eq!(statements!(store.destroy_user(user, None)), 1, "destroy_user");
    assert_eq!(statements!(store.destroy(&one)), 1, "destroy");
    assert_eq!(statements!(store.replace(&one, b"1", "5".into(), LONG)), 1, "replace of nothing");
    let probes = || calls(format!("LIKE {PROBE}"));
    let before = probes().await;
    for _ in 0..100 {
        store.get(&one).await.unwrap();
    }
    assert!(probes().await - before < 10, "a prober asks beside every operation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_prober_ends_when_the_server_is_back() {
    const QUIET: Duration = Duration::from_secs(3);
    let place = Database::make().await;
    place.table("probed").await;
    let options = place.options();
    let proxy = FaultProxy::before(options.get_host(), options.get_port()).await.unwrap();
    let (before, name) = place.url.rsplit_once('/').unwrap();
    let (user, _) = before.rsplit_once('@').unwrap();
    let url = format!("{user}@{}/{name}", proxy.address());
    let store = PostgresStore::builder().table("probed").sweep_every(None).connect(&url).await.unwrap();
    store.get(&key("a")).await.unwrap();
    proxy.turn_away();
    assert_eq!(first_error(&store).await.kind(), ErrorKind::Unavailable);
    let before = proxy.traffic().connections;
    while proxy.traffic().connections < before + 3 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    proxy.heal().await;
    back(&store).await;
    // One that had not ended would ask again every 0.6 seconds or so.
    let (began, mut connections) = (Instant::now(), proxy.traffic().connections);
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < QUIET {
        assert!(began.elapsed() < 10 * QUIET, "somebody goes on connecting");
        tokio::time::sleep(Duration::from_millis(50)).await;
        if proxy.traffic().connections != connections {
            (connections, quiet_since) = (proxy.traffic().connections, Instant::now());
        }
    }
    assert_eq!(store.status().current(), Status::Connected);
}
