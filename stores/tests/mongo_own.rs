//! What only the store in MongoDB does: its constructors, its indexes, its documents.
#![cfg(feature = "mongo")]
#![allow(clippy::unwrap_used, clippy::panic)] // A helper that fails is a test that fails.

use std::time::Duration;

use cloakroom::{
    AdminStore, AtomicStore, Bytes, ErrorKind, IndexedStore, Key, MongoStore, Status, Store, Swapped, Ttl,
};
use cloakroom_conformance::{Env, Running, Server};
use futures_util::TryStreamExt;
use mongodb::{
    Client, Collection,
    bson::{Document, doc, serialize_to_vec},
};

const TTL: Ttl = Ttl::from_secs(3600);

/// The server that all tests share, and a collection of this test's own.
struct Place {
    server: Running,
    collection: Collection<Document>,
}

impl Place {
    async fn new() -> Self {
        let server = Server::mongo().shared().await.expect("there is a server");
        let client = Client::with_uri_str(server.url()).await.expect("the address can be used");
        let env = Env::new(server.url());
        let collection = client.database("cloakroom_test").collection(env.namespace());
        Self { server, collection }
    }

    async fn store(&self) -> MongoStore {
        MongoStore::from_collection(self.collection.clone()).await.expect("the server answers")
    }
}

fn key(text: &str) -> Key {
    Key::new(text).expect("the key is valid")
}

#[tokio::test]
async fn the_indexes_are_there_however_many_create_them_at_once() {
    let place = Place::new().await;
    let opened = futures_util::future::join_all((0..8).map(|_| place.store())).await;
    assert_eq!(opened.len(), 8);
    let indexes: Vec<_> =
        place.collection.list_indexes().await.expect("it answers").try_collect().await.expect("it answers");
    let purge = indexes.iter().find(|index| index.keys == doc! { "p": 1 }).expect("there is one");
    let options = purge.options.clone().unwrap_or_default();
    assert_eq!(options.expire_after, Some(Duration::ZERO));
    assert!(indexes.iter().any(|index| index.keys == doc! { "u": 1 }));
}

#[tokio::test]
async fn without_permission_to_create_indexes_none_is_created() {
    let place = Place::new().await;
    let store = MongoStore::builder().leave_indexes().from_collection(place.collection.clone()).await;
    let store = store.expect("the server answers");
    store.set(&key("k"), "v".into(), TTL).await.expect("it answers");
    assert_eq!(place.collection.list_index_names().await.expect("it answers"), ["_id_"]);
}

#[tokio::test]
async fn a_client_of_the_application_is_used_with_its_database() {
    let place = Place::new().await;
    let builder = MongoStore::builder().database("cloakroom_test").collection(place.collection.name());
    let store = builder.from_client(place.collection.client().clone()).await.expect("the server answers");
    store.set(&key("k"), "v".into(), TTL).await.expect("it answers");
    assert_eq!(place.store().await.get(&key("k")).await.expect("it answers").as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn an_address_opens_it_with_our_options() {
    let place = Place::new().await;
    let url = place.server.url();
    let separator = if url.contains('?') { '&' } else { '?' };
    let table = place.collection.name();
    let store = cloakroom::connect(format!("{url}{separator}table={table}&timeout=3s&prefix=shop")).await;
    let store = store.expect("the server answers");
    store.set(&key("k"), "v".into(), TTL).await.expect("it answers");
    let shown = format!("{store:?}");
    assert!(shown.contains("Prefixed") && shown.contains(table) && shown.contains("3s"), "{shown}");
}

#[tokio::test]
async fn a_mistake_is_named_and_no_address_is_quoted() {
    let url = Server::mongo().shared().await.expect("there is a server").url().to_owned();
    for (error, field) in [
        (MongoStore::connect("mongodb://user:canary@").await.err(), "url"),
        (MongoStore::connect("mongodb://user:can%ary@host").await.err(), "url"),
        (MongoStore::connect("canary").await.err(), "url"),
        (MongoStore::builder().collection("").connect(&url).await.err(), "collection"),
        (MongoStore::builder().collection("a$b").connect(&url).await.err(), "collection"),
        (MongoStore::builder().database("a.b").connect(&url).await.err(), "database"),
        (MongoStore::builder().timeout(Duration::ZERO).connect(&url).await.err(), "timeout"),
    ] {
        let error = error.expect("it cannot be used");
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(field)), "{error}");
        assert!(!format!("{error:?} {error}").contains("canary"));
    }
}

#[tokio::test]
async fn where_nobody_listens_connecting_is_unavailable_in_time() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|it| it.local_addr())
        .expect("one is free")
        .port();
    let builder = MongoStore::builder().timeout(Duration::from_millis(200));
    let error = builder
        .connect(&format!("mongodb://user:canary@127.0.0.1:{port}"))
        .await
        .expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(!format!("{error:?} {error}").contains("canary"));
}

#[tokio::test]
async fn operators_in_keys_users_and_values_are_data() {
    let store = Place::new().await.store().await;
    let operators = [
        serialize_to_vec(&doc! { "$set": { "v": 1 }, "$where": "sleep(1000)" }).expect("it is a document"),
        serialize_to_vec(&doc! { "$literal": "$v", "$$NOW": { "$expr": true } }).expect("it is a document"),
        b"$v".to_vec(),
        b"$$ROOT".to_vec(),
        b"{\"$gt\": \"\"}".to_vec(),
    ];
    let keys = ["$where", "a.b", "$$NOW", ".", "$", "{\"$gt\":\"\"}", "v", "_id", "__proto__"];
    for name in keys {
        let key = key(name);
        let mut before = Bytes::from_static(b"$v");
        assert!(store.create(&key, before.clone(), TTL).await.expect("it answers"));
        for value in &operators {
            let value = Bytes::from(value.clone());
            assert_eq!(
                store.replace(&key, &before, value.clone(), TTL).await.expect("it answers"),
                Swapped::Done
            );
            assert_eq!(store.get(&key).await.expect("it answers"), Some(value.clone()));
            before = value;
        }
        store.bind(&key, name, TTL).await.expect("it answers");
    }
    for name in keys {
        assert_eq!(store.keys_of(name).await.expect("it answers"), [key(name)]);
        assert_eq!(store.destroy_user(name, None).await.expect("it answers"), 1);
    }
    assert_eq!(store.len().await.expect("it answers"), 0);
}

#[tokio::test]
async fn a_session_of_a_mebibyte_is_kept_and_a_larger_one_than_the_limit_is_refused() {
    let store = Place::new().await.store().await;
    let large = |byte| Bytes::from(vec![byte; 1 << 20]);
    assert!(store.create(&key("k"), large(1), TTL).await.expect("it answers"));
    let swapped = store.replace(&key("k"), &large(1), large(2), TTL).await.expect("it answers");
    assert_eq!(swapped, Swapped::Done);
    let huge = Bytes::from(vec![3; 8 << 20]);
    let error = store.replace(&key("k"), &large(2), huge.clone(), TTL).await.expect_err("it is too large");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(
        store.set(&key("k"), huge, TTL).await.expect_err("it is too large").kind(),
        ErrorKind::TooLarge
    );
    assert_eq!(store.get(&key("k")).await.expect("it answers"), Some(large(2)));
}

#[tokio::test]
async fn what_is_removed_leaves_no_data_behind() {
    let place = Place::new().await;
    let store = place.store().await;
    for (name, remove) in [("destroyed", false), ("removed", true)] {
        store.set(&key(name), "canary".into(), TTL).await.expect("it answers");
        store.bind(&key(name), "ann", TTL).await.expect("it answers");
        if remove {
            store.remove(&key(name), b"canary").await.expect("it answers");
        } else {
            store.destroy(&key(name)).await.expect("it answers");
        }
        let left = place.collection.find_one(doc! { "_id": name }).await.expect("it answers");
        let left = left.expect("the binding is there");
        assert!(left.get_binary_generic("v").expect("it is binary").is_empty());
        assert!(
            left.get_datetime("p").expect("it is a date") < left.get_datetime("b").expect("it is a date")
        );
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_noticed_though_its_callers_give_up_before_the_store_does() {
    let server = Server::mongo().start().await.expect("there is a server");
    let store = MongoStore::connect(server.url()).await.expect("the server answers");
    store.set(&key("k"), "kept".into(), TTL).await.expect("it answers");
    server.pause().await.expect("it can be paused");
    let name = key("k");
    let given_up = tokio::time::timeout(Duration::from_millis(150), store.get(&name)).await;
    given_up.expect_err("the server hangs");
    let mut status = store.status();
    while status.current() == Status::Connected {
        tokio::time::timeout(Duration::from_secs(1), status.changed()).await.expect("it is noticed");
    }
    server.resume().await.expect("it can go on");
    while status.current() != Status::Connected {
        tokio::time::timeout(Duration::from_secs(10), status.changed()).await.expect("it is noticed");
    }
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_is_noticed_and_has_what_was_stored() {
    let server = Server::mongo().start().await.expect("there is a server");
    let store = MongoStore::connect(server.url()).await.expect("the server answers");
    store.set(&key("k"), "kept".into(), TTL).await.expect("it answers");
    server.kill().await.expect("it can be killed");
    let error = store.get(&key("k")).await.expect_err("it is gone");
    assert!(error.is_retryable(), "{error}");
    assert!(matches!(store.status().current(), Status::Disconnected { .. }));
    server.start().await.expect("it comes back");
    let mut status = store.status();
    while status.current() != Status::Connected {
        tokio::time::timeout(Duration::from_secs(5), status.changed()).await.expect("it is noticed");
    }
    assert_eq!(store.get(&key("k")).await.expect("it answers").as_deref(), Some(&b"kept"[..]));
}
