//! What every SQL store must do besides the contract: names, tables, versions, times.

use cloakroom::{AdminStore, AtomicStore, Bytes, ErrorKind, IndexedStore, Store};
use futures_util::future::join_all;

use super::place::{LONG, Place, key};

pub(crate) async fn keywords_and_upper_case_are_names_like_others(place: &impl Place) {
    for table in ["select", "User", "ORDER", "_"] {
        let store = place.table(table).await;
        store.set(&key("a"), table.into(), LONG).await.unwrap();
        store.bind(&key("a"), "ada", LONG).await.unwrap();
        assert_eq!(store.get(&key("a")).await.unwrap().as_deref(), Some(table.as_bytes()));
        assert_eq!(store.destroy_user("ada", None).await.unwrap(), 1);
    }
}

pub(crate) async fn a_hostile_name_is_refused_before_anything_is_done(place: &impl Place) {
    for table in ["s\"; drop table x; --", "s`; drop table x; --", "s'; drop table x; --", "a.b", "", "a\0"] {
        let error = place.open(table).await.map(drop).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("table")), "{table}");
    }
}

pub(crate) async fn a_name_of_another_stores_companion_is_refused(place: &impl Place) {
    let store = place.table("a").await;
    store.set(&key("a"), "value".into(), LONG).await.unwrap();
    store.bind(&key("a"), "ada", LONG).await.unwrap();
    // Its tables would be found there, and be swept and cleared.
    for table in ["a_users", "a_schema", "A_Users", "a_users_by_user", "a_pkey"] {
        let error = place.open(table).await.map(drop).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("table")), "{table}");
    }
}

pub(crate) async fn without_its_table_a_store_says_how_to_make_it(place: &impl Place) {
    let store = place.open("nothing").await.unwrap();
    let error = store.get(&key("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend);
    assert!(error.to_string().contains("migrate"), "{error}");
}

pub(crate) async fn two_stores_with_tables_of_their_own_share_a_database<P: Place>(place: &P) {
    let (one, two) = (place.table("one").await, place.table("two").await);
    one.set(&key("a"), "of one".into(), LONG).await.unwrap();
    two.set(&key("a"), "of two".into(), LONG).await.unwrap();
    two.bind(&key("a"), "ada", LONG).await.unwrap();
    assert_eq!(one.keys_of("ada").await.unwrap(), []);
    assert_eq!(one.clear().await.unwrap(), 1);
    assert_eq!(two.get(&key("a")).await.unwrap().as_deref(), Some(&b"of two"[..]));
    assert_eq!(two.keys_of("ada").await.unwrap(), [key("a")]);
}

pub(crate) async fn what_ddl_prints_makes_tables_that_work<P: Place>(place: &P) {
    let store = place.open("printed").await.unwrap();
    place.run(&P::ddl(&store)).await;
    store.set(&key("a"), "value".into(), LONG).await.unwrap();
    store.bind(&key("a"), "ada", LONG).await.unwrap();
    // And they count as up to date: nothing is made anew.
    P::migrate(&store).await.unwrap();
    assert_eq!(store.keys_of("ada").await.unwrap(), [key("a")]);
}

pub(crate) async fn a_migration_does_nothing_the_second_time<P: Place>(place: &P) {
    let store = place.table("twice").await;
    store.set(&key("a"), "value".into(), LONG).await.unwrap();
    P::migrate(&store).await.unwrap();
    assert_eq!(store.len().await.unwrap(), 1);
}

pub(crate) async fn a_migration_from_version_1_keeps_the_sessions<P: Place>(place: &P) {
    for sql in P::VERSION_1 {
        place.run(sql).await;
    }
    let store = place.table("old").await;
    assert_eq!(store.get(&key("kept")).await.unwrap().as_deref(), Some(&b"from before"[..]));
    store.bind(&key("kept"), "ada", LONG).await.unwrap();
    assert_eq!(store.keys_of("ada").await.unwrap(), [key("kept")]);
    assert_eq!(place.number("SELECT version FROM old_schema").await, 2);
}

pub(crate) async fn the_tables_of_a_newer_version_are_refused<P: Place>(place: &P) {
    let store = place.table("newer").await;
    place.run("UPDATE newer_schema SET version = 99").await;
    let error = P::migrate(&store).await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("table")));
}

pub(crate) async fn thirty_two_migrations_at_once_all_succeed<P: Place>(place: &P) {
    join_all((0..32).map(|number| async move {
        let store = place.table("crowd").await;
        // Each finds the tables when its own migration has returned.
        let own = key(&format!("of-{number}"));
        store.set(&own, "value".into(), LONG).await.unwrap();
        store.bind(&own, "ada", LONG).await.unwrap();
    }))
    .await;
    let store = place.open("crowd").await.unwrap();
    assert_eq!(store.keys_of("ada").await.unwrap().len(), 32);
    assert_eq!(place.number("SELECT count(*) FROM crowd_schema").await, 1);
}

pub(crate) async fn times_are_milliseconds_of_the_right_clock_and_go_beyond_2038(place: &impl Place) {
    let store = place.table("clock").await;
    store.set(&key("a"), "value".into(), LONG).await.unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let end = place.number("SELECT expires_at FROM clock").await;
    let off = i64::try_from(now).unwrap() + 3_600_000 - end;
    assert!(off.abs() < 60_000, "the end is {off} ms off");
    // 2100, and one second after the last that fits into 31 bits.
    for end in [4_102_444_800_000_i64, 2_147_483_648_000] {
        place.run(&format!("UPDATE clock SET expires_at = {end}")).await;
        assert!(store.get(&key("a")).await.unwrap().is_some());
        assert_eq!(store.sweep(10).await.unwrap(), 0);
    }
}

/// Every byte, and more of them than fit into a page.
pub(crate) async fn a_value_with_every_byte_comes_back_and_compares(place: &impl Place) {
    let store = place.table("bytes").await;
    let all: Vec<u8> = (0..=255_u8).cycle().take(20_000).collect();
    let mut other = all.clone();
    other[19_999] ^= 1;
    store.set(&key("a"), all.clone().into(), LONG).await.unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap().as_deref(), Some(&all[..]));
    let swapped = store.replace(&key("a"), &other, Bytes::new(), LONG).await.unwrap();
    assert_eq!(swapped, cloakroom::Swapped::Conflict(all.clone().into()));
    let swapped = store.replace(&key("a"), &all, b"\0"[..].into(), LONG).await.unwrap();
    assert_eq!(swapped, cloakroom::Swapped::Done);
    assert_eq!(store.get(&key("a")).await.unwrap().as_deref(), Some(&b"\0"[..]));
}

/// Writes a test for each function here that takes a place.
macro_rules! sql_tests {
    ($place:ty) => {
        $crate::sql::shared::sql_tests! { @each $place, shared [
            keywords_and_upper_case_are_names_like_others
            a_hostile_name_is_refused_before_anything_is_done
            a_name_of_another_stores_companion_is_refused
            without_its_table_a_store_says_how_to_make_it
            two_stores_with_tables_of_their_own_share_a_database
            what_ddl_prints_makes_tables_that_work
            a_migration_does_nothing_the_second_time
            a_migration_from_version_1_keeps_the_sessions
            the_tables_of_a_newer_version_are_refused
            thirty_two_migrations_at_once_all_succeed
            times_are_milliseconds_of_the_right_clock_and_go_beyond_2038
            a_value_with_every_byte_comes_back_and_compares
        ] }
        $crate::sql::shared::sql_tests! { @each $place, sweeping [
            a_sweep_takes_stale_bindings_after_a_minute_and_no_others
            a_sweep_beside_writers_deletes_what_is_over_and_nothing_else
            a_sweep_takes_no_more_than_it_is_told_and_goes_on_where_it_ended
            sweeps_at_the_same_time_share_the_work
            every_operation_sees_to_it_that_the_background_task_sweeps
            a_store_that_is_told_to_stop_sweeping_does
        ] }
    };
    (@each $place:ty, $file:ident [$($name:ident)*]) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let place = <$place as $crate::sql::place::Place>::make().await;
            $crate::sql::$file::$name(&place).await;
        }
    )*};
}
pub(crate) use sql_tests;
