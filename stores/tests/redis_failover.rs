//! The Redis store in a cluster and behind sentinels, when another server takes over under load.
#![cfg(all(feature = "axum", feature = "redis"))]
#![allow(clippy::unwrap_used, clippy::panic)] // A helper that fails is a test that fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Body, http::Request, routing::get};
use cloakroom::{
    AtomicStore, ErrorKind, IndexedStore, Key, RedisStore, Session, SessionLayer, Store, Swapped,
};
use cloakroom_conformance::{Node, Running, Server};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt;

#[path = "support/redis.rs"]
mod support;

use support::{HOUR, ask, inside, key};

/// How long another server may take to take over, with room for a busy machine: 5 seconds is what it is made for.
const TAKEOVER: Duration = Duration::from_secs(15);

/// Sessions that are changed all the time: enough for each master to have some.
const SESSIONS: usize = 24;

async fn cluster() -> (Running, RedisStore) {
    let server = Server::redis_cluster().start().await.unwrap();
    let store = RedisStore::cluster(server.url().split(',')).await.unwrap();
    (server, store)
}

async fn sentinel() -> (Running, RedisStore) {
    let server = Server::redis_sentinel().start().await.unwrap();
    let store = RedisStore::sentinel(server.url().split(','), "mymaster").await.unwrap();
    (server, store)
}

/// Sends `ROLE` to each node, and returns those that answer with this word.
async fn nodes_with_role<'a>(server: &'a Running, wanted: &str) -> Vec<&'a Node> {
    let mut found = Vec::new();
    for node in server.nodes() {
        let mut inside = inside(node.url()).await;
        let role: Vec<redis::Value> = ask(&mut inside, "ROLE").await;
        if redis::from_redis_value::<String>(role[0].clone()).unwrap() == wanted {
            found.push(node);
        }
    }
    found
}

/// What became of writes.
#[derive(Default)]
struct Tally {
    done: Vec<AtomicU64>,
    stop: AtomicBool,
}

/// Changes one session all the time, and returns every kind of error that was seen.
async fn write(store: RedisStore, key: Key, number: usize, tally: Arc<Tally>) -> Vec<ErrorKind> {
    let mut kinds = Vec::new();
    while !tally.stop.load(Ordering::Relaxed) {
        let written = async {
            match store.get(&key).await? {
                None => store.create(&key, "x".into(), HOUR).await,
                Some(current) => {
                    let mut next = current.to_vec();
                    next[0] = next[0].wrapping_add(1);
                    let swapped = store.replace(&key, &current, next.into(), HOUR).await?;
                    Ok(matches!(swapped, Swapped::Done))
                }
            }
        };
        match written.await {
            Ok(true) => drop(tally.done[number].fetch_add(1, Ordering::Relaxed)),
            Ok(false) => {}
            Err(error) => kinds.push(error.kind()),
        }
        sleep(Duration::from_millis(2)).await;
    }
    kinds
}

struct Load {
    tally: Arc<Tally>,
    tasks: JoinSet<Vec<ErrorKind>>,
}

impl Load {
    fn of(store: &RedisStore) -> Self {
        let done = (0..SESSIONS).map(|_| AtomicU64::new(0)).collect();
        let tally = Arc::new(Tally { done, stop: AtomicBool::new(false) });
        let mut tasks = JoinSet::new();
        for number in 0..SESSIONS {
            let key = key(&format!("session-{number}"));
            tasks.spawn(write(store.clone(), key, number, Arc::clone(&tally)));
        }
        Self { tally, tasks }
    }

    /// Waits until every session has been written again, and returns how long that took.
    async fn all_written(&self) -> Duration {
        let before: Vec<_> = self.tally.done.iter().map(|done| done.load(Ordering::Relaxed)).collect();
        let began = Instant::now();
        for (done, before) in self.tally.done.iter().zip(before) {
            while done.load(Ordering::Relaxed) == before {
                assert!(began.elapsed() < TAKEOVER, "some sessions cannot be written");
                sleep(Duration::from_millis(5)).await;
            }
        }
        began.elapsed()
    }

    /// Asserts that every error was `Unavailable`, and returns how many there were.
    async fn end(self) -> usize {
        self.tally.stop.store(true, Ordering::Relaxed);
        let kinds = self.tasks.join_all().await.concat();
        assert!(kinds.iter().all(|kind| *kind == ErrorKind::Unavailable), "{kinds:?}");
        kinds.len()
    }
}

async fn count(session: Session) -> Result<String, cloakroom::Error> {
    let count: u64 = session.update_now("count", |count: Option<u64>| count.unwrap_or(0) + 1).await?;
    Ok(count.to_string())
}

/// A visitor who comes again and again, and returns every answer that was not the next number.
async fn visit(app: Router, stop: Arc<AtomicBool>, visits: Arc<AtomicU64>) -> Vec<String> {
    let (mut cookie, mut expected, mut odd) = (String::new(), 1, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let request = Request::get("/").header("cookie", &cookie).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        if let Some(set) = response.headers().get("set-cookie") {
            cookie = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        }
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
        if !status.is_success() || body != expected.to_string() {
            odd.push(format!("{status} {body:?} for {expected}"));
        }
        expected += 1;
        visits.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(2)).await;
    }
    odd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_handler_sees_a_planned_failover_of_every_master_of_a_cluster() {
    let (server, store) = cluster().await;
    let app = Router::new().route("/", get(count)).layer(SessionLayer::new(store).build().unwrap());
    let (stop, visits) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let mut visitors = JoinSet::new();
    for _ in 0..SESSIONS {
        visitors.spawn(visit(app.clone(), Arc::clone(&stop), Arc::clone(&visits)));
    }
    for replica in nodes_with_role(&server, "slave").await {
        let mut inside = inside(replica.url()).await;
        let _: () = ask(&mut inside, "CLUSTER FAILOVER").await;
        let over = async {
            while ask::<Vec<redis::Value>>(&mut inside, "ROLE").await[0]
                != redis::Value::BulkString("master".into())
            {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(TAKEOVER, over).await.expect("the replica takes over");
        let so_far = visits.load(Ordering::Relaxed);
        while visits.load(Ordering::Relaxed) < so_far + 10 * SESSIONS as u64 {
            sleep(Duration::from_millis(5)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let odd = visitors.join_all().await.concat();
    println!("{} visits", visits.load(Ordering::Relaxed));
    assert!(odd.is_empty(), "{odd:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_a_master_is_written_again_when_its_replica_has_taken_over() {
    let (server, store) = cluster().await;
    let load = Load::of(&store);
    load.all_written().await;
    let masters = nodes_with_role(&server, "master").await;
    masters[0].kill().await.unwrap();
    let took = load.all_written().await;
    println!("all sessions were written {took:?} after the death of a master, {} errors", load.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_follows_the_sentinels_to_another_master() {
    let (server, store) = sentinel().await;
    let load = Load::of(&store);
    load.all_written().await;
    let master = server.nodes().iter();
    let mut killed = false;
    for node in master {
        let mut inside = inside(node.url()).await;
        let role: Vec<redis::Value> = ask(&mut inside, "ROLE").await;
        if !killed && role[0] == redis::Value::BulkString("master".into()) {
            node.kill().await.unwrap();
            killed = true;
        }
    }
    assert!(killed, "there is a master");
    let took = load.all_written().await;
    println!("all sessions were written {took:?} after the death of the master, {} errors", load.end().await);
}

#[tokio::test]
async fn a_master_that_the_sentinels_do_not_know_is_an_error_that_names_it() {
    let server = Server::redis_sentinel().start().await.unwrap();
    let error = RedisStore::sentinel(server.url().split(','), "nobody").await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("master")), "{error}");
}

#[tokio::test]
async fn slots_that_move_while_keys_are_in_them_are_followed() {
    let (server, store) = cluster().await;
    let one = key("{moving}one");
    store.set(&one, "a".into(), HOUR).await.unwrap();
    store.bind(&one, "ann", HOUR).await.unwrap();
    let mut asked = inside(server.nodes()[0].url()).await;
    let slot: u64 = ask(&mut asked, "CLUSTER KEYSLOT cloakroom:{moving}one").await;
    let mut masters = Vec::new();
    for node in nodes_with_role(&server, "master").await {
        let mut inside = inside(node.url()).await;
        let id: String = ask(&mut inside, "CLUSTER MYID").await;
        let owns: Vec<String> = ask(&mut inside, &format!("CLUSTER GETKEYSINSLOT {slot} 10")).await;
        masters.push((inside, id, !owns.is_empty(), node.port()));
    }
    masters.sort_by_key(|(_, _, owns, _)| !owns);
    let [(from, from_id, ..), (to, to_id, _, to_port), ..] = &mut masters[..] else {
        unreachable!("a cluster has three masters");
    };
    let _: () = ask(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}")).await;
    let _: () = ask(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}")).await;
    // Half-way: this key has moved, and the slot has not.
    let _: () = ask(from, &format!("MIGRATE 127.0.0.1 {to_port} cloakroom:{{moving}}one 0 5000")).await;
    assert_eq!(store.get(&one).await.unwrap().as_deref(), Some(&b"a"[..]));
    assert_eq!(store.replace(&one, b"a", "b".into(), HOUR).await.unwrap(), Swapped::Done);
    assert!(store.create(&key("{moving}two"), "c".into(), HOUR).await.unwrap());
    // The rest of it: who the first is bound to.
    let mut left = redis::cmd("CLUSTER");
    left.arg("GETKEYSINSLOT").arg(slot).arg(10);
    let left: Vec<Vec<u8>> = left.query_async(from).await.unwrap();
    let mut migrate = redis::cmd("MIGRATE");
    migrate.arg("127.0.0.1").arg(*to_port).arg("").arg(0).arg(5000).arg("KEYS").arg(left);
    let _: () = migrate.query_async(from).await.unwrap();
    for inside in [to, from] {
        let _: () = ask(inside, &format!("CLUSTER SETSLOT {slot} NODE {to_id}")).await;
    }
    assert_eq!(store.get(&one).await.unwrap().as_deref(), Some(&b"b"[..]));
    assert!(store.get(&key("{moving}two")).await.unwrap().is_some());
    assert_eq!(store.keys_of("ann").await.unwrap(), [one]);
}
