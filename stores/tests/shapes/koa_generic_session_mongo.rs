//! The conformance suite over the collection of koa-generic-session-mongo, and its documents.

use cloakroom::{Bytes, ErrorKind, Key, Result, Store, Swapped, Ttl, shape::KoaGenericSessionMongo};
use cloakroom_conformance::{Env, Running, Server, conformance_tests};
use mongodb::{
    Client, Collection,
    bson::{Binary, DateTime, Document, doc, spec::BinarySubtype},
};

use crate::json::InJson;

const HOUR: Ttl = Ttl::from_secs(3600);

async fn open(env: Env) -> Result<InJson<KoaGenericSessionMongo>> {
    KoaGenericSessionMongo::builder().collection(env.namespace()).connect(env.url()).await.map(InJson)
}

conformance_tests! {
    server: Server::mongo,
    open: open,
    abilities: [atomic],
    // Each reads the document and writes if it is still that.
    round_trips: [Replace: 2, Remove: 2],
    refusals: [Get: 1, Destroy: 1, Create: 2, Replace: 1, Remove: 1, Touch: 1],
}

/// The collection of one test as Node sees it, and as the store does.
async fn both_sides(server: &Running, name: &str) -> (Collection<Document>, KoaGenericSessionMongo) {
    let name = format!("koa_{name}_{}", std::process::id());
    let client = Client::with_uri_str(server.url()).await.unwrap();
    let database = client.default_database().unwrap_or_else(|| client.database("test"));
    let store = KoaGenericSessionMongo::builder().collection(&name).from_client(client).await.unwrap();
    (database.collection(&name), store)
}

fn key() -> Key {
    Key::new("koa:sess:ShAK2lyZHmzqINFmj32LqoG7PkHdtldy").unwrap()
}

fn bytes(json: &str) -> Bytes {
    Bytes::copy_from_slice(json.as_bytes())
}

fn in_millis(millis: i64) -> DateTime {
    DateTime::from_millis(DateTime::now().timestamp_millis() + millis)
}

async fn only(documents: &Collection<Document>) -> Document {
    assert_eq!(documents.count_documents(doc! {}).await.unwrap(), 1);
    documents.find_one(doc! { "sid": key().as_str() }).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_document_of_node_is_read_and_written_field_by_field() {
    let server = Server::mongo().shared().await.unwrap();
    let (documents, store) = both_sides(&server, "fields").await;
    let since = DateTime::from_millis(1_795_398_198_514);
    let cookie =
        doc! { "httpOnly": true, "path": "/", "overwrite": true, "signed": true, "maxAge": 86_400_000 };
    let ttl = in_millis(86_400_000);
    documents
        .insert_one(doc! { "cookie": &cookie, "n": 41, "since": since, "sid": key().as_str(), "ttl": ttl })
        .await
        .unwrap();
    let id = only(&documents).await.get_object_id("_id").unwrap();
    let seen = store.get(&key()).await.unwrap().unwrap();
    let as_json = |n: u32| {
        bytes(&format!(
            r#"{{"cookie":{{"httpOnly":true,"path":"/","overwrite":true,"signed":true,"maxAge":86400000}},"n":{n},"since":"2026-11-23T01:43:18.514Z"}}"#
        ))
    };
    assert_eq!(seen, as_json(41));
    let atomic = store.as_atomic().unwrap();
    let swapped = atomic.replace(&key(), &seen, as_json(42), HOUR).await.unwrap();
    assert_eq!(swapped, Swapped::Done);
    let found = only(&documents).await;
    assert_eq!(found.get_object_id("_id").unwrap(), id, "it is the same document");
    assert_eq!(found.get_i32("n").unwrap(), 42);
    assert_eq!(found.get_datetime("since").unwrap(), &since, "what has not changed is a date still");
    assert_eq!(found.get_document("cookie").unwrap(), &cookie);
    assert!(found.get_datetime("ttl").unwrap() < &ttl);
    let stale = atomic.replace(&key(), &seen, as_json(43), HOUR).await.unwrap();
    assert_eq!(stale, Swapped::Conflict(as_json(42)));
    // As another program may write the same JSON.
    let spaced = String::from_utf8(as_json(42).to_vec()).unwrap().replace(":42,", " : 42.0, ");
    assert_eq!(atomic.remove(&key(), spaced.as_bytes()).await.unwrap(), Swapped::Done);
    assert_eq!(documents.count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test]
async fn a_field_that_node_adds_between_reading_and_writing_is_not_lost() {
    let server = Server::mongo().shared().await.unwrap();
    let (documents, store) = both_sides(&server, "between").await;
    store.set(&key(), bytes(r#"{"n":1}"#), HOUR).await.unwrap();
    let seen = store.get(&key()).await.unwrap().unwrap();
    documents.update_one(doc! { "sid": key().as_str() }, doc! { "$set": { "m": 1 } }).await.unwrap();
    let atomic = store.as_atomic().unwrap();
    let met = Swapped::Conflict(bytes(r#"{"n":1,"m":1}"#));
    let swapped = atomic.replace(&key(), &seen, bytes(r#"{"n":2}"#), HOUR).await.unwrap();
    // Node's driver puts `sid` and `ttl` last; what is set later stands behind them.
    assert_eq!(swapped, met);
    assert_eq!(atomic.remove(&key(), &seen).await.unwrap(), met);
    assert_eq!(only(&documents).await.get_i32("m").unwrap(), 1);
}

#[tokio::test]
async fn a_document_that_has_ended_is_gone_though_no_index_has_deleted_it() {
    let server = Server::mongo().shared().await.unwrap();
    let (documents, store) = both_sides(&server, "ends").await;
    let atomic = store.as_atomic().unwrap();
    // Its own id is nobody's business.
    let id = Binary { subtype: BinarySubtype::Generic, bytes: vec![1, 2, 3] };
    documents.insert_one(doc! { "_id": id, "n": 1, "sid": key().as_str() }).await.unwrap();
    assert_eq!(store.get(&key()).await.unwrap(), Some(bytes(r#"{"n":1}"#)), "without an end it is alive");
    assert!(!atomic.create(&key(), bytes(r#"{"n":2}"#), HOUR).await.unwrap());
    assert!(atomic.touch(&key(), HOUR).await.unwrap());
    let ended = doc! { "$set": { "ttl": in_millis(-1) } };
    documents.update_one(doc! { "sid": key().as_str() }, ended).await.unwrap();
    assert_eq!(store.get(&key()).await.unwrap(), None);
    assert!(!atomic.touch(&key(), HOUR).await.unwrap() && !store.destroy(&key()).await.unwrap());
    assert!(atomic.create(&key(), bytes(r#"{"n":2}"#), HOUR).await.unwrap());
    assert_eq!(only(&documents).await.get_i32("n").unwrap(), 2);
}

#[tokio::test]
async fn a_document_with_a_type_that_json_has_not_is_corrupt_and_no_conditional_write_changes_it() {
    let server = Server::mongo().shared().await.unwrap();
    let (documents, store) = both_sides(&server, "binary").await;
    let binary = Binary { subtype: BinarySubtype::Generic, bytes: vec![1, 2, 3] };
    let document = doc! { "_id": 1, "key": binary, "sid": key().as_str(), "ttl": in_millis(3_600_000) };
    documents.insert_one(&document).await.unwrap();
    let atomic = store.as_atomic().unwrap();
    assert_eq!(store.get(&key()).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(!atomic.create(&key(), bytes("{}"), HOUR).await.unwrap());
    for expected in [&b"{}"[..], b"", b"\xff"] {
        let replaced = atomic.replace(&key(), expected, bytes("{}"), HOUR).await;
        assert_eq!(replaced.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(atomic.remove(&key(), expected).await.unwrap_err().kind(), ErrorKind::Corrupt);
    }
    assert_eq!(only(&documents).await, document);
}

#[tokio::test]
async fn what_a_document_has_no_room_for_is_refused_and_the_document_stays() {
    let server = Server::mongo().shared().await.unwrap();
    let (_, store) = both_sides(&server, "refused").await;
    let one = bytes(r#"{"n":1}"#);
    store.set(&key(), one.clone(), HOUR).await.unwrap();
    let atomic = store.as_atomic().unwrap();
    let many = format!(r#"{{"a":[{}1]}}"#, "1,".repeat(900_000));
    for (json, kind) in [
        ("[1]", ErrorKind::Value),
        ("{", ErrorKind::Value),
        (r#"{"sid":"mine"}"#, ErrorKind::Value),
        (r#"{"ttl":1}"#, ErrorKind::Value),
        (r#"{"_id":1}"#, ErrorKind::Value),
        (r#"{"$where":"1"}"#, ErrorKind::Value),
        (r#"{"a":{"b.c":1}}"#, ErrorKind::Value),
        (r#"{"a":"\ud800"}"#, ErrorKind::Value),
        (&many, ErrorKind::TooLarge),
    ] {
        let start = &json[..json.len().min(20)];
        assert_eq!(store.set(&key(), bytes(json), HOUR).await.unwrap_err().kind(), kind, "{start}");
        assert_eq!(
            atomic.replace(&key(), &one, bytes(json), HOUR).await.unwrap_err().kind(),
            kind,
            "{start}"
        );
    }
    assert_eq!(store.get(&key()).await.unwrap(), Some(one));
}

#[tokio::test]
async fn the_one_index_it_makes_is_that_of_node_which_keeps_ids_apart() {
    let server = Server::mongo().shared().await.unwrap();
    let (documents, store) = both_sides(&server, "index").await;
    store.set(&key(), bytes("{}"), HOUR).await.unwrap();
    let mut names = documents.list_index_names().await.unwrap();
    names.sort_unstable();
    assert_eq!(names, ["_id_", "sid_1"]);
    let twice = documents.insert_one(doc! { "sid": key().as_str() }).await;
    assert!(twice.is_err(), "a second document for one id");
}
