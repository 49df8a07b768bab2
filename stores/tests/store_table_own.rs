//! What the table of stores in README.md is made with: the runner's output, and the comparison with what is there.
#![allow(clippy::unwrap_used)] // A helper that fails is a test that fails.

#[path = "store_table/log.rs"]
mod log;
#[path = "store_table/readme.rs"]
mod readme;

use std::time::Duration;

use self::log::Log;

const HEAD: &str = "| store | parallel requests | sessions by user | list, count, clear | round trips | proved on | cases passed |\n\
                    |---|---|---|---|---|---|---|\n";
const REDIS: &str = "| redis | nothing lost | yes | yes | 1; keys_of 2 | Redis 7 | 180 of 180 |\n";
const SQLITE: &str = "| sqlite | nothing lost | yes | yes | none | this process | 145 of 145 |\n";

/// A README with these rows.
fn readme_of(rows: &[&str]) -> String {
    let mark = "stores: written by `./test table`, do not edit";
    format!("# Title\n\n<!-- {mark} -->\n{HEAD}{}<!-- end of stores -->\n\nmore\n", rows.concat())
}

#[test]
fn the_runners_output_tells_how_each_case_of_each_store_ended() {
    let log = Log::read(
        "   Compiling cloakroom v0.1.0\n\
         \x20       PASS [   0.012s] (   1/7262) cloakroom::redis conformance::base::one\n\
         \x20       SLOW [> 60.000s] (─────────) cloakroom::redis conformance::base::two\n\
         \x20       PASS [1061.500s] (   2/7262) cloakroom::redis conformance::base::two\n\
         \x20       FAIL [   1.000s] (   3/7262) cloakroom::redis conformance::base::three\n\
         \x20    TIMEOUT [ 300.000s] (   4/7262) cloakroom::redis conformance::base::four\n\
         \x20       PASS [   0.500s] (   5/7262) cloakroom::redis_cluster conformance::base::three\n\
         \x20       PASS [   0.500s] (   6/7262) cloakroom redis::tests::five\n\
         ────────────\n\
         \x20    Summary [ 999.000s] 7262 tests run: 7260 passed, 2 failed, 0 skipped\n\
         \x20       FAIL [   1.000s] (   3/7262) cloakroom::redis conformance::base::three\n",
    );
    assert_eq!(log.ended("redis", "base::one"), Ok(Duration::from_millis(12)));
    assert_eq!(log.ended("redis", "base::two"), Ok(Duration::from_millis(1_061_500)));
    assert_eq!(log.ended("redis", "base::three"), Err("the runner says FAIL".into()));
    assert_eq!(log.ended("redis", "base::four"), Err("the runner says TIMEOUT".into()));
    assert_eq!(log.ended("redis", "base::five"), Err("it did not run".into()));
    assert_eq!(log.ended("redis_cluster", "base::three"), Ok(Duration::from_millis(500)));
    assert_eq!(log.ended("sqlite", "base::one"), Err("it did not run".into()));
}

#[test]
fn a_table_is_true_whatever_the_server_and_the_failures_of_the_day() {
    let readme = readme_of(&[REDIS, SQLITE]);
    assert_eq!(readme::check(&readme, &format!("{HEAD}{REDIS}{SQLITE}")), Ok(()));
    let newer = REDIS.replace("Redis 7", "Valkey 9").replace("180 of", "179 of");
    assert_eq!(readme::check(&readme, &format!("{HEAD}{newer}{SQLITE}")), Ok(()));
}

#[test]
fn a_table_is_stale_when_a_row_says_something_else_is_missing_or_is_of_no_store() {
    let table = format!("{HEAD}{REDIS}{SQLITE}");
    for (old, new) in [
        ("nothing lost | yes | yes | none", "the later wins | yes | yes | none"),
        ("145 of 145", "144 of 144"),
        ("145 of 145", "144 of 145"),
        ("keys_of 2", "keys_of 3"),
        ("yes | none", "no | none"),
        ("sqlite", "sqlite3"),
        ("round trips", "trips"),
        (SQLITE, ""),
        (SQLITE, &format!("{SQLITE}{}", SQLITE.replace("sqlite", "river"))),
    ] {
        let readme = readme_of(&[REDIS, SQLITE]).replace(old, new);
        let stale = readme::check(&readme, &table);
        assert!(stale.is_err_and(|text| text.contains("\n- ") || text.contains("\n+ ")), "{old} {new}");
    }
}

#[test]
fn a_new_table_takes_the_place_of_the_whole_old_one() {
    let readme = readme_of(&[REDIS, &SQLITE.replace("sqlite", "river")]);
    let new = readme::with_table(&readme, &format!("{HEAD}{SQLITE}"));
    assert_eq!(new, readme_of(&[SQLITE]));
}
