//! What the tables of MySQL and MariaDB do: locks of a sweep, the clock.

use cloakroom::{AdminStore, AtomicStore, MySqlStore, Store, Ttl};
use cloakroom_conformance::Server;
use sqlx::{Connection, Executor, MySqlConnection, mysql::MySqlPoolOptions};

use crate::{
    Database, own,
    sql::{
        place::{LONG, Place, key},
        sweeping,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_waits_for_no_row_that_somebody_holds() {
    let place = Database::make().await;
    let store = place.table("many").await;
    sweeping::fill(&place, 750, "over").await;
    let mut holder = MySqlConnection::connect(&place.url).await.unwrap();
    holder.execute("START TRANSACTION").await.unwrap();
    holder.execute("SELECT 1 FROM many WHERE `key` = 'over-1' FOR UPDATE").await.unwrap();
    sweeping::a_row_that_somebody_holds_is_left_and_all_others_are_swept(&place, &store).await;
    holder.execute("ROLLBACK").await.unwrap();
    assert_eq!(store.sweep(10).await.unwrap(), 1);
}

/// With the default level a key that vanished since it was found locks the gap where it belongs, and with that the logins
/// that get a key there. The level is not seen from within, so a trigger asks who else is at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_locks_no_gaps_and_changes_the_level_of_nobody_elses_transaction() {
    let place = Database::make().await;
    place.table("many").await;
    let pool = MySqlPoolOptions::new().max_connections(1).connect(&place.url).await.unwrap();
    let store = MySqlStore::builder().table("many").sweep_every(None).from_pool(pool.clone()).unwrap();
    place.run("CREATE TABLE seen (level VARCHAR(64))").await;
    place
        .run(
            "CREATE TRIGGER watched BEFORE DELETE ON many FOR EACH ROW INSERT INTO seen \
             SELECT trx_isolation_level FROM information_schema.innodb_trx \
             WHERE trx_mysql_thread_id = CONNECTION_ID()",
        )
        .await;
    for _ in 0..2 {
        place.run("DELETE FROM seen").await;
        sweeping::fill(&place, 1, "over").await;
        // What the server tells of its transactions may be a tenth of a second old.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert_eq!(store.sweep(10).await.unwrap(), 1);
        let seen: Vec<String> = sqlx::query_scalar("SELECT level FROM seen").fetch_all(&pool).await.unwrap();
        assert_eq!(seen, ["READ COMMITTED"]);
        let level: String = sqlx::query_scalar("SELECT @@tx_isolation").fetch_one(&pool).await.unwrap();
        assert_eq!(level, "REPEATABLE-READ");
        place.run("DELETE FROM seen").await;
        sweeping::fill(&place, 1, "over").await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert_eq!(sqlx::query("DELETE FROM many").execute(&pool).await.unwrap().rows_affected(), 1);
        let seen: Vec<String> = sqlx::query_scalar("SELECT level FROM seen").fetch_all(&pool).await.unwrap();
        assert_eq!(seen, ["REPEATABLE READ"]);
    }
}

/// Such a server refuses to delete at the level that locks no gaps: error 1665.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_logs_statements_for_its_replicas_is_swept_as_well() {
    let place = Database::on(
        Server::mariadb().arg("--log-bin=log").arg("--binlog-format=STATEMENT").start().await.unwrap(),
    )
    .await;
    let store = place.table("many").await;
    sweeping::fill(&place, 600, "over").await;
    sweeping::fill(&place, 10, "live").await;
    for (limit, swept) in [(10, 10), (300, 300), (u32::MAX, 290), (10, 0)] {
        assert_eq!(store.sweep(limit).await.unwrap(), swept);
    }
    assert_eq!(place.number("SELECT count(*) FROM many").await, 10);
}

/// A store that counted by this machine's clock would not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_are_by_the_servers_clock() {
    const HOUR: i64 = 3_600_000;
    let place = Database::make().await;
    let home = place.table("clock").await;
    let pool = MySqlPoolOptions::new().max_connections(2).after_connect(|conn, _| {
        Box::pin(async move {
            conn.execute("SET timestamp = UNIX_TIMESTAMP(NOW(6)) + 3600").await?;
            Ok(())
        })
    });
    let pool = pool.connect(&place.url).await.unwrap();
    let ahead = MySqlStore::builder().table("clock").sweep_every(None).from_pool(pool).unwrap();
    let left = async || {
        let now = "TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00', UTC_TIMESTAMP(6)) DIV 1000";
        place.number(&format!("SELECT CAST(expires_at - ({now}) AS SIGNED) FROM clock")).await
    };
    let one = key("one");
    for operation in ["create", "set", "touch"] {
        match operation {
            "create" => assert!(ahead.create(&one, "1".into(), LONG).await.unwrap()),
            "set" => ahead.set(&one, "1".into(), LONG).await.unwrap(),
            _ => assert!(ahead.touch(&one, LONG).await.unwrap()),
        }
        let left = left().await;
        assert!((left - 2 * HOUR).abs() < HOUR / 60, "after a {operation} {left} ms are left");
        place.run("UPDATE clock SET expires_at = expires_at + 1000000").await;
    }
    // And what lives half an hour from now is over there.
    home.set(&one, "2".into(), Ttl::from_secs(1800)).await.unwrap();
    assert_eq!(ahead.get(&one).await.unwrap(), None);
    assert_eq!(home.sweep(10).await.unwrap(), 0);
    assert_eq!(ahead.sweep(10).await.unwrap(), 1);
}

/// The clock as it is in the statements that the server was sent, with another time in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_goes_on_after_the_year_2038() {
    let (place, url) = own("--performance-schema=ON").await;
    place.table("later").await;
    let store = MySqlStore::builder().table("later").sweep_every(None).connect(&url).await.unwrap();
    store.get(&key("one")).await.unwrap();
    let sent = "SELECT sql_text FROM performance_schema.prepared_statements_instances \
                WHERE sql_text LIKE 'SELECT value FROM%' LIMIT 1";
    let sent: String = sqlx::query_scalar(sent).fetch_one(&place.pool).await.unwrap();
    let clock = sent.split_once("expires_at > ").unwrap().1;
    assert!(clock.contains("UTC_TIMESTAMP(6)"), "{clock}");
    for (time, millis) in [
        ("2038-01-19 03:14:07.999500", 2_147_483_647_999),
        ("2038-01-19 03:14:08.000000", 2_147_483_648_000),
        ("2100-01-01 00:00:00.000500", 4_102_444_800_000),
        ("2300-01-01 00:00:00.001000", 10_413_792_000_001),
    ] {
        let clock = clock.replace("UTC_TIMESTAMP(6)", &format!("TIMESTAMP'{time}'"));
        let now = place.number(&format!("SELECT CAST({clock} AS SIGNED)")).await;
        assert_eq!(now, millis, "{time}");
    }
}
