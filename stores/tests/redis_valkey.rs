//! The conformance suite over the Redis store on Valkey, which compares and swaps without a script; and the way back to
//! the script.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic)] // A helper that fails is a test that fails.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cloakroom::{AtomicStore, RedisStore, Store, Swapped};
use cloakroom_conformance::{Env, conformance_tests};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::sleep,
};

#[path = "support/packaged.rs"]
mod packaged;
#[path = "support/redis.rs"]
mod support;

use support::{HOUR, ask, calls, inside, key};

conformance_tests! {
    server: packaged::valkey,
    open: |env: Env| async move {
        RedisStore::builder().prefix(format!("{}:", env.namespace())).connect(env.url()).await
    },
    abilities: [atomic, indexed, admin],
    round_trips: [KeysOf: 2, DestroyUser: 2],
    refusals: [Get: 1, Destroy: 1, Create: 1, Replace: 1, Remove: 1, Touch: 1],
}

/// Replaces a value of some bytes that could be taken for something else, and asserts every answer there is.
async fn replace_every_way(store: &RedisStore) {
    let one = key("one");
    assert_eq!(store.replace(&one, b"a", "b".into(), HOUR).await.unwrap(), Swapped::Gone);
    store.set(&one, "a".into(), HOUR).await.unwrap();
    let awkward = b"\r\n$-1\r\n:1\r\n\0".to_vec();
    for (old, new) in
        [(b"a".to_vec(), awkward.clone()), (awkward, b"".to_vec()), (b"".to_vec(), b"b".to_vec())]
    {
        assert_eq!(store.replace(&one, &old, new.clone().into(), HOUR).await.unwrap(), Swapped::Done);
        assert_eq!(store.get(&one).await.unwrap().as_deref(), Some(&*new));
        let conflict = store.replace(&one, b"other", "never".into(), HOUR).await.unwrap();
        assert_eq!(conflict, Swapped::Conflict(new.into()));
    }
    assert!(store.destroy(&one).await.unwrap());
}

/// How often a server is asked to replace in [`replace_every_way`], and how often it does.
const REPLACES: u64 = 7;
const DONE: u64 = 3;

#[tokio::test]
async fn valkey_compares_and_swaps_in_one_command_without_a_script() {
    let server = packaged::valkey().start().await.unwrap();
    let mut inside = inside(server.url()).await;
    let told: String = ask(&mut inside, "INFO server").await;
    assert!(told.contains("valkey_version:9."), "{told}");
    let store = RedisStore::connect(server.url()).await.unwrap();
    replace_every_way(&store).await;
    assert_eq!(calls(&mut inside, "set").await, REPLACES + 1);
    assert_eq!(calls(&mut inside, "evalsha").await + calls(&mut inside, "eval").await, 0);
    let left: u64 = {
        store.set(&key("k"), "a".into(), HOUR).await.unwrap();
        store.replace(&key("k"), b"a", "b".into(), cloakroom::Ttl::from_secs(60)).await.unwrap();
        ask(&mut inside, "PTTL cloakroom:k").await
    };
    assert!((1..=60_000).contains(&left), "a ttl of {left} ms");
}

/// Listens at an address behind which there is one server today and another one tomorrow.
async fn movable(to: Arc<Mutex<String>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let address = to.lock().unwrap().clone();
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(address).await {
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn an_older_server_that_takes_over_is_replaced_on_by_the_script() {
    let (newer, (older, mut of_older)) = (packaged::valkey().start().await.unwrap(), support::server().await);
    let mut of_newer = inside(newer.url()).await;
    let address = |url: &str| url.trim_start_matches("redis://").trim_end_matches('/').to_owned();
    let to = Arc::new(Mutex::new(address(newer.url())));
    let store = RedisStore::connect(&movable(Arc::clone(&to)).await).await.unwrap();
    replace_every_way(&store).await;
    assert_eq!(calls(&mut of_newer, "set").await, REPLACES + 1);

    *to.lock().unwrap() = address(older.url());
    newer.kill().await.unwrap();
    while calls(&mut of_older, "get").await == 0 {
        let _ = store.get(&key("one")).await;
        sleep(Duration::from_millis(5)).await;
    }
    replace_every_way(&store).await;
    assert_eq!(calls(&mut of_older, "evalsha").await, REPLACES, "each one by the script, also the first");
    assert_eq!(calls(&mut of_older, "psetex").await, DONE, "by the script");
    // That of the test, and the first try, which the server did not understand.
    assert_eq!(calls(&mut of_older, "set").await, 1 + 1, "asked once for what it does not have");
}
