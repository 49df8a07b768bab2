//! What only the store in MongoDB does: its constructors, its indexes, its documents.
#![cfg(feature = "mongo")]
#![allow(clippy::unwrap_used, clippy::panic)] // A helper that fails is a test that fails.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use cloakroom::{
    Acknowledge, AdminStore, AtomicStore, Bytes, ErrorKind, IndexedStore, Key, MongoStore, Status, Store,
    Swapped, Ttl,
};
use cloakroom_conformance::{Env, Running, Server};
use futures_util::TryStreamExt;
use mongodb::{
    Client, Collection, Database,
    bson::{Binary, Document, doc, serialize_to_vec, spec::BinarySubtype},
    event::{EventHandler, command::CommandEvent},
    options::{Acknowledgment, ClientOptions, WriteConcern},
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

fn now_millis() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    i64::try_from(now.as_millis()).expect("it is not that late")
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
    let bare = format!("{table}_bare");
    let store = cloakroom::connect(format!("{url}{separator}table={bare}&migrate=false")).await;
    store.expect("the server answers").set(&key("k"), "v".into(), TTL).await.expect("it answers");
    let database = place.collection.client().database("cloakroom");
    let indexes = database.collection::<Document>(&bare).list_index_names().await.expect("it answers");
    assert_eq!(indexes, ["_id_"]);
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
async fn whoever_wants_to_wait_for_ever_may() {
    let server = Server::mongo().shared().await.expect("there is a server");
    let builder = MongoStore::builder().timeout(Duration::MAX).collection(Env::new("").namespace());
    let store = builder.connect(server.url()).await.expect("it answers");
    let key = Key::new("one").expect("it is well-formed");
    assert!(store.create(&key, "value".into(), TTL).await.expect("it answers"));
    assert!(store.destroy(&key).await.expect("it answers"));
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
async fn a_session_of_the_greatest_size_can_be_replaced_and_removed() {
    const MAX: usize = 7 << 20;
    let store = Place::new().await.store().await;
    let huge = |byte| Bytes::from(vec![byte; MAX]);
    assert!(store.create(&key("k"), huge(1), TTL).await.expect("it answers"));
    assert!(!store.create(&key("k"), huge(9), TTL).await.expect("it answers"));
    let swapped = store.replace(&key("k"), &huge(9), huge(2), TTL).await.expect("it answers");
    assert!(swapped == Swapped::Conflict(huge(1)), "it is what was created");
    let swapped = store.replace(&key("k"), &huge(1), huge(2), TTL).await.expect("it answers");
    assert!(swapped == Swapped::Done, "it was as expected");
    assert!(store.get(&key("k")).await.expect("it answers") == Some(huge(2)));
    assert!(store.remove(&key("k"), &huge(2)).await.expect("it answers") == Swapped::Done);
    assert!(store.remove(&key("k"), &huge(2)).await.expect("it answers") == Swapped::Gone);
}

#[tokio::test]
async fn a_live_document_without_a_value_is_corrupt_and_not_absent() {
    let place = Place::new().await;
    let store = place.store().await;
    let end = mongodb::bson::DateTime::from_millis(4_102_444_800_000);
    place.collection.insert_one(doc! { "_id": "text", "v": "canary", "e": end }).await.expect("it answers");
    place.collection.insert_one(doc! { "_id": "none", "e": end }).await.expect("it answers");
    for name in ["text", "none"] {
        let error = store.get(&key(name)).await.expect_err("nobody can read it");
        assert_eq!((error.kind(), error.failed_operation()), (ErrorKind::Corrupt, Some("get")));
        assert!(!format!("{error:?} {error}").contains("canary"));
        let error = store.replace(&key(name), b"v", "w".into(), TTL).await.expect_err("nobody can read it");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(!store.create(&key(name), "w".into(), TTL).await.expect("it answers"));
    }
    let left = place.collection.find_one(doc! { "_id": "text" }).await.expect("it answers");
    assert_eq!(left.expect("it is there").get_str("v").expect("it is as it was"), "canary");
}

/// What is under a thousand keys goes in one command, and what is above in several.
#[tokio::test]
async fn more_keys_than_a_command_takes_are_counted_swept_and_cleared() {
    let place = Place::new().await;
    let store = place.store().await;
    let (live, dead) = (2300_u64, 2100_u64);
    let date = mongodb::bson::DateTime::from_millis;
    let value = Binary { subtype: BinarySubtype::Generic, bytes: vec![1] };
    let document = |name: String, end| {
        doc! { "_id": name, "v": value.clone(), "e": date(end), "p": date(end) }
    };
    let over = now_millis() - 1;
    let dead_ones = (0..dead).map(|number| document(format!("dead-{number}"), over));
    let live_ones = (0..live).map(|number| document(format!("live-{number}"), 4_102_444_800_000));
    // No index of ours is there to sweep meanwhile.
    place.collection.drop_indexes().await.expect("it answers");
    place.collection.insert_many(dead_ones.chain(live_ones)).await.expect("it answers");
    assert_eq!(store.len().await.expect("it answers"), live);
    assert_eq!(store.sweep(0).await.expect("it answers"), 0);
    assert_eq!(store.sweep(1500).await.expect("it answers"), 1500);
    assert_eq!(store.sweep(u32::MAX).await.expect("it answers"), dead - 1500);
    assert_eq!(store.len().await.expect("it answers"), live);
    let again = (0..dead).map(|number| document(format!("dead-{number}"), over));
    place.collection.insert_many(again).await.expect("it answers");
    assert_eq!(store.clear().await.expect("it answers"), live);
    assert_eq!(place.collection.count_documents(doc! {}).await.expect("it answers"), 0);
}

/// The write concern of each command of this name that a store sends.
async fn concerns(
    acknowledge: Acknowledge,
    configured: Option<WriteConcern>,
) -> Vec<(&'static str, Option<Document>)> {
    let place = Place::new().await;
    let sent: Arc<Mutex<Vec<Document>>> = Arc::default();
    let mut options = ClientOptions::parse(place.server.url()).await.expect("the address can be used");
    options.write_concern = configured;
    let kept = Arc::clone(&sent);
    options.command_event_handler = Some(EventHandler::callback(move |event| {
        if let CommandEvent::Started(event) = event {
            kept.lock().expect("nobody panics").push(event.command);
        }
    }));
    let client = Client::with_options(options).expect("the options can be used");
    let builder = MongoStore::builder().database("cloakroom_test").collection(place.collection.name());
    let store = builder.acknowledge(acknowledge).from_client(client).await.expect("the server answers");
    let key = key("k");
    let mut concerns = Vec::new();
    let mut note = |operation| {
        let mut sent = sent.lock().expect("nobody panics");
        // Of those that do two things the last one writes.
        let command = sent.drain(..).next_back().expect("something was sent");
        concerns.push((operation, command.get_document("writeConcern").ok().cloned()));
    };
    note("create indexes");
    store.create(&key, "v".into(), TTL).await.expect("it answers");
    note("create");
    store.remove(&key, b"v").await.expect("it answers");
    note("remove");
    store.destroy(&key).await.expect("it answers");
    note("destroy");
    store.set(&key, "v".into(), TTL).await.expect("it answers");
    note("set");
    store.bind(&key, "ann", TTL).await.expect("it answers");
    note("bind");
    store.destroy_user("ann", None).await.expect("it answers");
    note("destroy_user");
    concerns
}

#[tokio::test]
async fn what_no_failover_may_undo_waits_for_a_majority() {
    for (operation, concern) in concerns(Acknowledge::Majority, None).await {
        match operation {
            "create" | "remove" | "destroy" | "destroy_user" => {
                let concern = concern.expect("it says what it waits for");
                assert_eq!(concern.get_str("w").ok(), Some("majority"), "{operation}");
                // Before the store's own deadline of 4 seconds.
                let limit = concern.get("wtimeout").and_then(|it| it.as_i64().or(it.as_i32().map(i64::from)));
                assert!(limit.is_some_and(|limit| (3000..4000).contains(&limit)), "{operation}: {concern}");
            }
            _ => assert_eq!(concern, None, "{operation}"),
        }
    }
}

#[tokio::test]
async fn what_is_configured_otherwise_waits_for_that() {
    for (operation, concern) in concerns(Acknowledge::Configured, None).await {
        assert_eq!(concern, None, "{operation}");
    }
    let one = WriteConcern::nodes(1);
    for (operation, concern) in concerns(Acknowledge::Configured, Some(one)).await {
        let concern = concern.expect("the client says what to wait for");
        assert_eq!(concern.get("w").map(ToString::to_string).as_deref(), Some("1"), "{operation}");
    }
    // What has to wait for the majority does so whatever the client says, and keeps the client's journal.
    let journal = WriteConcern::builder().w(Acknowledgment::Nodes(1)).journal(true).build();
    for (operation, concern) in concerns(Acknowledge::Majority, Some(journal)).await {
        let concern = concern.expect("there is one");
        let majority = matches!(operation, "create" | "remove" | "destroy" | "destroy_user");
        assert_eq!(concern.get_str("w").ok() == Some("majority"), majority, "{operation}");
        assert_eq!(concern.get_bool("j").ok(), Some(true), "{operation}");
    }
}

#[tokio::test]
async fn a_server_that_is_killed_is_missed_before_anybody_asks_it() {
    let server = Server::mongo().start().await.expect("there is a server");
    let separator = if server.url().contains('?') { '&' } else { '?' };
    // The driver looks after it as often as it can be told to.
    let url = format!("{}{separator}heartbeatFrequencyMS=500", server.url());
    let store = MongoStore::connect(&url).await.expect("the server answers");
    let mut status = store.status();
    assert_eq!(status.current(), Status::Connected);
    server.kill().await.expect("it can be killed");
    while status.current() == Status::Connected {
        tokio::time::timeout(Duration::from_secs(5), status.changed()).await.expect("it is noticed");
    }
    assert!(matches!(status.current(), Status::Disconnected { .. }));
}

/// Waits until the member of a set answers that it takes writes, and returns that answer. One that belongs to no set yet is
/// made the only member of one.
async fn primary(admin: &Database) -> Document {
    let hello = || async { admin.run_command(doc! { "hello": 1 }).await.expect("it answers") };
    if !hello().await.contains_key("setName") {
        // It must find itself there, so this is the port inside of a container. As a program it listens on the one of its
        // address, and says so.
        let member = doc! { "_id": 0, "host": own_address(admin).await };
        let set = doc! { "_id": "rs0", "members": [member] };
        admin.run_command(doc! { "replSetInitiate": set }).await.expect("it is a set of one");
    }
    let start = Instant::now();
    loop {
        let hello = hello().await;
        if hello.get_bool("isWritablePrimary").unwrap_or_default() {
            return hello;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "it has not become the primary: {hello}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Where a server finds itself.
async fn own_address(admin: &Database) -> String {
    let options = admin.run_command(doc! { "getCmdLineOpts": 1 }).await.expect("it answers");
    let net = options.get_document("parsed").and_then(|parsed| parsed.get_document("net"));
    let port = net.ok().and_then(|net| net.get_i32("port").ok()).unwrap_or(27017);
    format!("127.0.0.1:{port}")
}

#[tokio::test]
async fn a_replica_set_is_served() {
    let server = Server::mongo().arg("--replSet").arg("rs0").start().await.expect("there is a server");
    let separator = if server.url().contains('?') { '&' } else { '?' };
    // The name that the set has for its member may mean nothing outside of the container.
    let url = format!("{}{separator}directConnection=true", server.url());
    let client = Client::with_uri_str(&url).await.expect("the address can be used");
    let hello = primary(&client.database("admin")).await;
    // What stands in for MongoDB has a name of its own.
    assert!(hello.get_str("setName").is_ok(), "{hello}");
    let store = MongoStore::connect(&url).await.expect("the server answers");
    assert!(store.create(&key("k"), "v".into(), TTL).await.expect("it answers"));
    let swapped = store.replace(&key("k"), b"v", "w".into(), TTL).await.expect("it answers");
    assert_eq!(swapped, Swapped::Done);
    assert_eq!(store.remove(&key("k"), b"w").await.expect("it answers"), Swapped::Done);
    assert!(!store.destroy(&key("k")).await.expect("it answers"));
}

#[tokio::test]
async fn an_address_in_the_dns_that_is_not_there_is_an_error_in_time() {
    let builder = MongoStore::builder().timeout(Duration::from_millis(500));
    let began = Instant::now();
    let error = builder.connect("mongodb+srv://user:canary@no-such-canary.invalid/shop").await;
    let error = error.expect_err("there is no such name");
    assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Config), "{error}");
    assert!(!format!("{error:?} {error}").contains("canary"), "{error}");
    let error = cloakroom::connect("mongodb+srv://user:canary@no-such-canary.invalid/?timeout=500ms").await;
    let error = error.expect_err("there is no such name");
    assert!(!format!("{error:?} {error}").contains("canary"), "{error}");
}

#[tokio::test]
async fn a_misspelt_option_of_the_driver_is_called_an_option_and_not_shown() {
    for url in [
        "mongodb://user:p@host/?retryWritess=canary",
        "mongodb://user:p@host/shop?connectTimeoutMS=canary",
        "mongodb://user:p@host/shop?canary",
    ] {
        let error = MongoStore::connect(url).await.expect_err("it cannot be used");
        assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("url")));
        assert!(
            error.to_string().contains("option") && !format!("{error:?} {error}").contains("canary"),
            "{error}"
        );
    }
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

#[tokio::test]
async fn all_keys_of_a_user_come_with_one_command() {
    let place = Place::new().await;
    let store = place.store().await;
    for number in 0..150 {
        let key = key(&format!("key-{number}"));
        store.set(&key, "value".into(), TTL).await.expect("it answers");
        store.bind(&key, "ada", TTL).await.expect("it answers");
    }
    let sent = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&sent);
    let mut options = ClientOptions::parse(place.server.url()).await.expect("the address can be used");
    options.command_event_handler = Some(EventHandler::callback(move |event| {
        if let CommandEvent::Started(event) = event {
            kept.lock().expect("nobody panics").push(event.command_name);
        }
    }));
    let client = Client::with_options(options).expect("the options can be used");
    let builder = MongoStore::builder().database("cloakroom_test").collection(place.collection.name());
    let store = builder.from_client(client).await.expect("the server answers");
    sent.lock().expect("nobody panics").clear();
    assert_eq!(store.keys_of("ada").await.expect("it answers").len(), 150);
    assert_eq!(*sent.lock().expect("nobody panics"), ["find"]);
}
