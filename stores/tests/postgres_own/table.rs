//! What PostgreSQL's tables do: heap-only updates, locks of a sweep, the clock.

use std::time::Duration;

use cloakroom::{AdminStore, AtomicStore, IndexedStore, PostgresStore, Store, Swapped, Ttl};
use sqlx::{Connection, Executor, PgConnection, postgres::PgPoolOptions};

use crate::{
    Database,
    sql::{
        place::{LONG, Place, key},
        sweeping,
    },
};

/// Why there is no index on the end of a session: with one, no renewal is a heap-only update.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_are_heap_only_updates_and_would_not_be_with_an_index_on_the_end() {
    const KEYS: usize = 200;
    const TOUCHES: i64 = 2000;
    let place = Database::make().await;
    // Four thousand times the disk's own time says nothing about it.
    let (_, name) = place.url.rsplit_once('/').unwrap();
    place.run(&format!("ALTER DATABASE {name} SET synchronous_commit = off")).await;
    let store = place.table("hot").await;
    let about = "FROM pg_class WHERE oid = 'hot'::regclass AND 'fillfactor=80' = ANY (reloptions)";
    assert_eq!(place.number(&format!("SELECT count(*) {about}")).await, 1);
    assert_eq!(place.number("SELECT count(*) FROM pg_index WHERE indrelid = 'hot'::regclass").await, 1);
    let keys: Vec<_> = (0..KEYS).map(|number| key(&format!("key-{number}"))).collect();
    for key in &keys {
        store.set(key, vec![b'x'; 100].into(), LONG).await.unwrap();
    }
    // A connection has told the statistics all that it did when it has ended.
    let touch_all = async |store: PostgresStore, updates: i64| {
        for key in keys.iter().cycle().take(usize::try_from(TOUCHES).unwrap()) {
            assert!(store.touch(key, LONG).await.unwrap());
        }
        store.pool().close().await;
        let of = "FROM pg_stat_user_tables WHERE relname = 'hot'";
        for _ in 0..400 {
            if place.number(&format!("SELECT n_tup_upd {of}")).await >= updates {
                return place.number(&format!("SELECT n_tup_hot_upd {of}")).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the statistics know of {} updates", place.number(&format!("SELECT n_tup_upd {of}")).await);
    };
    let without = touch_all(store, TOUCHES).await;
    assert!(without * 10 >= TOUCHES * 6, "{without} of {TOUCHES} updates were heap-only");
    place.run("CREATE INDEX ON hot (expires_at)").await;
    let more = touch_all(place.open("hot").await.unwrap(), 2 * TOUCHES).await - without;
    assert!(more * 20 <= TOUCHES, "{more} of {TOUCHES} updates were heap-only in spite of the index");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_waits_for_no_row_that_somebody_holds() {
    let place = Database::make().await;
    let store = place.table("many").await;
    sweeping::fill(&place, 750, "over").await;
    let mut holder = PgConnection::connect(&place.url).await.unwrap();
    holder.execute("BEGIN").await.unwrap();
    holder.execute("SELECT 1 FROM many WHERE key = 'over-1' FOR UPDATE").await.unwrap();
    sweeping::a_row_that_somebody_holds_is_left_and_all_others_are_swept(&place, &store).await;
    holder.execute("ROLLBACK").await.unwrap();
    assert_eq!(store.sweep(10).await.unwrap(), 1);
}

/// Counted by the server, statement by statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_of_a_sweep_deletes_more_than_a_batch_or_reads_all_of_the_table() {
    let place = Database::make().await;
    let store = place.table("many").await;
    place
        .run(
            "CREATE TABLE batches (n bigint); \
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN INSERT INTO batches SELECT count(*) FROM gone; RETURN NULL; END'; \
             CREATE TRIGGER note AFTER DELETE ON many REFERENCING OLD TABLE AS gone \
             FOR EACH STATEMENT EXECUTE FUNCTION note()",
        )
        .await;
    sweeping::fill(&place, 3000, "over").await;
    sweeping::fill(&place, 20_000, "live").await;
    place.run("ANALYZE many").await;
    assert_eq!(store.sweep(u32::MAX).await.unwrap(), 3000);
    let batches = "FROM batches WHERE n > 0";
    // Fewer where the machine is so busy that a batch takes long.
    assert!(place.number(&format!("SELECT max(n) {batches}")).await <= 250);
    assert_eq!(place.number(&format!("SELECT sum(n)::bigint {batches}")).await, 3000);
    // For the only one that is over, at the end, it looks through all pages, one after the other.
    place.run("UPDATE many SET expires_at = 1000 WHERE key = 'live-9999'").await;
    assert_eq!(store.sweep(10).await.unwrap(), 1);
    // A connection has told the statistics all that it did when it has ended.
    store.pool().close().await;
    let of = "FROM pg_stat_user_tables WHERE relname = 'many'";
    let mut looked = 0;
    while place.number(&format!("SELECT n_tup_del {of}")).await < 3001 {
        looked += 1;
        assert!(looked < 400, "the statistics do not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // To make the table is one.
    let scans = place.number(&format!("SELECT seq_scan {of}")).await;
    assert!(scans <= 1, "{scans} statements read all of the table");
}

/// A store that counted by this machine's clock would not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_are_by_the_servers_clock_also_in_the_year_2100() {
    const THEN: i64 = 4_102_444_800_000;
    const HOUR: i64 = 3_600_000;
    let place = Database::make().await;
    let home = place.table("clock").await;
    place
        .run(
            "CREATE SCHEMA ahead; CREATE FUNCTION ahead.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS \
             $$ SELECT timestamptz '2100-01-01 00:00:00.0004+00' $$",
        )
        .await;
    let options = place.options().options([("search_path", "ahead,pg_catalog,public")]);
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap();
    let ahead = PostgresStore::builder().table("clock").sweep_every(None).from_pool(pool).unwrap();
    let (one, two) = (key("one"), key("two"));
    let end = async |of: &str| place.number(&format!("SELECT expires_at FROM {of}")).await;
    // The millisecond under way counts as whole.
    let due = THEN + 1 + HOUR;
    assert!(ahead.create(&one, "1".into(), LONG).await.unwrap());
    assert_eq!(end("clock").await, due);
    for operation in ["touch", "set", "replace"] {
        place.run("UPDATE clock SET expires_at = expires_at + 5").await;
        match operation {
            "touch" => assert!(ahead.touch(&one, LONG).await.unwrap()),
            "set" => ahead.set(&one, "1".into(), LONG).await.unwrap(),
            _ => {
                let swapped = ahead.replace(&one, b"1", "2".into(), LONG).await.unwrap();
                assert_eq!(swapped, Swapped::Done);
            }
        }
        assert_eq!(end("clock").await, due, "{operation}");
    }
    ahead.bind(&one, "ada", LONG).await.unwrap();
    assert_eq!(end("clock_users").await, due);
    assert!(ahead.get(&one).await.unwrap().is_some() && home.get(&one).await.unwrap().is_some());
    // And what lives an hour from now is long over there.
    home.set(&two, "2".into(), Ttl::from_secs(3600)).await.unwrap();
    assert_eq!(ahead.get(&two).await.unwrap(), None);
    assert_eq!(home.sweep(10).await.unwrap(), 0);
    assert_eq!(ahead.sweep(10).await.unwrap(), 1);
}
