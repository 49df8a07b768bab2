//! The Redis store when its server dies, stands still, forgets, or when a reply is lost.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic)] // A helper that fails is a test that fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cloakroom::{AtomicStore, ErrorKind, Key, RedisStore, Status, Store, Swapped};
use cloakroom_conformance::FaultProxy;
use deadpool_redis::{Config, PoolConfig, Runtime};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

#[path = "support/redis.rs"]
mod support;

use support::{HOUR, ask, calls, is_of_outage, key, server, wait_until};

/// How long an operation may take in an outage, with room for a busy machine.
const BOUND: Duration = Duration::from_secs(5);

/// How long a status may take to follow a server's death and return, and the first success its return: a second, and a
/// little for a busy machine.
const SOON: Duration = Duration::from_millis(1_500);

/// How much longer than promised something may take on a busy machine.
const SLACK: Duration = Duration::from_millis(500);

#[tokio::test]
async fn the_status_follows_the_death_and_the_return_of_the_server_though_nobody_calls() {
    let (server, _) = server().await;
    let store = RedisStore::connect(server.url()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(store.status().current(), Status::Connected);
        server.kill().await.unwrap();
        let fell = wait_until(&store, false, SOON).await;
        server.start().await.unwrap();
        let rose = wait_until(&store, true, SOON).await;
        println!("fell {fell:?} after the death, rose {rose:?} after the return");
        assert_eq!(store.get(&key("k")).await.unwrap(), None);
    }
}

/// Counts up in one session, as a request does, until it is told to stop.
async fn count_up(store: RedisStore, key: Key, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Vec<String> {
    let mut oddities = Vec::new();
    let mut known: Option<u64> = None;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let counted = timeout(BOUND, async {
            let Some(current) = store.get(&key).await? else {
                let created = store.create(&key, "1".into(), HOUR).await?;
                return Ok(created.then_some(1));
            };
            let count: u64 = std::str::from_utf8(&current).unwrap().parse().unwrap();
            let next = (count + 1).to_string().into();
            Ok(matches!(store.replace(&key, &current, next, HOUR).await?, Swapped::Done).then_some(count + 1))
        });
        match counted.await {
            Err(_) => oddities.push(format!("an operation was under way for {:?}", began.elapsed())),
            Ok(Err(error)) => {
                // Whether it was applied is not known.
                known = None;
                if !is_of_outage(&error) {
                    oddities.push(error.to_string());
                }
            }
            // Nobody else writes here.
            Ok(Ok(None)) if known.is_some() => oddities.push("somebody else's write".to_owned()),
            Ok(Ok(count)) => {
                if let (Some(known), Some(count)) = (known, count)
                    && count != known + 1
                    && count != 1
                {
                    oddities.push(format!("{count} came after {known}"));
                }
                known = count;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
        tokio::task::yield_now().await;
    }
    oddities
}

struct Load {
    tasks: JoinSet<Vec<String>>,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
}

impl Load {
    fn of(store: &RedisStore) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut tasks = JoinSet::new();
        for task in 0..16 {
            tasks.spawn(count_up(
                store.clone(),
                key(&format!("s{task}")),
                Arc::clone(&stop),
                Arc::clone(&done),
            ));
        }
        Self { tasks, stop, done }
    }

    /// Waits for the next success, and returns how long that took.
    async fn success(&self) -> Duration {
        let (began, before) = (Instant::now(), self.done.load(Ordering::Relaxed));
        while self.done.load(Ordering::Relaxed) == before {
            assert!(began.elapsed() < BOUND, "nothing succeeds");
            sleep(Duration::from_millis(1)).await;
        }
        began.elapsed()
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let oddities = self.tasks.join_all().await.concat();
        assert!(oddities.is_empty(), "{oddities:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_under_load_costs_errors_of_an_outage_and_nothing_else() {
    let (server, _) = server().await;
    let store = RedisStore::connect(server.url()).await.unwrap();
    let load = Load::of(&store);
    for _ in 0..2 {
        load.success().await;
        server.kill().await.unwrap();
        sleep(Duration::from_millis(100)).await;
        server.start().await.unwrap();
        let first = load.success().await;
        println!("first success {first:?} after the return");
        assert!(first <= SOON, "the first success came {first:?} after the return");
    }
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_costs_a_request_its_deadline_and_no_session() {
    let (server, _) = server().await;
    let response = Duration::from_millis(300);
    let store = RedisStore::builder().response_timeout(response).connect(server.url()).await.unwrap();
    let stays = key("stays");
    store.set(&stays, "value".into(), HOUR).await.unwrap();
    let load = Load::of(&store);
    load.success().await;
    server.pause().await.unwrap();
    let began = Instant::now();
    let error = store.get(&stays).await.unwrap_err();
    assert!(
        is_of_outage(&error) && began.elapsed() < response + SLACK,
        "{error} after {:?}",
        began.elapsed()
    );
    wait_until(&store, false, SOON).await;
    assert!(is_of_outage(&store.get(&stays).await.unwrap_err()));
    server.resume().await.unwrap();
    let first = load.success().await;
    assert!(first <= SOON, "the first success came {first:?} after the server went on");
    wait_until(&store, true, SOON).await;
    assert_eq!(store.get(&stays).await.unwrap().as_deref(), Some(&b"value"[..]));
    load.end().await;
}

#[tokio::test]
async fn what_failed_while_the_server_stood_still_does_not_come_late() {
    let (server, _) = server().await;
    let store = RedisStore::builder()
        .response_timeout(Duration::from_millis(100))
        .connect(server.url())
        .await
        .unwrap();
    let (one, gone) = (key("one"), key("gone"));
    server.pause().await.unwrap();
    for key in [&one, &gone] {
        assert!(is_of_outage(&store.set(key, "of the outage".into(), HOUR).await.unwrap_err()));
    }
    wait_until(&store, false, SOON).await;
    server.resume().await.unwrap();
    wait_until(&store, true, SOON).await;
    store.set(&one, "of today".into(), HOUR).await.unwrap();
    store.destroy(&gone).await.unwrap();
    for _ in 0..20 {
        assert_eq!(store.get(&one).await.unwrap().as_deref(), Some(&b"of today"[..]));
        assert_eq!(store.get(&gone).await.unwrap(), None);
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_cable_that_is_pulled_is_noticed_and_a_new_connection_is_made() {
    let (server, _) = server().await;
    let (proxy, url) = server.proxied().await.unwrap();
    let times = Duration::from_millis(200);
    let store =
        RedisStore::builder().response_timeout(times).connect_timeout(times).connect(&url).await.unwrap();
    proxy.half_open();
    assert!(is_of_outage(&store.get(&key("k")).await.unwrap_err()));
    wait_until(&store, false, SOON).await;
    proxy.heal().await;
    wait_until(&store, true, SOON).await;
    assert_eq!(store.get(&key("k")).await.unwrap(), None);
}

#[tokio::test]
async fn a_request_that_is_given_up_makes_the_store_look_whether_the_server_is_there() {
    let (server, _) = server().await;
    let (proxy, url) = server.proxied().await.unwrap();
    let store = RedisStore::builder().response_timeout(Duration::from_secs(4)).connect(&url).await.unwrap();
    proxy.half_open();
    // As the engine does at the end of its own patience.
    assert!(timeout(Duration::from_millis(600), store.get(&key("k"))).await.is_err());
    wait_until(&store, false, SOON).await;
}

#[tokio::test]
async fn a_write_whose_reply_is_lost_is_an_error_and_applied_once() {
    let (server, mut inside) = server().await;
    let (proxy, url) = server.proxied().await.unwrap();
    let store = RedisStore::connect(&url).await.unwrap();
    let one = key("one");
    store.set(&one, "0".into(), HOUR).await.unwrap();
    for count in 0..10_u8 {
        wait_until(&store, true, SOON).await;
        let (current, next) = (count.to_string(), (count + 1).to_string());
        proxy.lose_reply_to(b"cloakroom:one");
        let error = store.replace(&one, current.as_bytes(), next.clone().into(), HOUR).await.unwrap_err();
        assert!(is_of_outage(&error), "{error}");
        wait_until(&store, true, SOON).await;
        assert_eq!(store.get(&one).await.unwrap().as_deref(), Some(next.as_bytes()));
    }
    assert_eq!(calls(&mut inside, "evalsha").await, 10, "a write was sent again");
    assert_eq!(calls(&mut inside, "psetex").await, 10, "a write was applied again");
    let two = key("two");
    proxy.lose_reply_to(b"cloakroom:two");
    assert!(is_of_outage(&store.create(&two, "a".into(), HOUR).await.unwrap_err()));
    wait_until(&store, true, SOON).await;
    assert!(!store.create(&two, "b".into(), HOUR).await.unwrap());
    assert_eq!(store.get(&two).await.unwrap().as_deref(), Some(&b"a"[..]));
}

#[tokio::test]
async fn what_a_pool_waits_for_is_a_connection_before_a_command_is_sent_and_its_reply_afterwards() {
    let (server, _) = server().await;
    let (proxy, url) = server.proxied().await.unwrap();
    let mut config = Config::from_url(url);
    config.pool = Some(PoolConfig::new(1));
    let pool = config.create_pool(Some(Runtime::Tokio1)).unwrap();
    let response = Duration::from_secs(2);
    let store = RedisStore::builder().response_timeout(response).from_pool(pool.clone()).await.unwrap();
    let one = key("one");

    let held = pool.get().await.unwrap();
    let began = Instant::now();
    let error = store.set(&one, "never sent".into(), HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    // It gives up while there is still time for a reply: a connection that comes later is sent nothing.
    assert!(began.elapsed() < response, "{:?}", began.elapsed());
    assert!(error.to_string().contains("is it large enough"), "{error}");
    drop(held);
    wait_until(&store, true, SOON).await;
    assert_eq!(store.get(&one).await.unwrap(), None);

    // The pool's own question still passes, and the value is on its way for seconds.
    proxy.throttle(40_000);
    let began = Instant::now();
    let error = store.set(&one, vec![b'x'; 200_000].into(), HOUR).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(began.elapsed() < response + SLACK, "{:?}", began.elapsed());
    assert!(!error.to_string().contains("is it large enough"), "it was sent: {error}");
}

#[tokio::test]
async fn a_server_that_forgets_everything_ends_sessions_and_brings_none_back() {
    let (server, mut inside) = server().await;
    let store = RedisStore::connect(server.url()).await.unwrap();
    let one = key("one");
    store.set(&one, "a".into(), HOUR).await.unwrap();
    let _: () = ask(&mut inside, "FLUSHALL").await;
    assert_eq!(store.get(&one).await.unwrap(), None);
    assert_eq!(store.replace(&one, b"a", "b".into(), HOUR).await.unwrap(), Swapped::Gone);
    assert_eq!(store.remove(&one, b"a").await.unwrap(), Swapped::Gone);
    assert!(!store.touch(&one, HOUR).await.unwrap());
    assert_eq!(store.get(&one).await.unwrap(), None);
}

/// Clients that lose their server at the same moment.
const CLIENTS: usize = 200;

/// How many clients may come back at the same moment, and how long a moment is. Each looks every 300 to 600 ms.
const CROWD: usize = CLIENTS / 2;
const MOMENT: Duration = Duration::from_millis(100);

/// Lets a second of an outage pass, or as much more as a busy machine needs until there was an attempt for each client,
/// and returns how many there were in a second at most.
async fn a_second(proxy: &FaultProxy) -> usize {
    proxy.reset_traffic();
    let began = Instant::now();
    loop {
        let tried = proxy.traffic().connections;
        if tried >= CLIENTS as u64 && began.elapsed() >= Duration::from_secs(1) {
            return proxy.most_connections_within(Duration::from_secs(1));
        }
        assert!(began.elapsed() < BOUND, "only {tried} attempts in {:?} of the outage", began.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
}

/// Lets the server return to all clients, and returns how many of them connected in a moment at most.
async fn come_back(proxy: &FaultProxy, stores: &[RedisStore]) -> usize {
    proxy.reset_traffic();
    proxy.heal().await;
    for store in stores {
        wait_until(store, true, BOUND).await;
    }
    let back = proxy.most_connections_within(Duration::from_secs(1));
    assert!(back <= CLIENTS + CLIENTS / 4, "{back} connections in the second of the return");
    let moment = proxy.most_connections_within(MOMENT);
    println!("{back} connections in a second of the return, {moment} in {MOMENT:?}");
    moment
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_neither_storm_a_server_that_is_away_nor_one_that_is_back() {
    let (server, _) = server().await;
    let (proxy, url) = server.proxied().await.unwrap();
    let mut connecting = JoinSet::new();
    for _ in 0..CLIENTS {
        let url = url.clone();
        connecting.spawn(async move { RedisStore::connect(&url).await.unwrap() });
    }
    let stores = connecting.join_all().await;
    let mut crowds = Vec::new();
    // A process that stands still for a moment is late with all that was due meanwhile, and looks like a storm. A storm
    // comes with each return.
    while crowds.iter().all(|crowd| *crowd > CROWD) {
        assert!(crowds.len() < 3, "{crowds:?} connections within {MOMENT:?} of each return");
        // Every attempt is accepted, and so counted, before it is reset.
        proxy.turn_away();
        let first = a_second(&proxy).await;
        for store in &stores {
            wait_until(store, false, SOON).await;
        }
        let later = a_second(&proxy).await;
        println!("connections of an outage: {first} in a first second, {later} in a later one");
        // Each tries 6 times in the first second, if chance will have it so, and then every 300 to 600 ms.
        assert!(first <= 6 * CLIENTS, "{first} attempts in the first second of the outage");
        assert!(later <= 4 * CLIENTS, "{later} attempts in a later second of the outage");
        crowds.push(come_back(&proxy, &stores).await);
    }
}
