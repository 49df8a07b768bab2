//! Runs the conformance suite over the stores and writes the table of stores in README.md, or checks that it is true.
//!
//! `./test table` runs it over all of them, with servers. The table stands between two marks. It has only what stays
//! the same from run to run, so a row that differs is one that somebody has to look at.

use std::{env, fs, path::Path, process::ExitCode};

use cloakroom_conformance::{Ability, Report, Subject};

#[cfg(feature = "sqlite")]
#[path = "sql/folder.rs"]
#[allow(dead_code)]
mod folder;

const BEGIN: &str = "<!-- stores: written by `./test table`, do not edit -->\n";
const END: &str = "<!-- end of stores -->\n";

/// What is done with what was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Do {
    /// Write it into README.md.
    Write,
    /// Fail if README.md says something else.
    Check,
    /// Print the whole report.
    Print,
}

fn main() -> ExitCode {
    let (mut what, mut wanted) = (Do::Check, Vec::new());
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "write" => what = Do::Write,
            "check" => what = Do::Check,
            "print" => what = Do::Print,
            _ => wanted.push(argument),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("the system has room for a runtime");
    let mut reports = Vec::new();
    for (word, subject) in subjects() {
        if wanted.is_empty() || wanted.iter().any(|one| one == word) {
            // One case at a time: what two of them cost beside each other, not optimised, would count against the store.
            let report = runtime.block_on(subject.parallel(1).run());
            println!("{}", report.to_markdown());
            reports.push(report);
        }
    }
    // Cases that stop a server leave tasks of drivers behind.
    runtime.shutdown_background();
    let passed = reports.iter().all(Report::passed);
    if what == Do::Print {
        return if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(&path).expect("README.md stands beside the packages");
    let new = with_rows(&readme, &Report::table(&reports));
    let is_true = new == readme;
    if what == Do::Write {
        fs::write(&path, new).expect("README.md can be written");
    } else if !is_true {
        eprintln!("the table of stores in README.md is stale: run `./test table` and look at what changes");
    }
    if passed && (is_true || what == Do::Write) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The README with the rows of `table` in the place of those that begin alike; the others stay.
fn with_rows(readme: &str, table: &str) -> String {
    let (before, rest) = readme.split_once(BEGIN).expect("README.md has the mark where the table begins");
    let (old, after) = rest.split_once(END).expect("README.md has the mark where the table ends");
    let name = |row: &str| row.split('|').nth(1).map(|cell| cell.trim().to_owned());
    let mut rows: Vec<&str> = old.lines().skip(2).collect();
    let mut lines = table.lines();
    let head: Vec<&str> = lines.by_ref().take(2).collect();
    for line in lines {
        match rows.iter_mut().find(|row| name(row) == name(line)) {
            Some(row) => *row = line,
            None => rows.push(line),
        }
    }
    let all: Vec<&str> = head.into_iter().chain(rows).collect();
    format!("{before}{BEGIN}{}\n{END}{after}", all.join("\n"))
}

/// The stores that this build has, each with the word that `./test` calls it by.
fn subjects() -> Vec<(&'static str, Subject)> {
    let mut subjects: Vec<(&'static str, Subject)> = Vec::new();
    #[cfg(feature = "memory")]
    subjects.push(("memory", {
        use cloakroom::{Error, MemoryStore};
        let open =
            |env: cloakroom_conformance::Env| async move { Ok::<_, Error>(env.shared(MemoryStore::new)) };
        Subject::new(open, Ability::ALL).name("`MemoryStore`: in this process, gone with it")
    }));
    #[cfg(feature = "sqlite")]
    subjects.push(("sqlite", {
        let open = |env: cloakroom_conformance::Env| async move {
            folder::Folder::shared(&env).store(env.namespace()).await
        };
        Subject::new(open, Ability::ALL).name("`SqliteStore`: in a file on this machine; the quickstart's")
    }));
    #[cfg(feature = "redis")]
    subjects.push(("redis", {
        use cloakroom::RedisStore;
        use cloakroom_conformance::{Operation, Server};
        let open = |env: cloakroom_conformance::Env| async move {
            RedisStore::builder().prefix(format!("{}:", env.namespace())).connect(env.url()).await
        };
        Subject::new(open, Ability::ALL)
            .server(Server::redis())
            .round_trips(Operation::KeysOf, 2)
            .round_trips(Operation::DestroyUser, 2)
            .name("`RedisStore`: Redis 6.2 or later, Valkey")
    }));
    #[cfg(feature = "redis")]
    subjects.push(("redis_cluster", {
        use cloakroom::RedisStore;
        use cloakroom_conformance::Server;
        let open = |env: cloakroom_conformance::Env| async move {
            RedisStore::builder().prefix(format!("{}:", env.namespace())).cluster(env.url().split(',')).await
        };
        Subject::new(open, Ability::ALL)
            .server(Server::redis_cluster())
            .many_addresses()
            .name("`RedisStore::cluster`: Redis Cluster")
    }));
    #[cfg(feature = "redis")]
    subjects.push(("redis_sentinel", {
        use cloakroom::RedisStore;
        use cloakroom_conformance::Server;
        let open = |env: cloakroom_conformance::Env| async move {
            let builder = RedisStore::builder().prefix(format!("{}:", env.namespace()));
            builder.sentinel(env.url().split(','), "mymaster").await
        };
        Subject::new(open, Ability::ALL)
            .server(Server::redis_sentinel())
            .many_addresses()
            .name("`RedisStore::sentinel`: behind Redis Sentinel")
    }));
    #[cfg(feature = "postgres")]
    subjects.push(("postgres", {
        use cloakroom::PostgresStore;
        use cloakroom_conformance::Server;
        let open = |env: cloakroom_conformance::Env| async move {
            let builder = PostgresStore::builder()
                .table(env.namespace())
                .max_connections(4)
                .timeout(std::time::Duration::from_secs(4))
                .sweep_every(None);
            let store = builder.connect(env.url()).await?;
            store.migrate().await?;
            Ok::<_, cloakroom::Error>(store)
        };
        Subject::new(open, Ability::ALL)
            .server(Server::postgres())
            .name("`PostgresStore`: PostgreSQL 12 or later, also through a pooler")
    }));
    #[cfg(feature = "mysql")]
    subjects.push(("mysql", {
        use cloakroom::MySqlStore;
        use cloakroom_conformance::Server;
        let open = |env: cloakroom_conformance::Env| async move {
            let builder = MySqlStore::builder()
                .table(env.namespace())
                .max_connections(4)
                .timeout(std::time::Duration::from_secs(4))
                .sweep_every(None);
            let store = builder.connect(env.url()).await?;
            store.migrate().await?;
            Ok::<_, cloakroom::Error>(store)
        };
        Subject::new(open, Ability::ALL)
            .server(Server::mariadb())
            .name("`MySqlStore`: MySQL 8 and MariaDB 10.11, or later")
    }));
    #[cfg(feature = "mongo")]
    subjects.push(("mongo", {
        use cloakroom::MongoStore;
        use cloakroom_conformance::{Operation, Server};
        let open = |env: cloakroom_conformance::Env| async move {
            MongoStore::builder().collection(env.namespace()).connect(env.url()).await
        };
        Subject::new(open, Ability::ALL)
            .server(Server::mongo())
            .round_trips(Operation::DestroyUser, 2)
            .name("`MongoStore`: MongoDB 4.4 or later")
    }));
    subjects
}
