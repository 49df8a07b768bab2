//! A live migration: a Node program under load, an axum application joins, Node leaves. Nobody is logged out.
//!
//! `./test migration` writes what happened to `docs/live-migration.txt`.

use std::{
    env,
    fmt::Write as _,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    browser::Browser,
    express::EXPRESS,
    koa::KOA,
    pair::{Kind, Place, SECRETS},
};

/// How many visitors click all the time.
const VISITORS: usize = 16;

/// How many requests each phase lasts.
const REQUESTS: usize = 800;

/// The load, as the phases steer it and the visitors count it.
#[derive(Default)]
struct Load {
    node: String,
    rust: std::sync::OnceLock<String>,
    /// Of ten requests so many go to Rust.
    share: AtomicUsize,
    at_node: AtomicUsize,
    at_rust: AtomicUsize,
    /// Requests that Node has not answered yet.
    under_way: AtomicUsize,
    logouts: AtomicUsize,
    lost: AtomicUsize,
    errors: AtomicUsize,
    done: AtomicBool,
}

impl Load {
    /// Clicks until the load is taken away, and returns how often.
    async fn visit(self: Arc<Self>, number: usize) -> (Browser, u64) {
        let (browser, name) = (Browser::new(), format!("visitor-{number}"));
        browser.get(&self.node, &format!("/login?user={name}")).await;
        let mut count = 0;
        let mut turn = number;
        while !self.done.load(SeqCst) {
            turn += 7;
            self.under_way.fetch_add(1, SeqCst);
            let site = match self.rust.get() {
                Some(rust) if turn % 10 < self.share.load(SeqCst) => {
                    self.under_way.fetch_sub(1, SeqCst);
                    self.at_rust.fetch_add(1, SeqCst);
                    rust
                }
                _ => {
                    self.at_node.fetch_add(1, SeqCst);
                    &self.node
                }
            };
            let (status, body) = browser.visit(site, "/add?k=clicks").await;
            if site == &self.node {
                self.under_way.fetch_sub(1, SeqCst);
            }
            count += 1;
            if !status.is_success() {
                self.errors.fetch_add(1, SeqCst);
            } else if body == "1" && count > 1 {
                self.logouts.fetch_add(1, SeqCst);
            } else if body != count.to_string() {
                self.lost.fetch_add(1, SeqCst);
            }
        }
        (browser, count)
    }

    /// Lets one phase go on for its requests, and says what came of it.
    async fn phase(&self, title: &str, share: usize) -> String {
        self.share.store(share, SeqCst);
        let read = || {
            [&self.at_node, &self.at_rust, &self.errors, &self.logouts, &self.lost]
                .map(|count| count.load(SeqCst))
        };
        let before = read();
        while read()[0] + read()[1] < before[0] + before[1] + REQUESTS {
            sleep(Duration::from_millis(5)).await;
        }
        let after = read();
        let mut line = format!("{title:<34}");
        for (after, before) in after.iter().zip(before) {
            write!(line, "{:>9}", after - before).unwrap();
        }
        line
    }
}

async fn migrate(kind: &'static Kind) -> String {
    let place = Place::new(kind).await;
    let node = place.node(SECRETS);
    let load = Arc::new(Load { node: node.site().to_owned(), ..Load::default() });
    let mut visitors = JoinSet::new();
    for number in 0..VISITORS {
        visitors.spawn(Arc::clone(&load).visit(number));
    }
    let mut record = format!(
        "{}, {VISITORS} visitors, each counting its own clicks in its session\n\n{:<34}{:>9}{:>9}{:>9}{:>9}{:>9}\n",
        kind.format.program(),
        "",
        "to Node",
        "to Rust",
        "errors",
        "logouts",
        "lost"
    );
    let mut note = |line: String| writeln!(record, "{line}").unwrap();
    note(load.phase("Node alone", 0).await);
    let rust = place.rust(SECRETS).await;
    load.rust.set(rust.site().to_owned()).unwrap();
    note(load.phase("Rust joins with a tenth", 1).await);
    note(load.phase("half and half", 5).await);
    note(load.phase("nine tenths to Rust", 9).await);
    note(load.phase("nothing new to Node", 10).await);
    while load.under_way.load(SeqCst) > 0 {
        sleep(Duration::from_millis(5)).await;
    }
    drop(node);
    note(load.phase("Node has left", 10).await);
    load.done.store(true, SeqCst);
    let (mut clicks, mut stored) = (0, 0);
    while let Some(visitor) = visitors.join_next().await {
        let (browser, count) = visitor.unwrap();
        let session = browser.session(rust.site()).await;
        assert!(session["user"].as_str().unwrap().starts_with("visitor-"));
        clicks += count;
        stored += session["clicks"].as_u64().unwrap();
    }
    let totals = [&load.errors, &load.logouts, &load.lost].map(|count| count.load(SeqCst));
    writeln!(
        record,
        "\n{clicks} clicks, {stored} counted; {} errors, {} logouts, {} lost",
        totals[0], totals[1], totals[2]
    )
    .unwrap();
    assert_eq!((json!(totals), stored), (json!([0, 0, 0]), clicks), "{record}");
    record
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_migration_logs_nobody_out_and_loses_no_click() {
    let mut record = String::from("A live migration, recorded by `./test migration`.\n");
    for kind in [&EXPRESS, &KOA] {
        write!(record, "\n{}", migrate(kind).await).unwrap();
    }
    if let Some(file) = env::var_os("CLOAKROOM_RECORD") {
        fs::write(file, record).unwrap();
    }
}
