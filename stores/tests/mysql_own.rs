//! What is MySQL's and MariaDB's own: time zones, their errors, and statements counted at the server.
#![cfg(feature = "mysql")]
#![allow(clippy::unwrap_used, clippy::panic)] // A helper that fails is a test that fails.

mod sql;
#[path = "mysql_own/table.rs"]
mod table;

use std::time::Duration;

use cloakroom::{
    AdminStore, AtomicStore, Error, ErrorKind, IndexedStore, Key, MySqlStore, Result, Status, Store, Swapped,
    Ttl,
};
use cloakroom_conformance::{Env, Running, Server};
use sqlx::{
    AssertSqlSafe, Connection, Executor, MySqlConnection, MySqlPool,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
};

use crate::sql::place::{LONG, Place, key};

/// A database of its own on the shared server.
struct Database {
    server: Running,
    url: String,
    pool: MySqlPool,
}

impl Place for Database {
    type Store = MySqlStore;

    const VERSION_1: &'static [&'static str] = &[
        "CREATE TABLE old (`key` VARBINARY(255) NOT NULL PRIMARY KEY, value LONGBLOB NOT NULL, \
         expires_at BIGINT NOT NULL, KEY old_by_end (expires_at)) ENGINE = InnoDB",
        "CREATE TABLE old_schema (id INT NOT NULL PRIMARY KEY, version BIGINT NOT NULL) ENGINE = InnoDB",
        "INSERT INTO old_schema VALUES (1, 1)",
        "INSERT INTO old VALUES ('kept', 'from before', 4102444800000)",
    ];

    const FILL: &'static str = "INSERT INTO many WITH RECURSIVE numbers (n) AS \
         (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows}) \
         SELECT concat('{word}-', n), 'value', {end} FROM numbers";

    async fn make() -> Self {
        Self::on(Server::mariadb().shared().await.unwrap()).await
    }

    async fn open(&self, table: &str) -> Result<MySqlStore> {
        let builder = MySqlStore::builder().table(table).max_connections(2).sweep_every(None);
        builder.timeout(Duration::from_secs(20)).connect(&self.url).await
    }

    async fn open_sweeping(&self, table: &str, every: Duration) -> MySqlStore {
        MySqlStore::builder().table(table).sweep_every(every).connect(&self.url).await.unwrap()
    }

    fn stop_sweeping(store: &MySqlStore) {
        store.stop_sweeping();
    }

    async fn migrate(store: &MySqlStore) -> Result<()> {
        store.migrate().await
    }

    fn ddl(store: &MySqlStore) -> String {
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
        let mut conn = MySqlConnection::connect(server.url()).await.unwrap();
        conn.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        let (host, _) = server.url().rsplit_once('/').unwrap();
        let url = format!("{host}/{name}");
        let pool = MySqlPoolOptions::new().max_connections(2);
        let pool = pool.after_connect(|conn, _| {
            Box::pin(async move {
                // Both have a bound for recursion, under names of their own.
                let _ = conn.execute("SET SESSION max_recursive_iterations = 1000000").await;
                let _ = conn.execute("SET SESSION cte_max_recursion_depth = 1000000").await;
                Ok(())
            })
        });
        let pool = pool.connect(&url).await.unwrap();
        Self { server, url, pool }
    }
}

sql::shared::sql_tests!(Database);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_zone_of_a_connection_changes_nothing() {
    let place = Database::make().await;
    let home = place.table("zones").await;
    for (number, zone) in ["-05:00", "+09:00", "+13:00"].into_iter().enumerate() {
        let options: MySqlConnectOptions = place.url.parse().unwrap();
        let pool = MySqlPoolOptions::new().connect_with(options.timezone(zone.to_owned())).await.unwrap();
        let shown: String = sqlx::query_scalar("SELECT @@session.time_zone").fetch_one(&pool).await.unwrap();
        assert_eq!(shown, zone);
        let away = MySqlStore::builder().table("zones").sweep_every(None).from_pool(pool).unwrap();
        let own = key(&format!("of-{number}"));
        away.set(&own, "value".into(), LONG).await.unwrap();
        assert!(home.get(&own).await.unwrap().is_some());
        home.set(&key("over"), "value".into(), Ttl::MIN).await.unwrap();
        while home.get(&key("over")).await.unwrap().is_some() {}
        assert_eq!(away.get(&key("over")).await.unwrap(), None);
        assert_eq!(away.sweep(100).await.unwrap(), 1);
        assert!(away.get(&own).await.unwrap().is_some());
    }
}

/// What `create` goes by: the number of rows does not tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_tells_a_new_row_a_live_one_and_one_that_is_over_apart() {
    let place = Database::make().await;
    let store = place.table("made").await;
    for _ in 0..3 {
        assert!(store.create(&key("a"), "first".into(), Ttl::from_millis(20)).await.unwrap());
        while store.get(&key("a")).await.unwrap().is_some() {}
        assert!(store.create(&key("a"), "second".into(), LONG).await.unwrap());
        assert!(!store.create(&key("a"), "third".into(), LONG).await.unwrap());
        assert!(!store.create(&key("a"), "second".into(), LONG).await.unwrap());
        assert_eq!(store.get(&key("a")).await.unwrap().as_deref(), Some(&b"second"[..]));
        assert!(store.destroy(&key("a")).await.unwrap());
    }
}

/// Case, accents and trailing blanks: what text collations take for equal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_users_are_compared_bytewise() {
    let place = Database::make().await;
    let store = place.table("bytewise").await;
    let keys = ["a", "b", "A", "B"].map(|text| Key::new(text).unwrap());
    for (number, key) in keys.iter().enumerate() {
        store.set(key, number.to_string().into(), LONG).await.unwrap();
    }
    assert_eq!(store.len().await.unwrap(), 4);
    for (number, user) in ["e", "é", "E", "e "].into_iter().enumerate() {
        store.bind(&keys[number], user, LONG).await.unwrap();
        assert_eq!(store.keys_of(user).await.unwrap(), [keys[number].clone()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_refused_at_once_and_repeated_nowhere() {
    let place = Database::make().await;
    let address =
        place.url.split_once('@').map_or_else(|| place.url.split_once("//").unwrap().1, |(_, host)| host);
    let url = format!("mysql://nobody_at_all:hunter2@{address}");
    let error = MySqlStore::connect(&url).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    for url in ["postgres://a:hunter2@b/c", "mysql://a:hunter2@[b/c", "hunter2"] {
        let error = MySqlStore::connect(url).await.map(drop).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("url")));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exhausted_pool_is_a_timeout_that_names_it_and_no_outage() {
    let place = Database::make().await;
    place.table("few").await;
    let pool = MySqlPoolOptions::new().max_connections(1).connect(&place.url).await.unwrap();
    let builder = MySqlStore::builder().table("few").timeout(Duration::from_millis(300));
    let store = builder.from_pool(pool.clone()).unwrap();
    store.get(&key("a")).await.unwrap();
    let held = pool.acquire().await.unwrap();
    let error = store.get(&key("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("max_connections"), "{error}");
    assert_eq!(store.status().current(), Status::Connected);
    drop(held);
    store.get(&key("a")).await.unwrap();
}

#[tokio::test]
async fn values_that_one_statement_has_no_room_for_are_refused_before_the_server_hangs_up() {
    let place = Database::make().await;
    let store = place.table("large").await;
    let room = place.number("SELECT CAST(@@max_allowed_packet AS SIGNED)").await;
    let half = cloakroom::Bytes::from(vec![b'x'; usize::try_from(room).unwrap() / 2]);
    store.set(&key("a"), half.clone(), LONG).await.unwrap();
    for _ in 0..20 {
        let both = store.replace(&key("a"), &half, half.clone(), LONG).await;
        assert_eq!(both.unwrap_err().kind(), ErrorKind::TooLarge);
        let double = cloakroom::Bytes::from([&half[..], &half[..]].concat());
        let error = store.set(&key("a"), double, LONG).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains("max_allowed_packet"), "{error}");
    }
    assert_eq!(store.status().current(), Status::Connected);
    assert_eq!(store.remove(&key("a"), &half).await.unwrap(), Swapped::Done);
}

async fn back(store: &MySqlStore) {
    for _ in 0..100 {
        if store.status().current() == Status::Connected {
            return store.set(&key("a"), "value".into(), LONG).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the status is {:?}", store.status().current());
}

/// A server of the test's own, and a user without the privileges that are above its switches.
async fn own(argument: &str) -> (Database, String) {
    let place = Database::on(Server::mariadb().arg(argument).start().await.unwrap()).await;
    place.run("CREATE USER app IDENTIFIED BY 'secret'").await;
    place.run("GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, INDEX ON *.* TO app").await;
    let address = place.url.split_once("//").unwrap().1;
    let address = address.split_once('@').map_or(address, |(_, host)| host);
    let url = format!("mysql://app:secret@{address}");
    (place, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_writes_is_away_until_it_does() {
    let (place, url) = own("--max-connections=50").await;
    let store = MySqlStore::builder().table("replica").max_connections(2).connect(&url).await.unwrap();
    store.migrate().await.unwrap();
    place.run("SET GLOBAL read_only = 1").await;
    let error: Error = store.set(&key("a"), "value".into(), LONG).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("1290"), "{error}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(matches!(store.status().current(), Status::Disconnected { .. }));
    place.run("SET GLOBAL read_only = 0").await;
    back(&store).await;
    assert!(place.server.version().starts_with(|first: char| first.is_ascii_digit()));
}

/// 1792, which new connections meet as after a failover: another switch than that of 1290.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_transactions_only_read_is_away_until_they_write() {
    let (place, url) = own("--max-connections=50").await;
    place.table("reading").await;
    place.run("SET GLOBAL tx_read_only = 1").await;
    let store = MySqlStore::builder().table("reading").max_connections(2).connect(&url).await.unwrap();
    let error: Error = store.set(&key("a"), "value".into(), LONG).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("1792"), "{error}");
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(matches!(store.status().current(), Status::Disconnected { .. }), "it is not back");
    }
    place.run("SET GLOBAL tx_read_only = 0").await;
    back(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_connections_are_an_error_that_says_so() {
    let (_place, url) = own("--max-connections=10").await;
    let mut held = Vec::new();
    let refused = loop {
        match MySqlConnection::connect(&url).await {
            Ok(conn) => held.push(conn),
            Err(_) => break MySqlStore::connect(&url).await.map(drop).unwrap_err(),
        }
    };
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    assert!(refused.to_string().contains("1040"), "{refused}");
    held.clear();
    for _ in 0..100 {
        if MySqlStore::connect(&url).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server's connections are free again, and it still refuses");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_server_kills_are_an_outage_that_is_over_at_once() {
    let place = Database::make().await;
    let store = place.table("killed").await;
    back(&store).await;
    let mut conn = MySqlConnection::connect(&place.url).await.unwrap();
    let others = "SELECT CAST(id AS UNSIGNED) FROM information_schema.processlist \
                  WHERE db = DATABASE() AND id <> CONNECTION_ID()";
    let ids: Vec<u64> = sqlx::query_scalar(others).fetch_all(&mut conn).await.unwrap();
    assert!(!ids.is_empty(), "the store has a connection");
    for id in ids {
        conn.execute(AssertSqlSafe(format!("KILL {id}"))).await.unwrap();
    }
    // Whoever is given it first finds out.
    for _ in 0..10 {
        if let Err(error) = store.get(&key("a")).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
    }
    back(&store).await;
}

/// Counted in the server's own session, over a pool of one connection: whatever it was asked, prepared or as text, but
/// to prepare a statement, and pings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_is_one_statement_at_the_server() {
    let place = Database::make().await;
    place.table("counted").await;
    let pool = MySqlPoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false)
        .connect(&place.url)
        .await
        .unwrap();
    let store = MySqlStore::builder().table("counted").sweep_every(None).from_pool(pool.clone()).unwrap();
    let one = key("one");
    let count = || async {
        let sql = "SELECT CAST(variable_value AS SIGNED) FROM information_schema.session_status \
                   WHERE variable_name = 'questions'";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap()
    };
    macro_rules! statements {
        ($call:expr) => {{
            let before = count().await;
            $call.await.unwrap();
            // The second count counts itself.
            count().await - before - 1
        }};
    }
    assert_eq!(statements!(store.create(&one, "1".into(), LONG)), 1, "create");
    assert_eq!(statements!(store.create(&one, "1".into(), LONG)), 1, "create of a live key");
    assert_eq!(statements!(store.get(&one)), 1, "get");
    assert_eq!(statements!(store.replace(&one, b"1", "2".into(), LONG)), 1, "replace");
    assert_eq!(statements!(store.touch(&one, LONG)), 1, "touch");
    assert_eq!(statements!(store.set(&one, "4".into(), LONG)), 1, "set");
    assert_eq!(statements!(store.bind(&one, "ada", LONG)), 1, "bind");
    assert_eq!(statements!(store.keys_of("ada")), 1, "keys_of");
    assert_eq!(statements!(store.destroy_user("ada", None)), 1, "destroy_user");
    store.set(&one, "4".into(), LONG).await.unwrap();
    assert_eq!(statements!(store.remove(&one, b"4")), 1, "remove");
    assert_eq!(statements!(store.destroy(&one)), 1, "destroy");
    // A swap that fails asks what is there.
    store.set(&one, "5".into(), LONG).await.unwrap();
    assert_eq!(statements!(store.replace(&one, b"1", "2".into(), LONG)), 2, "replace with a conflict");
    assert_eq!(store.replace(&one, b"1", "2".into(), LONG).await.unwrap(), Swapped::Conflict("5".into()));
}
