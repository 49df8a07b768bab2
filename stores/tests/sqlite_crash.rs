//! Several processes on one file: one that is killed in the midst of writing loses nothing that it was told is stored and
//! leaves a sound file; those that write at the same time undo nothing of each other; those that start at the same time
//! all find their tables.
//!
//! No harness: a test starts this very program as the other process, with its part and the address of the file.

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use cloakroom::{AdminStore, AtomicStore, Key, SqliteStore, Store, Swapped, Ttl};
use cloakroom_conformance::Env;
use tokio::runtime::Runtime;

use crate::folder::Folder;

#[path = "sql/folder.rs"]
mod folder;

/// How often the writer is killed.
const KILLS: usize = 20;

/// Keys that each writer writes in turn.
const KEYS: usize = 7;

/// How many processes count, and how far each of them.
const COUNTERS: u64 = 3;
const STEPS: u64 = 60;

/// How many processes start at once.
const STARTERS: u64 = 32;

type Test = (&'static str, fn(&Runtime));

const TESTS: [Test; 3] = [
    ("a_killed_process_loses_no_acknowledged_write", |runtime| runtime.block_on(kill_and_look())),
    ("processes_that_count_one_value_up_lose_no_step", |runtime| runtime.block_on(count_together())),
    ("thirty_two_processes_that_start_at_once_all_find_their_tables", |runtime| {
        runtime.block_on(start_together());
    }),
];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    if let (Ok(part), Ok(url)) = (env::var("CLOAKROOM_PART"), env::var("CLOAKROOM_PART_URL")) {
        return match &*part {
            "write" => runtime.block_on(write(&url)),
            "count" => runtime.block_on(count(&url)),
            _ => runtime.block_on(start(&url, &part)),
        };
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    let is_given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if is_given("--list") {
        // Of the ignored ones there are none.
        for (name, _) in TESTS.iter().filter(|_| !is_given("--ignored")) {
            println!("{name}: test");
        }
        return;
    }
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    for (name, test) in TESTS {
        let asked =
            |given: &&String| name == given.as_str() || !is_given("--exact") && name.contains(&***given);
        if names.is_empty() || names.iter().any(asked) {
            test(&runtime);
            println!("test {name} ... ok");
        }
    }
}

/// Starts this program as another process.
fn process(part: &str, folder: &Folder) -> Child {
    Command::new(env::current_exe().expect("this program"))
        .env("CLOAKROOM_PART", part)
        .env("CLOAKROOM_PART_URL", folder.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program can be started again")
}

/// Writes until it is killed, and says of each write that it is done.
async fn write(url: &str) {
    let store = SqliteStore::connect(url).await.expect("the file is there");
    let mut out = std::io::stdout().lock();
    for number in 0_u64.. {
        let key = key(number as usize % KEYS);
        // Big enough for several pages, and of a length that tells a torn one.
        let value = format!("{number:08}").repeat(700);
        store.set(&key, value.into(), Ttl::from_secs(3600)).await.expect("a write of the writer");
        let before = store.get(&mark()).await.expect("a read of the writer").unwrap_or_default();
        let swapped =
            store.replace(&mark(), &before, number.to_string().into(), Ttl::MAX).await.expect("a swap");
        assert_eq!(swapped, Swapped::Done, "nobody else writes it");
        writeln!(out, "{number}").and_then(|()| out.flush()).expect("the test reads");
    }
}

async fn kill_and_look() {
    let folder = Folder::shared(&Env::new(""));
    let mut store = folder.store("cloakroom_sessions").await.expect("the table can be made");
    store.set(&mark(), "none".into(), Ttl::MAX).await.expect("a write");
    let mut stored = HashMap::new();
    for round in 0..KILLS {
        // Every second time the writer is the only process that has the file open. Nobody is left then who knows what
        // is in its log, and who opens the file next has to find out.
        let alone = round % 2 == 1;
        if alone {
            store.pool().close().await;
        }
        let mut writer = process("write", &folder);
        let mut lines = BufReader::new(writer.stdout.take().expect("its output is piped")).lines();
        let mut last = 0;
        // A different moment each time, and never between two writes on purpose.
        for _ in 0..5 + round * 3 {
            last = note(&mut stored, lines.next());
        }
        writer.kill().expect("kill -9");
        // What it still said before it died counts as well.
        for line in lines {
            last = note(&mut stored, Some(line));
        }
        writer.wait().expect("it has ended");
        if alone {
            let log = folder.path().join("sessions.db-wal").metadata().expect("the log is left behind");
            assert!(log.len() > 0, "there is something to recover");
            store = folder.store("cloakroom_sessions").await.expect("the file can be opened after a crash");
        }
        // A value as it was acknowledged, or a later one; whole in any case.
        for (key, number) in &stored {
            let value = store.get(key).await.expect("a read").expect("an acknowledged write is there");
            let text = std::str::from_utf8(&value).expect("digits");
            let found: u64 = text[..8].parse().expect("a number");
            assert!(found >= *number, "{found} is older than the acknowledged {number}");
            assert_eq!(text, format!("{found:08}").repeat(700), "a torn value");
        }
        let found = number(&store, &mark()).await;
        assert!(found >= last, "the swap to {last} was acknowledged, and {found} is there");
        let sound: String =
            sqlx::query_scalar("PRAGMA integrity_check").fetch_one(store.pool()).await.expect("a check");
        assert_eq!(sound, "ok");
        // The next writer counts from 0 again.
        stored.clear();
        for number in 0..KEYS {
            store.destroy(&key(number)).await.expect("a write after the crash");
        }
    }
}

/// Notes what the writer said is stored, and returns its number.
fn note(stored: &mut HashMap<Key, u64>, line: Option<std::io::Result<String>>) -> u64 {
    let number: u64 = line.expect("the writer goes on").expect("a line").parse().expect("a number");
    stored.insert(key(number as usize % KEYS), number);
    number
}

/// Counts the mark up, step by step, beside others who do the same.
async fn count(url: &str) {
    wait_for_the_others();
    let store = SqliteStore::connect(url).await.expect("the file is there");
    for _ in 0..STEPS {
        let mut base = store.get(&mark()).await.expect("a read").expect("the mark is there");
        loop {
            let next: u64 = std::str::from_utf8(&base).expect("digits").parse().expect("a number");
            match store
                .replace(&mark(), &base, (next + 1).to_string().into(), Ttl::MAX)
                .await
                .expect("a swap")
            {
                Swapped::Done => break,
                Swapped::Conflict(current) => base = current,
                Swapped::Gone => unreachable!("nobody removes it"),
            }
        }
    }
}

async fn count_together() {
    let folder = Folder::shared(&Env::new(""));
    let store = folder.store("cloakroom_sessions").await.expect("the table can be made");
    store.set(&mark(), "0".into(), Ttl::MAX).await.expect("a write");
    at_once((0..COUNTERS).map(|_| process("count", &folder)).collect());
    assert_eq!(number(&store, &mark()).await, COUNTERS * STEPS);
}

/// Does what every process does when it starts, with the options as they are.
async fn start(url: &str, number: &str) {
    wait_for_the_others();
    let store = SqliteStore::connect(url).await.expect("the file can be opened");
    store.migrate().await.expect("the tables can be made");
    let own = Key::new(number).expect("a fine key");
    store.set(&own, "value".into(), Ttl::MAX).await.expect("the table is there");
}

async fn start_together() {
    let folder = Folder::shared(&Env::new(""));
    at_once((0..STARTERS).map(|number| process(&number.to_string(), &folder)).collect());
    let store = SqliteStore::connect(&folder.url()).await.expect("the file is there");
    assert_eq!(store.len().await.expect("the table is there"), STARTERS);
}

/// Lets processes begin together, and waits until all have succeeded.
fn at_once(mut processes: Vec<Child>) {
    // Each says that it is there, so that all of them are loaded before the first begins.
    for process in &mut processes {
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().expect("piped")).read_line(&mut line).expect("it says a word");
        assert_eq!(line, "ready\n");
    }
    for process in &mut processes {
        // The end of its input is the word.
        drop(process.stdin.take());
    }
    for mut process in processes {
        assert!(process.wait().expect("it ends").success(), "what it said is above");
    }
}

fn wait_for_the_others() {
    println!("ready");
    let _ = std::io::stdin().read_line(&mut String::new());
}

async fn number(store: &SqliteStore, key: &Key) -> u64 {
    let value = store.get(key).await.expect("a read").expect("it is there");
    std::str::from_utf8(&value).expect("digits").parse().expect("a number")
}

fn mark() -> Key {
    Key::new("mark").expect("a fine key")
}

fn key(number: usize) -> Key {
    Key::new(format!("key-{number}")).expect("a fine key")
}
