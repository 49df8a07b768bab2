//! A process that is killed in the midst of writing loses nothing that it was told is stored, and leaves a sound file.
//!
//! No harness: the test starts this very program as the process to kill, with the address of the file.

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use cloakroom::{AtomicStore, Key, SqliteStore, Store, Ttl};

const NAME: &str = "a_killed_process_loses_no_acknowledged_write";

/// How often the writer is killed.
const KILLS: usize = 20;

/// Keys that each writer writes in turn.
const KEYS: usize = 7;

#[path = "sql/folder.rs"]
mod folder;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    if let Ok(url) = env::var("CLOAKROOM_WRITER_URL") {
        return runtime.block_on(write(&url));
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        // Of the ignored ones there are none.
        if !arguments.iter().any(|argument| argument == "--ignored") {
            println!("{NAME}: test");
        }
        return;
    }
    runtime.block_on(kill_and_look());
    println!("test {NAME} ... ok");
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
        let mark = Key::new("mark").expect("a fine key");
        let before = store.get(&mark).await.expect("a read of the writer").unwrap_or_default();
        store.replace(&mark, &before, number.to_string().into(), Ttl::MAX).await.expect("a swap");
        writeln!(out, "{number}").and_then(|()| out.flush()).expect("the test reads");
    }
}

async fn kill_and_look() {
    let folder = folder::Folder::shared(&cloakroom_conformance::Env::new(""));
    let store = folder.store("cloakroom_sessions").await.expect("the table can be made");
    let mark = Key::new("mark").expect("a fine key");
    store.set(&mark, "none".into(), Ttl::MAX).await.expect("a write");
    let mut stored = HashMap::new();
    for round in 0..KILLS {
        let mut writer = Command::new(env::current_exe().expect("this program"))
            .env("CLOAKROOM_WRITER_URL", folder.url())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let mut lines = BufReader::new(writer.stdout.take().expect("its output is piped")).lines();
        // A different moment each time, and never between two writes on purpose.
        for _ in 0..5 + round * 3 {
            note(&mut stored, lines.next());
        }
        writer.kill().expect("kill -9");
        // What it still said before it died counts as well.
        for line in lines {
            note(&mut stored, Some(line));
        }
        writer.wait().expect("it has ended");
        // A value as it was acknowledged, or a later one; whole in any case.
        for (key, number) in &stored {
            let value = store.get(key).await.expect("a read").expect("an acknowledged write is there");
            let text = std::str::from_utf8(&value).expect("digits");
            let found: u64 = text[..8].parse().expect("a number");
            assert!(found >= *number, "{found} is older than the acknowledged {number}");
            assert_eq!(text, format!("{found:08}").repeat(700), "a torn value");
        }
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

/// Notes what the writer said is stored.
fn note(stored: &mut HashMap<Key, u64>, line: Option<std::io::Result<String>>) {
    let number: u64 = line.expect("the writer goes on").expect("a line").parse().expect("a number");
    stored.insert(key(number as usize % KEYS), number);
}

fn key(number: usize) -> Key {
    Key::new(format!("key-{number}")).expect("a fine key")
}
