//! The filters, the update pipelines and the indexes.
//!
//! What is given or stored becomes an operand only inside `$literal`, so that no operator in it is ever carried out. In
//! filters keys and users are strings, which are compared as they are.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloakroom_core::{Key, Ttl};
use mongodb::{
    IndexModel,
    bson::{Binary, Bson, DateTime, Document, doc, spec::BinarySubtype},
    options::IndexOptions,
};

/// How long a binding waits for its value. The contract says 60 seconds; the server's clock may be a minute ahead.
const WAIT: Duration = Duration::from_secs(120);

/// What `e` is once a value was removed: in the past on every clock.
const REMOVED: DateTime = DateTime::from_millis(0);

pub(super) fn id(key: &Key) -> Document {
    doc! { "_id": key.as_str() }
}

pub(super) fn live(key: &Key) -> Document {
    doc! { "_id": key.as_str(), "e": { "$gt": now() } }
}

pub(super) fn live_any() -> Document {
    doc! { "e": { "$gt": now() } }
}

/// Narrows a filter to the keys that come after one.
pub(super) fn after(mut filter: Document, last: Bson) -> Document {
    filter.insert("_id", doc! { "$gt": last });
    filter
}

/// Finds the live values bound to `user`, but that of `except`.
pub(super) fn live_of(user: &str, except: Option<&Key>) -> Document {
    let now = now();
    let mut filter = doc! { "u": user, "b": { "$gt": now }, "e": { "$gt": now } };
    if let Some(except) = except {
        filter.insert("_id", doc! { "$ne": except.as_str() });
    }
    filter
}

/// Finds those of `keys` that are live and bound to `user` still.
pub(super) fn live_among(user: &str, keys: Vec<Bson>) -> Document {
    among(live_of(user, None), keys)
}

/// Finds the values that have expired and whose bindings wait for nothing any more. Those that were removed are left to
/// the TTL index: they do not count as swept.
pub(super) fn dead_any() -> Document {
    let now = now();
    doc! { "e": { "$gt": REMOVED, "$lte": now }, "p": { "$lte": now } }
}

/// Narrows a filter to some keys.
pub(super) fn among(mut filter: Document, keys: Vec<Bson>) -> Document {
    filter.insert("_id", doc! { "$in": keys });
    filter
}

pub(super) fn value_only() -> Document {
    doc! { "_id": 0, "v": 1 }
}

/// Shows of a changed document whether the condition held.
pub(super) fn done() -> Document {
    doc! { "_id": 0, "s": 1 }
}

/// Shows of a changed document whether the condition held, and its value if not.
pub(super) fn outcome() -> Document {
    doc! { "_id": 0, "s": 1, "v": { "$cond": ["$s", { "$literal": null }, "$v"] } }
}

/// Writes a value with its end.
pub(super) fn write(value: &[u8], ttl: Ttl) -> Vec<Document> {
    let end = literal(end_of(ttl.duration()));
    vec![doc! { "$set": { "v": literal(binary(value)), "e": end.clone(), "p": { "$max": [end, "$w"] } } }]
}

/// Writes a value with its end unless there is a live one, and changes nothing otherwise.
pub(super) fn write_new(value: &[u8], ttl: Ttl) -> Vec<Document> {
    let end = literal(end_of(ttl.duration()));
    let purge = doc! { "$max": [end.clone(), "$w"] };
    // What is not there comes before every date.
    let free = doc! { "$lte": ["$e", literal(now())] };
    change_where(free, literal(binary(value)), end, purge)
}

/// Writes a value with its end over one that equals `expected`, and changes nothing otherwise.
pub(super) fn write_if(expected: &[u8], value: &[u8], ttl: Ttl) -> Vec<Document> {
    let end = literal(end_of(ttl.duration()));
    let purge = doc! { "$max": [end.clone(), "$w"] };
    change_where(equals(expected), literal(binary(value)), end, purge)
}

/// Removes the value and keeps the binding.
pub(super) fn end() -> Vec<Document> {
    let purge = doc! { "$max": [literal(now()), "$w"] };
    vec![doc! { "$set": { "v": literal(binary(&[])), "e": literal(REMOVED), "p": purge } }]
}

/// Removes a value that equals `expected`, and changes nothing otherwise.
pub(super) fn end_if(expected: &[u8]) -> Vec<Document> {
    let purge = doc! { "$max": [literal(now()), "$w"] };
    change_where(equals(expected), literal(binary(&[])), literal(REMOVED), purge)
}

/// Gives the value a new end.
pub(super) fn lengthen(ttl: Ttl) -> Vec<Document> {
    let end = literal(end_of(ttl.duration()));
    vec![doc! { "$set": { "e": end.clone(), "p": { "$max": [end, "$w"] } } }]
}

/// Binds to a user.
pub(super) fn bind(user: &str, ttl: Ttl) -> Vec<Document> {
    let waits = literal(end_of(WAIT));
    vec![doc! { "$set": {
        "u": literal(user),
        "b": literal(end_of(ttl.duration())),
        "w": waits.clone(),
        "p": { "$max": ["$e", waits] },
    } }]
}

pub(super) fn indexes() -> Vec<IndexModel> {
    let purge =
        IndexOptions::builder().name("cloakroom_purge".to_owned()).expire_after(Duration::ZERO).build();
    let user = IndexOptions::builder().name("cloakroom_user".to_owned()).sparse(true).build();
    vec![
        IndexModel::builder().keys(doc! { "p": 1 }).options(purge).build(),
        IndexModel::builder().keys(doc! { "u": 1 }).options(user).build(),
    ]
}

fn equals(expected: &[u8]) -> Document {
    doc! { "$eq": ["$v", literal(binary(expected))] }
}

/// Changes a document where a condition holds. The first stage notes in `s` whether it does, so that the condition, which
/// may be as large as a value, is sent once; in the second every operand is what was there before.
fn change_where(condition: Document, value: Document, end: Document, purge: Document) -> Vec<Document> {
    vec![
        doc! { "$set": { "s": condition } },
        doc! { "$set": {
            "v": { "$cond": ["$s", value, "$v"] },
            "e": { "$cond": ["$s", end, "$e"] },
            "p": { "$cond": ["$s", purge, "$p"] },
        } },
    ]
}

fn literal(value: impl Into<Bson>) -> Document {
    doc! { "$literal": value.into() }
}

fn binary(value: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: value.to_vec() }
}

pub(crate) fn now() -> DateTime {
    DateTime::from_millis(i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX))
}

/// Returns the end of something that begins now, rounded up.
pub(crate) fn end_of(lifetime: Duration) -> DateTime {
    let nanos = (since_epoch() + lifetime).as_nanos();
    DateTime::from_millis(i64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(i64::MAX))
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Collects what stands where an operator could be carried out: everything outside of `$literal`.
    fn outside_literals(value: &Bson, found: &mut Vec<String>) {
        match value {
            Bson::Document(document) => {
                for (name, value) in document {
                    found.push(name.clone());
                    if name != "$literal" {
                        outside_literals(value, found);
                    }
                }
            }
            Bson::Array(array) => array.iter().for_each(|value| outside_literals(value, found)),
            other => found.push(other.to_string()),
        }
    }

    #[test]
    fn what_is_given_stands_in_literals_only() {
        let hostile = "$where.canary";
        let pipelines = [
            write(hostile.as_bytes(), Ttl::MIN),
            write_new(hostile.as_bytes(), Ttl::MIN),
            write_if(hostile.as_bytes(), hostile.as_bytes(), Ttl::MIN),
            end_if(hostile.as_bytes()),
            bind(hostile, Ttl::MIN),
        ];
        for pipeline in pipelines {
            let mut found = Vec::new();
            pipeline.into_iter().for_each(|stage| outside_literals(&Bson::Document(stage), &mut found));
            assert!(found.iter().any(|name| name == "$set"));
            assert!(!found.iter().any(|name| name.contains("canary")), "{found:?}");
        }
    }

    #[test]
    fn a_compare_and_swap_sends_each_value_once() {
        let (old, new) = (vec![1; 100_000], vec![2; 50_000]);
        let size = |pipeline: Vec<Document>| {
            let pipeline = pipeline.into_iter().map(Bson::Document).collect::<Vec<_>>();
            mongodb::bson::serialize_to_vec(&doc! { "update": pipeline }).unwrap().len()
        };
        assert!(size(write_if(&old, &new, Ttl::MIN)) < old.len() + new.len() + 1024);
        assert!(size(end_if(&old)) < old.len() + 1024);
        assert!(size(write_new(&new, Ttl::MIN)) < new.len() + 1024);
    }

    #[test]
    fn an_end_is_never_early() {
        let before = since_epoch() + Ttl::MIN.duration();
        assert!(end_of(Ttl::MIN.duration()).timestamp_millis() as u128 >= before.as_millis());
        assert!(end_of(Ttl::MAX.duration()) > now());
    }
}
