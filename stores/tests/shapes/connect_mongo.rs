//! The conformance suite over the collection of connect-mongo, and its documents.

use cloakroom::{Bytes, ErrorKind, Key, Result, Store, Swapped, Ttl, shape::ConnectMongo};
use cloakroom_conformance::{Env, Running, Server, conformance_tests};
use mongodb::{
    Client, Collection,
    bson::{DateTime, Document, doc},
};

use crate::json::InJson;

const HOUR: Ttl = Ttl::from_secs(3600);

async fn open(env: Env) -> Result<InJson<ConnectMongo>> {
    ConnectMongo::builder().collection(env.namespace()).connect(env.url()).await.map(InJson)
}

conformance_tests! {
    server: Server::mongo,
    open: open,
    abilities: [atomic],
    refusals: [Get: 1, Destroy: 1, Create: 2, Replace: 2, Remove: 2, Touch: 1],
}

/// The collection of one test as Node sees it, and as the store does.
async fn both_sides(server: &Running, name: &str) -> (Collection<Document>, ConnectMongo) {
    let name = format!("{name}_{}", std::process::id());
    let client = Client::with_uri_str(server.url()).await.unwrap();
    let database = client.default_database().unwrap_or_else(|| client.database("test"));
    let store = ConnectMongo::builder().collection(&name).from_client(client).await.unwrap();
    (database.collection(&name), store)
}

fn key() -> Key {
    Key::new("ShAK2lyZHmzqINFmj32LqoG7PkHdtldy").unwrap()
}

fn row(n: u32) -> Bytes {
    format!(r#"{{"cookie":{{"originalMaxAge":3600000}},"n":{n}}}"#).into()
}

fn in_millis(millis: i64) -> DateTime {
    DateTime::from_millis(DateTime::now().timestamp_millis() + millis)
}

#[tokio::test]
async fn a_document_of_node_is_read_and_written_with_the_fields_it_has_besides() {
    let server = Server::mongo().shared().await.unwrap();
    let (documents, store) = both_sides(&server, "besides").await;
    let (hour, text) = (in_millis(3_600_000), r#"{ "b":1.0,"a":"\ud800", "a":2}"#);
    let document = doc! { "_id": key().as_str(), "session": text, "expires": hour, "lastModified": hour };
    documents.insert_one(document).await.unwrap();
    assert_eq!(store.get(&key()).await.unwrap().as_deref(), Some(text.as_bytes()));
    let atomic = store.as_atomic().unwrap();
    let swapped = atomic.replace(&key(), text.as_bytes(), row(2), Ttl::from_secs(60)).await.unwrap();
    assert_eq!(swapped, Swapped::Done);
    let stale = atomic.replace(&key(), text.as_bytes(), row(3), Ttl::from_secs(60)).await.unwrap();
    assert_eq!(stale, Swapped::Conflict(row(2)));
    let found = documents.find_one(doc! { "_id": key().as_str() }).await.unwrap().unwrap();
    assert_eq!(found.get_str("session").unwrap().as_bytes(), row(2));
    assert_eq!(found.get_datetime("lastModified").unwrap(), &hour);
    assert!(found.get_datetime("expires").unwrap() < &hour);
}

#[tokio::test]
async fn a_document_without_an_end_is_alive_and_one_that_has_ended_is_not() {
    let server = Server::mongo().shared().await.unwrap();
    let (documents, store) = both_sides(&server, "ends").await;
    let atomic = store.as_atomic().unwrap();
    let text = String::from_utf8(row(1).to_vec()).unwrap();
    documents.insert_one(doc! { "_id": key().as_str(), "session": &text }).await.unwrap();
    assert_eq!(store.get(&key()).await.unwrap(), Some(row(1)));
    assert!(!atomic.create(&key(), row(2), HOUR).await.unwrap());
    assert!(atomic.touch(&key(), HOUR).await.unwrap());
    let ended = doc! { "$set": { "expires": in_millis(-1) } };
    documents.update_one(doc! { "_id": key().as_str() }, ended).await.unwrap();
    assert_eq!(store.get(&key()).await.unwrap(), None);
    assert!(!atomic.touch(&key(), HOUR).await.unwrap() && !store.destroy(&key()).await.unwrap());
    assert!(atomic.create(&key(), row(2), HOUR).await.unwrap());
    assert_eq!(store.get(&key()).await.unwrap(), Some(row(2)));
}

#[tokio::test]
async fn a_session_that_is_no_text_is_corrupt_and_no_conditional_write_changes_it() {
    let server = Server::mongo().shared().await.unwrap();
    let (documents, store) = both_sides(&server, "document").await;
    let document = doc! { "_id": key().as_str(), "session": { "n": 1 }, "expires": in_millis(3_600_000) };
    documents.insert_one(document.clone()).await.unwrap();
    let atomic = store.as_atomic().unwrap();
    assert_eq!(store.get(&key()).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(!atomic.create(&key(), row(2), HOUR).await.unwrap());
    for expected in [&b"{\"n\":1}"[..], b"", b"\xff"] {
        let replaced = atomic.replace(&key(), expected, row(2), HOUR).await;
        assert_eq!(replaced.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(atomic.remove(&key(), expected).await.unwrap_err().kind(), ErrorKind::Corrupt);
    }
    let found = documents.find_one(doc! { "_id": key().as_str() }).await.unwrap();
    assert_eq!(found, Some(document));
}

#[tokio::test]
async fn what_is_no_json_is_refused_and_the_document_stays() {
    let server = Server::mongo().shared().await.unwrap();
    let (_, store) = both_sides(&server, "no_json").await;
    store.set(&key(), row(1), HOUR).await.unwrap();
    for value in [&b"\xff\xfe"[..], b"{", b""] {
        let error = store.set(&key(), Bytes::copy_from_slice(value), HOUR).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value, "{error}");
    }
    let atomic = store.as_atomic().unwrap();
    assert_eq!(atomic.remove(&key(), b"\xff").await.unwrap(), Swapped::Conflict(row(1)));
    assert_eq!(store.get(&key()).await.unwrap(), Some(row(1)));
}

#[tokio::test]
async fn no_index_is_made_in_the_collection_of_node() {
    let server = Server::mongo().shared().await.unwrap();
    let (documents, store) = both_sides(&server, "indexes").await;
    store.set(&key(), row(1), HOUR).await.unwrap();
    assert_eq!(documents.list_index_names().await.unwrap(), ["_id_"]);
}
