//! The Redis store in a cluster and behind sentinels, when another server takes over under load.
#![cfg(all(feature = "axum", feature = "redis"))]
#![allow(clippy::unwrap_used, clippy::panic)] // A helper that fails is a test that fails.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    routing::get,
};
use cloakroom::{
    AtomicStore, Error, ErrorKind, IndexedStore, RedisStore, Session, SessionLayer, Store, Swapped,
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

/// How long it may take from the death of a master until every session is written again: 5 seconds, and a little for a
/// busy machine.
const TAKEOVER: Duration = Duration::from_millis(5_500);

/// How much of that is Redis's own: to agree on another master. Sentinels whose votes split begin anew much later, which
/// says nothing about the store.
const ELECTION: Duration = Duration::from_secs(4);

/// How long the store may take once there is another master: a second, and a little for a busy machine.
const SOON: Duration = Duration::from_millis(1_500);

/// How long anything is waited for before it counts as never.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a replica may take that was told to take over, which is no matter of the store's.
const FAILOVER: Duration = Duration::from_secs(15);

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

/// Asks a node what it is, over a connection of its own: a sentinel ends those that there are when it promotes a node.
async fn role(node: &Node) -> redis::RedisResult<String> {
    let mut inside = redis::Client::open(node.url())?.get_multiplexed_async_connection().await?;
    let role: Vec<redis::Value> = redis::cmd("ROLE").query_async(&mut inside).await?;
    Ok(redis::from_redis_value(role[0].clone())?)
}

/// Sends `ROLE` to each node, and returns those that answer with this word.
async fn nodes_with_role<'a>(server: &'a Running, wanted: &str) -> Vec<&'a Node> {
    let mut found = Vec::new();
    for node in server.nodes() {
        if role(node).await.unwrap() == wanted {
            found.push(node);
        }
    }
    found
}

/// Waits until one of the replicas is a master, and all sentinels, if there are any, name it instead of the dead one.
/// Returns when that was.
async fn taken_over(dead: &Node, replicas: &[&Node], sentinels: &[&Node]) -> Instant {
    let began = Instant::now();
    let pause = async || {
        assert!(began.elapsed() < PATIENCE, "no replica has taken over");
        sleep(Duration::from_millis(20)).await;
    };
    'promoted: loop {
        for replica in replicas {
            if role(replica).await.is_ok_and(|role| role == "master") {
                break 'promoted;
            }
        }
        pause().await;
    }
    for sentinel in sentinels {
        let mut inside = inside(sentinel.url()).await;
        let question = "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster";
        while ask::<Vec<String>>(&mut inside, question).await[1] == dead.port().to_string() {
            pause().await;
        }
    }
    Instant::now()
}

/// What became of writes.
#[derive(Default)]
struct Tally {
    /// How often each session was written.
    done: Vec<AtomicU64>,
    /// Every error, of those that write on the store itself or of the engine and the handler.
    kinds: Mutex<Vec<ErrorKind>>,
    /// Answers to visitors that were no success.
    refused: AtomicUsize,
    stop: AtomicBool,
}

impl Tally {
    fn add(&self, error: &Error) {
        self.kinds.lock().unwrap().push(error.kind());
    }
}

/// Changes one session all the time.
async fn write(store: RedisStore, number: usize, tally: Arc<Tally>) {
    let key = key(&format!("session-{number}"));
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
            Err(error) => tally.add(&error),
        }
        sleep(Duration::from_millis(2)).await;
    }
}

async fn count(State(tally): State<Arc<Tally>>, session: Session) -> Result<String, Error> {
    let counted = session.update_now("count", |count: Option<u64>| count.unwrap_or(0) + 1).await;
    let count: u64 = counted.inspect_err(|error| tally.add(error))?;
    Ok(count.to_string())
}

/// An application that counts its visitors' visits. Its engine is as it comes.
fn app(store: RedisStore, tally: &Arc<Tally>) -> Router {
    let seen = Arc::clone(tally);
    let layer = SessionLayer::new(store).recover(move |error, _| {
        seen.add(&error);
        async move { Err(error) }
    });
    let counting = Router::new().route("/", get(count)).with_state(Arc::clone(tally));
    counting.layer(layer.build().unwrap())
}

/// Visits once with the visitor's cookie, and returns the answer.
async fn visit(app: &Router, cookie: &mut String) -> (StatusCode, String) {
    let request = Request::get("/").header("cookie", &*cookie).body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    if let Some(set) = response.headers().get("set-cookie") {
        *cookie = set.to_str().unwrap().split(';').next().unwrap().to_owned();
    }
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// A visitor who comes again and again.
async fn visit_often(app: Router, number: usize, tally: Arc<Tally>) {
    let mut cookie = String::new();
    while !tally.stop.load(Ordering::Relaxed) {
        if visit(&app, &mut cookie).await.0.is_success() {
            tally.done[number].fetch_add(1, Ordering::Relaxed);
        } else {
            tally.refused.fetch_add(1, Ordering::Relaxed);
        }
        sleep(Duration::from_millis(2)).await;
    }
}

struct Load {
    tally: Arc<Tally>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Sessions that are changed on the store itself.
    fn on(store: &RedisStore) -> Self {
        let mut load = Self::new();
        for number in 0..SESSIONS {
            load.tasks.spawn(write(store.clone(), number, Arc::clone(&load.tally)));
        }
        load
    }

    /// Visitors of an application, with a session each.
    fn visiting(store: &RedisStore) -> Self {
        let mut load = Self::new();
        let app = app(store.clone(), &load.tally);
        for number in 0..SESSIONS {
            load.tasks.spawn(visit_often(app.clone(), number, Arc::clone(&load.tally)));
        }
        load
    }

    fn new() -> Self {
        let done = (0..SESSIONS).map(|_| AtomicU64::new(0)).collect();
        Self { tally: Arc::new(Tally { done, ..Tally::default() }), tasks: JoinSet::new() }
    }

    /// Waits until every session has been written again, and returns when that was.
    async fn all_written(&self) -> Instant {
        let began = Instant::now();
        let before: Vec<_> = self.tally.done.iter().map(|done| done.load(Ordering::Relaxed)).collect();
        for (number, (done, before)) in self.tally.done.iter().zip(before).enumerate() {
            while done.load(Ordering::Relaxed) == before {
                assert!(began.elapsed() < PATIENCE + SOON, "session {number} is still not written");
                sleep(Duration::from_millis(5)).await;
            }
        }
        Instant::now()
    }

    /// Asserts that every error was `Unavailable` and that none was kept back, and returns how many there were.
    async fn end(self) -> usize {
        self.tally.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        let kinds = self.tally.kinds.lock().unwrap();
        assert!(kinds.iter().all(|kind| *kind == ErrorKind::Unavailable), "{kinds:?}");
        let refused = self.tally.refused.load(Ordering::Relaxed);
        assert!(refused <= kinds.len(), "{refused} visits were refused, for {} errors", kinds.len());
        kinds.len()
    }
}

/// Kills the first of these nodes that calls itself a master, under two kinds of load, and asserts what that may cost
/// once there is another. Returns how long that took to be agreed on, and the whole.
async fn kill_a_master(server: &Running, store: &RedisStore) -> (Duration, Duration) {
    let loads = [Load::on(store), Load::visiting(store)];
    for load in &loads {
        load.all_written().await;
    }
    let replicas = nodes_with_role(server, "slave").await;
    let sentinels = nodes_with_role(server, "sentinel").await;
    let masters = nodes_with_role(server, "master").await;
    let died = Instant::now();
    masters[0].kill().await.unwrap();
    let (there_is_another, on_store, visiting) = tokio::join!(
        taken_over(masters[0], &replicas, &sentinels),
        loads[0].all_written(),
        loads[1].all_written()
    );
    let (election, on_store, visiting) = (there_is_another - died, on_store - died, visiting - died);
    println!(
        "after the death of a master there was another in {election:?}, all sessions were written in {on_store:?}, by \
         visitors in {visiting:?}"
    );
    for load in loads {
        println!("it cost {} errors", load.end().await);
    }
    let whole = on_store.max(visiting);
    assert!(
        whole <= election + SOON,
        "all sessions were written in {whole:?}, {election:?} of it an election"
    );
    (election, whole)
}

/// Kills a master and judges the whole: once more, with other servers, if these took long to agree on another.
async fn kill_a_master_of(start: impl AsyncFn() -> (Running, RedisStore)) {
    for _ in 0..2 {
        let (server, store) = start().await;
        let (election, whole) = kill_a_master(&server, &store).await;
        if election < ELECTION {
            assert!(whole <= TAKEOVER, "all sessions were written in {whole:?}");
            return;
        }
    }
    panic!("twice the servers took longer than {ELECTION:?} to agree on another master");
}

/// A visitor who comes again and again, and returns every answer that was not the next number.
async fn visit_in_order(app: Router, visits: Arc<AtomicU64>, tally: Arc<Tally>) -> Vec<String> {
    let (mut cookie, mut expected, mut odd) = (String::new(), 1, Vec::new());
    while !tally.stop.load(Ordering::Relaxed) {
        let (status, body) = visit(&app, &mut cookie).await;
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
    let (tally, visits) = (Arc::<Tally>::default(), Arc::<AtomicU64>::default());
    let app = app(store, &tally);
    let mut visitors = JoinSet::new();
    for _ in 0..SESSIONS {
        visitors.spawn(visit_in_order(app.clone(), Arc::clone(&visits), Arc::clone(&tally)));
    }
    let replicas = nodes_with_role(&server, "slave").await;
    assert_eq!(replicas.len(), 3, "each master has a replica to take over");
    for replica in replicas {
        let mut inside = inside(replica.url()).await;
        let _: () = ask(&mut inside, "CLUSTER FAILOVER").await;
        let over = async {
            while ask::<Vec<redis::Value>>(&mut inside, "ROLE").await[0]
                != redis::Value::BulkString("master".into())
            {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(FAILOVER, over).await.expect("the replica takes over");
        let so_far = visits.load(Ordering::Relaxed);
        while visits.load(Ordering::Relaxed) < so_far + 10 * SESSIONS as u64 {
            sleep(Duration::from_millis(5)).await;
        }
    }
    tally.stop.store(true, Ordering::Relaxed);
    let odd = visitors.join_all().await.concat();
    println!("{} visits", visits.load(Ordering::Relaxed));
    assert!(odd.is_empty(), "{odd:#?}");
    assert!(tally.kinds.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_a_master_is_written_again_when_its_replica_has_taken_over() {
    kill_a_master_of(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_follows_the_sentinels_to_another_master() {
    kill_a_master_of(sentinel).await;
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
