//! What only the Redis store does: names in the server, scripts, limits, who may come in, and what errors say.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic)] // A helper that fails is a test that fails.

use std::time::{Duration, Instant};

use cloakroom::{
    AdminStore, AtomicStore, ErrorKind, IndexedStore, Key, RedisStore, Status, Store, Swapped, Ttl,
};
use cloakroom_conformance::Server;
use futures_util::TryStreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

#[path = "support/redis.rs"]
mod support;

use support::{HOUR, ask, calls, key, server};

#[tokio::test]
async fn a_value_is_a_plain_string_under_the_prefix_with_a_ttl() {
    let (server, mut inside) = server().await;
    let store = RedisStore::builder().prefix("shop:").connect(server.url()).await.unwrap();
    store.set(&key("k"), "value".into(), HOUR).await.unwrap();
    assert_eq!(ask::<String>(&mut inside, "GET shop:k").await, "value");
    let left: u64 = ask(&mut inside, "PTTL shop:k").await;
    assert!(left > HOUR.millis() - 60_000 && left <= HOUR.millis());
    let usual = RedisStore::connect(server.url()).await.unwrap();
    usual.set(&key("k"), "other".into(), HOUR).await.unwrap();
    assert_eq!(ask::<String>(&mut inside, "GET cloakroom:k").await, "other");
}

#[tokio::test]
async fn nothing_is_ever_stored_without_an_expiry() {
    let (server, mut inside) = server().await;
    let store = RedisStore::connect(server.url()).await.unwrap();
    let one = key("one");
    store.create(&one, "a".into(), HOUR).await.unwrap();
    store.replace(&one, b"a", "b".into(), HOUR).await.unwrap();
    store.touch(&one, HOUR).await.unwrap();
    store.set(&key("two"), "c".into(), HOUR).await.unwrap();
    store.bind(&one, "ann", HOUR).await.unwrap();
    store.bind(&one, "bob", Ttl::MIN).await.unwrap();
    store.bind(&one, "bob", Ttl::MAX).await.unwrap();
    store.keys_of("bob").await.unwrap();
    let names: Vec<Vec<u8>> = ask(&mut inside, "KEYS *").await;
    assert_eq!(names.len(), 5, "two values, one note and two users");
    for name in names {
        let left: i64 = redis::cmd("PTTL").arg(&name).query_async(&mut inside).await.unwrap();
        assert!(left > 0, "{} never expires", String::from_utf8_lossy(&name));
    }
}

#[tokio::test]
async fn a_prefix_is_no_pattern_and_none_is_the_beginning_of_another_by_chance() {
    let (server, mut inside) = server().await;
    let prefixes = ["a*:", "ab:", "a?:", "a[b]:", r"a\*:", "a^-:", "{a}:"];
    let mut stores = Vec::new();
    for prefix in prefixes {
        let store = RedisStore::builder().prefix(prefix).connect(server.url()).await.unwrap();
        for name in ["k", "*", "[x]"] {
            store.set(&key(name), "v".into(), HOUR).await.unwrap();
            store.bind(&key(name), "ann", HOUR).await.unwrap();
        }
        stores.push(store);
    }
    let _: () = ask(&mut inside, "SET someone-elses value").await;
    for (cleared, store) in stores.iter().enumerate() {
        let mut keys: Vec<Key> = store.scan().try_collect().await.unwrap();
        keys.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        keys.dedup();
        assert_eq!(keys, [key("*"), key("[x]"), key("k")], "under {}", prefixes[cleared]);
        assert_eq!(store.len().await.unwrap(), 3);
        assert_eq!(store.clear().await.unwrap(), 3);
        for (other, store) in stores.iter().enumerate() {
            let left = if other <= cleared { 0 } else { 3 };
            assert_eq!(store.len().await.unwrap(), left, "under {}", prefixes[other]);
            assert_eq!(store.keys_of("ann").await.unwrap().len() as u64, left);
        }
    }
    assert_eq!(ask::<String>(&mut inside, "GET someone-elses").await, "value");
}

#[tokio::test]
async fn a_key_of_another_type_is_an_error_that_says_so() {
    let (server, mut inside) = server().await;
    let store = RedisStore::builder().prefix("p:").connect(server.url()).await.unwrap();
    let _: () = ask(&mut inside, "RPUSH p:list one").await;
    let list = key("list");
    for error in [
        store.get(&list).await.unwrap_err(),
        store.replace(&list, b"one", "two".into(), HOUR).await.unwrap_err(),
        store.remove(&list, b"one").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Backend);
        assert!(error.to_string().contains("another type") && !error.is_retryable(), "{error}");
    }
    assert!(!store.create(&list, "two".into(), HOUR).await.unwrap());
    assert_eq!(store.len().await.unwrap(), 0);
    assert_eq!(ask::<u64>(&mut inside, "LLEN p:list").await, 1);
    assert_eq!(store.status().current(), Status::Connected);
}

#[tokio::test]
async fn scripts_are_loaded_once_and_sent_whole_when_the_server_lost_them() {
    let (server, mut inside) = server().await;
    let store = RedisStore::connect(server.url()).await.unwrap();
    let one = key("one");
    store.create(&one, "a".into(), HOUR).await.unwrap();
    // Only this one: `replace` needs no script on every server.
    let remove = async || store.remove(&one, b"lookalike").await.unwrap();
    for _ in 0..20 {
        assert_eq!(remove().await, Swapped::Conflict("a".into()));
    }
    assert_eq!((calls(&mut inside, "evalsha").await, calls(&mut inside, "eval").await), (20, 0));
    let loaded = calls(&mut inside, "script|load").await;
    let _: () = ask(&mut inside, "SCRIPT FLUSH").await;
    for _ in 0..20 {
        assert_eq!(remove().await, Swapped::Conflict("a".into()));
    }
    assert_eq!((calls(&mut inside, "evalsha").await, calls(&mut inside, "eval").await), (40, 1));
    assert_eq!(calls(&mut inside, "script|load").await, loaded);
}

#[tokio::test]
async fn each_operation_is_one_round_trip() {
    let (server, _) = server().await;
    let (proxy, url) = server.proxied().await.unwrap();
    let store = RedisStore::connect(&url).await.unwrap();
    let (one, two) = (key("one"), key("two"));
    let mut trips = Vec::new();
    macro_rules! count {
        ($($call:expr),* $(,)?) => {$(
            proxy.reset_traffic();
            $call.await.unwrap();
            trips.push((stringify!($call), proxy.traffic().round_trips));
        )*};
    }
    count!(
        store.get(&one),
        store.create(&one, "a".into(), HOUR),
        store.create(&one, "a".into(), HOUR),
        store.get(&one),
        store.replace(&one, b"a", "b".into(), HOUR),
        store.replace(&one, b"a", "b".into(), HOUR),
        store.replace(&two, b"a", "b".into(), HOUR),
        store.touch(&one, HOUR),
        store.bind(&one, "ann", HOUR),
        store.remove(&one, b"a"),
        store.remove(&one, b"b"),
        store.set(&one, "c".into(), HOUR),
        store.destroy(&one),
        store.keys_of("nobody"),
        store.destroy_user("nobody", None),
    );
    assert!(trips.iter().all(|(_, trips)| *trips == 1), "{trips:#?}");
}

#[tokio::test]
async fn the_index_drops_what_has_expired_and_what_is_stale_when_it_is_read() {
    let (server, mut inside) = server().await;
    let store = RedisStore::builder().prefix("p:").connect(server.url()).await.unwrap();
    for name in ["live", "gone", "new"] {
        store.set(&key(name), "v".into(), HOUR).await.unwrap();
        store.bind(&key(name), "ann", HOUR).await.unwrap();
    }
    store.bind(&key("short"), "ann", Ttl::MIN).await.unwrap();
    store.destroy(&key("gone")).await.unwrap();
    store.destroy(&key("new")).await.unwrap();
    // What says that it was bound a moment ago runs out after a minute: the clock is turned on by hand.
    let guard = redis::cmd("ZREM").arg("p: user ann").arg(" gone").query_async::<u64>(&mut inside).await;
    assert_eq!(guard.unwrap(), 1);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(store.keys_of("ann").await.unwrap(), [key("live")]);
    let mut left = redis::cmd("ZRANGE");
    left.arg("p: user ann").arg(0).arg(-1);
    let mut left: Vec<String> = left.query_async(&mut inside).await.unwrap();
    left.sort();
    assert_eq!(left, [" live", " new", " short", "live", "new"]);
}

#[tokio::test]
async fn a_value_over_the_limit_is_too_large_and_the_old_one_stays() {
    let (server, _) = server().await;
    let store = RedisStore::builder().max_value_bytes(1000).connect(server.url()).await.unwrap();
    let one = key("one");
    let (most, more) = (vec![b'x'; 1000], vec![b'x'; 1001]);
    store.set(&one, most.clone().into(), HOUR).await.unwrap();
    for error in [
        store.set(&one, more.clone().into(), HOUR).await.unwrap_err(),
        store.create(&key("two"), more.clone().into(), HOUR).await.unwrap_err(),
        store.replace(&one, &most, more.clone().into(), HOUR).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }
    assert_eq!(store.get(&one).await.unwrap().as_deref(), Some(&*most));
    assert_eq!(store.get(&key("two")).await.unwrap(), None);
}

#[tokio::test]
async fn a_database_has_a_number() {
    let (server, mut inside) = server().await;
    let third = RedisStore::connect(&format!("{}/3", server.url().trim_end_matches('/'))).await.unwrap();
    third.set(&key("k"), "v".into(), HOUR).await.unwrap();
    assert_eq!(ask::<u64>(&mut inside, "DBSIZE").await, 0);
    let _: () = ask(&mut inside, "SELECT 3").await;
    assert_eq!(ask::<u64>(&mut inside, "DBSIZE").await, 1);
    let url = format!("{}/4711", server.url().trim_end_matches('/'));
    let error = RedisStore::connect(&url).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_user_and_a_password_open_the_door_and_no_error_quotes_them() {
    let (server, mut inside) = server().await;
    let rules = "on >right-canary ~p:* +@all -@dangerous";
    let _: () = ask(&mut inside, &format!("ACL SETUSER door {rules}")).await;
    let address = server.url().trim_start_matches("redis://").to_owned();
    let with = |login: &str, prefix: &'static str| {
        let url = format!("redis://{login}@{address}");
        async move { RedisStore::builder().prefix(prefix).connect(&url).await }
    };
    let store = with("door:right-canary", "p:").await.unwrap();
    let one = key("one");
    assert!(store.create(&one, "a".into(), HOUR).await.unwrap());
    assert_eq!(store.replace(&one, b"a", "b".into(), HOUR).await.unwrap(), Swapped::Done);
    store.bind(&one, "ann", HOUR).await.unwrap();
    assert_eq!(store.keys_of("ann").await.unwrap(), std::slice::from_ref(&one));
    assert_eq!(store.clear().await.unwrap(), 1);
    assert!(!format!("{store:?}").contains("canary"));

    let wrong = with("door:wrong-canary", "p:").await.unwrap_err();
    let beside = with("door:right-canary", "q:").await.unwrap().get(&one).await.unwrap_err();
    for error in [wrong, beside] {
        assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
        assert!(!error.is_retryable() && !format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn a_password_that_is_changed_is_rejected_when_the_connection_is_made_anew() {
    let (server, mut inside) = server().await;
    let _: () = ask(&mut inside, "ACL SETUSER door on >first ~* +@all").await;
    let address = server.url().trim_start_matches("redis://").to_owned();
    let store = RedisStore::connect(&format!("redis://door:first@{address}")).await.unwrap();
    let _: () = ask(&mut inside, "ACL SETUSER door on resetpass >second ~* +@all").await;
    let _: u64 = ask(&mut inside, "CLIENT KILL USER door").await;
    support::wait_until(&store, false, Duration::from_secs(1)).await;
    loop {
        let error = store.get(&key("k")).await.unwrap_err();
        if error.kind() == ErrorKind::Rejected {
            break;
        }
        assert!(support::is_of_outage(&error), "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let _: () = ask(&mut inside, "ACL SETUSER door on resetpass >first ~* +@all").await;
    support::wait_until(&store, true, Duration::from_secs(3)).await;
    assert_eq!(store.get(&key("k")).await.unwrap(), None);
}

#[tokio::test]
async fn what_cannot_be_connected_is_an_error_of_the_right_kind_without_the_password() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = format!("redis://me:canary@{free}");
    let cases = [
        (RedisStore::connect(&refused).await, ErrorKind::Unavailable),
        (RedisStore::connect("redis://me:canary@no-such-host.invalid").await, ErrorKind::Unavailable),
        (RedisStore::connect("http://me:canary@host").await, ErrorKind::Config),
        (RedisStore::connect("redis://me:canary@host:port").await, ErrorKind::Config),
        (RedisStore::connect("redis://me:canary@host/database").await, ErrorKind::Config),
        (RedisStore::connect("redis://me:canary@host/?protocol=canary").await, ErrorKind::Config),
        (RedisStore::connect("canary").await, ErrorKind::Config),
        (RedisStore::cluster([&refused]).await, ErrorKind::Unavailable),
        (RedisStore::cluster([] as [&str; 0]).await, ErrorKind::Config),
        (RedisStore::sentinel([&refused], "redis://me:canary@name").await, ErrorKind::Unavailable),
        (RedisStore::sentinel([] as [&str; 0], "name").await, ErrorKind::Config),
        (RedisStore::builder().prefix("a b").connect(&refused).await, ErrorKind::Config),
        (RedisStore::builder().connect_timeout(Duration::ZERO).connect(&refused).await, ErrorKind::Config),
        (RedisStore::builder().max_value_bytes(0).connect(&refused).await, ErrorKind::Config),
        (
            RedisStore::builder().root_certificates("canary").connect("rediss://me:canary@host").await,
            ErrorKind::Config,
        ),
    ];
    for (number, (case, kind)) in cases.into_iter().enumerate() {
        let error = case.unwrap_err();
        assert_eq!(error.kind(), kind, "case {number}: {error}");
        assert!(!format!("{error} {error:?}").contains("canary"), "case {number}: {error:?}");
        assert_eq!(kind == ErrorKind::Config, error.field().is_some(), "case {number}");
    }
    let builder = RedisStore::builder().client_certificate("canary", "canary").root_certificates("canary");
    assert!(!format!("{builder:?}").contains("canary"));
}

/// Answers whatever comes in with this, and returns the address.
async fn impostor(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = [0; 4096];
                while let Ok(1..) = stream.read(&mut read).await {
                    if stream.write_all(answer).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_and_told_what_is_needed() {
    let hello: &[u8] = b"%3\r\n+server\r\n+redis\r\n+version\r\n+6.0.16\r\n+role\r\n+master\r\n";
    let unknown: &[u8] = b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n";
    // As many as a greeting asks for.
    let old = impostor(Vec::leak(hello.repeat(16))).await;
    let older = impostor(Vec::leak(unknown.repeat(16))).await;
    for url in [old, older] {
        let error = RedisStore::connect(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("needs redis 6.2 or later, or valkey") && !error.is_retryable());
    }
}

#[tokio::test]
async fn a_server_that_talks_nonsense_is_an_error_and_no_panic() {
    let many = |line: &str| -> &'static [u8] { Vec::leak(line.repeat(16).into_bytes()) };
    for answer in [
        many("+OK\r\n"),
        many(":1\r\n"),
        many("*1\r\n*0\r\n"),
        many("%1\r\n+version\r\n+\r\n"),
        many("%1\r\n+version\r\n:7\r\n"),
        many("HTTP/1.1 400 Bad Request\r\n\r\n"),
        many("$-1\r\n"),
        b"\x00\xff\x00\xff",
    ] {
        let store = RedisStore::builder().connect_timeout(Duration::from_millis(300));
        let error = store.connect(&impostor(answer).await).await.unwrap_err();
        let kind = error.kind();
        assert!(matches!(kind, ErrorKind::Backend | ErrorKind::Unavailable), "{kind:?} for {answer:?}");
    }
}

#[tokio::test]
async fn a_node_of_a_cluster_and_a_single_server_are_not_taken_for_one_another() {
    let (server, _) = server().await;
    let error = RedisStore::cluster([server.url()]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
    assert!(error.to_string().contains("RedisStore::connect"));
    let node = Server::redis().arg("--cluster-enabled").arg("yes").start().await.unwrap();
    let error = RedisStore::connect(node.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected, "{error}");
    assert!(error.to_string().contains("RedisStore::cluster"));
}

#[tokio::test]
async fn a_replica_is_refused() {
    let (master, _) = server().await;
    let (replica, mut of_replica) = server().await;
    let address = master.url().trim_start_matches("redis://").replace(':', " ");
    let _: () = ask(&mut of_replica, &format!("REPLICAOF {}", address.trim_end_matches('/'))).await;
    let error = RedisStore::connect(replica.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("is a replica"), "{error}");
}

#[tokio::test]
async fn a_full_server_refuses_writes_and_keeps_what_it_has() {
    let (server, mut inside) = server().await;
    let store = RedisStore::connect(server.url()).await.unwrap();
    let one = key("one");
    store.set(&one, "old".into(), HOUR).await.unwrap();
    let _: () = ask(&mut inside, "CONFIG SET maxmemory 1").await;
    for error in [
        store.set(&one, "new".into(), HOUR).await.unwrap_err(),
        store.replace(&one, b"old", "new".into(), HOUR).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Backend);
        assert!(error.to_string().contains("out of memory"), "{error}");
    }
    assert_eq!(store.get(&one).await.unwrap().as_deref(), Some(&b"old"[..]));
    assert_eq!(store.status().current(), Status::Connected);
}

#[tokio::test]
async fn from_client_uses_a_connection_of_its_own() {
    let (server, mut inside) = server().await;
    let client = redis::Client::open(server.url()).unwrap();
    let store = RedisStore::from_client(client).await.unwrap();
    store.set(&key("k"), "v".into(), HOUR).await.unwrap();
    assert_eq!(ask::<String>(&mut inside, "GET cloakroom:k").await, "v");
    let clients: String = ask(&mut inside, "CLIENT LIST").await;
    assert!(clients.contains("resp=3"), "the end of the connection is to be noticed at once");
}

#[tokio::test]
async fn a_store_that_is_dropped_hangs_up() {
    let (server, mut inside) = server().await;
    let store = RedisStore::connect(server.url()).await.unwrap();
    let other = store.clone();
    drop(store);
    other.get(&key("k")).await.unwrap();
    drop(other);
    loop {
        let clients: String = ask(&mut inside, "CLIENT LIST").await;
        if clients.lines().count() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn tls_is_spoken_with_a_certificate_of_ones_own() {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new([]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let server_key = rcgen::KeyPair::generate().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&server_key, &issuer).unwrap();
    let server = Server::redis()
        .file("ca.pem", authority_pem.clone())
        .file("server.pem", certificate.pem())
        .file("server.key", server_key.serialize_pem());
    let arguments = [
        ("--port", "0"),
        ("--tls-port", "{port}"),
        ("--tls-ca-cert-file", "{dir}/ca.pem"),
        ("--tls-cert-file", "{dir}/server.pem"),
        ("--tls-key-file", "{dir}/server.key"),
        ("--tls-auth-clients", "no"),
    ];
    let server = arguments.into_iter().fold(server, |server, (name, value)| server.arg(name).arg(value));
    let server = server.scheme("rediss").start().await.unwrap();
    // Wherever containers are reached: the name in the certificate is that of the proxy, which passes bytes on.
    let (_proxy, url) = server.proxied().await.unwrap();

    let began = Instant::now();
    let store = loop {
        match RedisStore::builder().root_certificates(authority_pem.clone()).connect(&url).await {
            Ok(store) => break store,
            // The engine accepts connections for a container before the server in it does.
            Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error}"),
        }
    };
    let untrusted = RedisStore::connect(&url).await.unwrap_err();
    assert_eq!(untrusted.kind(), ErrorKind::Unavailable, "{untrusted}");
    assert!(store.create(&key("k"), "v".into(), HOUR).await.unwrap());
    assert_eq!(store.get(&key("k")).await.unwrap().as_deref(), Some(&b"v"[..]));
    server.kill().await.unwrap();
    support::wait_until(&store, false, Duration::from_secs(2)).await;
    server.start().await.unwrap();
    support::wait_until(&store, true, Duration::from_secs(3)).await;
    assert_eq!(store.get(&key("k")).await.unwrap(), None);
}

#[tokio::test]
async fn a_value_may_be_any_bytes_past_the_script() {
    let (server, _) = server().await;
    let store = RedisStore::connect(server.url()).await.unwrap();
    let one = key("one");
    let value = b"\r\n$-1\r\n:1\r\n\0".to_vec();
    store.set(&one, value.clone().into(), HOUR).await.unwrap();
    let conflict = store.replace(&one, b"1", "x".into(), HOUR).await.unwrap();
    assert_eq!(conflict, Swapped::Conflict(value.clone().into()));
    assert_eq!(store.replace(&one, &value, "1".into(), HOUR).await.unwrap(), Swapped::Done);
    // The scripts answer 1 for done; the value is another one.
    let conflict = store.remove(&one, b"2").await.unwrap();
    assert_eq!(conflict, Swapped::Conflict("1".into()));
}
