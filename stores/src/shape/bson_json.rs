//! JSON texts as BSON documents and back, as a Node program has both: an object of JavaScript between them.

use std::{fmt, ops::RangeInclusive};

use cloakroom_core::{Error, ErrorKind, Result};
use mongodb::bson::{Bson, DateTime, Document};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed as _, MapAccess, SeqAccess, Visitor},
    ser::{self, SerializeMap as _, SerializeSeq as _},
};

/// The largest integer up to which a double holds every one, 2^53, and beyond which JavaScript writes no more of them.
const INTEGERS: f64 = 9_007_199_254_740_992.0;

/// Reads a JSON object, with its fields in their order. Of fields with one name the last one counts.
///
/// # Errors
/// [`ErrorKind::Value`] for what is no JSON object, for names that Node's driver refuses as well, and for what a document
/// has no room for: half of a surrogate pair, numbers beyond doubles, more than 100 levels.
pub(super) fn document_of(json: &[u8]) -> Result<Document> {
    let refused = |hint: &'static str| Error::new(ErrorKind::Value).hint(hint);
    let Value(value) = serde_json::from_slice(json).map_err(|error| {
        refused(if error.is_data() && error.to_string().starts_with(BAD_NAME) {
            "a field of a document has a name without a dot, a NUL, and a dollar in front"
        } else {
            "here is room for JSON that a document can hold: no half of a surrogate pair, no number beyond doubles"
        })
    })?;
    match value {
        Bson::Document(document) => Ok(document),
        _ => Err(refused("a session is a JSON object here, whose fields become those of a document")),
    }
}

/// Writes what [`plain`] returned.
pub(super) fn json_of(document: Document) -> Result<Vec<u8>> {
    serde_json::to_vec(&Value(Bson::Document(document)))
        .map_err(|_| Error::new(ErrorKind::Corrupt).hint("the document holds what JSON does not"))
}

/// Returns a value as it is after a way through JSON: dates and object ids become the strings that JavaScript makes of
/// them. `None` if it is, or holds, what has no such form.
pub(super) fn plain(value: &Bson) -> Option<Bson> {
    Some(match value {
        Bson::String(_) | Bson::Boolean(_) | Bson::Null | Bson::Int32(_) => value.clone(),
        // What JavaScript makes of it is a double.
        #[allow(clippy::cast_precision_loss)]
        Bson::Int64(number) => number_of(*number as f64),
        Bson::Double(number) if number.is_finite() => number_of(*number),
        Bson::DateTime(time) => Bson::String(iso(*time)?),
        Bson::ObjectId(id) => Bson::String(id.to_hex()),
        Bson::Array(values) => Bson::Array(values.iter().map(plain).collect::<Option<_>>()?),
        Bson::Document(document) => Bson::Document(plain_document(document)?),
        _ => return None,
    })
}

/// As [`plain`], for all the fields of a document.
pub(super) fn plain_document(document: &Document) -> Option<Document> {
    document.iter().map(|(name, value)| Some((name.clone(), plain(value)?))).collect()
}

/// Returns `new` with all that is `old` still, but for its way through JSON, as it was stored: a date stays a date.
pub(super) fn with_types_of(old: &Bson, new: Bson) -> Bson {
    match (old, new) {
        (Bson::Document(old), Bson::Document(new)) => Bson::Document(with_fields_of(old, new)),
        (Bson::Array(old), Bson::Array(new)) => {
            let mut old = old.iter();
            let keep = |new| match old.next() {
                Some(old) => with_types_of(old, new),
                None => new,
            };
            Bson::Array(new.into_iter().map(keep).collect())
        }
        (old, new) if plain(old).as_ref() == Some(&new) => old.clone(),
        (_, new) => new,
    }
}

/// As [`with_types_of`], for all the fields of a document.
pub(super) fn with_fields_of(old: &Document, new: Document) -> Document {
    let keep = |(name, value): (String, Bson)| match old.get(&name) {
        Some(old) => (name, with_types_of(old, value)),
        None => (name, value),
    };
    new.into_iter().map(keep).collect()
}

/// The type that Node's driver stores a number as.
fn number_of(number: f64) -> Bson {
    #[allow(clippy::cast_possible_truncation)] // It is looked at whether it was.
    let integer = number as i32;
    if f64::from(integer) == number { Bson::Int32(integer) } else { Bson::Double(number) }
}

/// The first and the last millisecond of the years 0 to 9999.
const FOUR_DIGITS: RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

/// `2026-11-23T01:43:18.514Z`; `None` beyond the years that have four digits.
fn iso(time: DateTime) -> Option<String> {
    // Beyond them the driver writes the last one.
    if !FOUR_DIGITS.contains(&time.timestamp_millis()) {
        return None;
    }
    // The fraction comes without zeros at its end, and not at all if it is zero.
    let text = time.try_to_rfc3339_string().ok()?;
    let (seconds, fraction) = text.strip_suffix('Z')?.split_at_checked(19)?;
    Some(format!("{seconds}.{:0<3}Z", fraction.trim_start_matches('.')))
}

/// How the error begins that a name makes.
const BAD_NAME: &str = "bad name";

/// How deep a document may be.
const LEVELS: usize = 100;

/// A value with the types of JSON, and no others: what looks like a type of MongoDB stays an object.
struct Value(Bson);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Level(LEVELS).deserialize(deserializer).map(Self)
    }
}

/// Reads a value that has this many levels at most.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn below<E: de::Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("too deep"))
    }
}

impl<'de> de::DeserializeSeed<'de> for Level {
    type Value = Bson;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Bson, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Bson;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Bson, E> {
        Ok(Bson::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Bson, E> {
        Ok(Bson::Boolean(value))
    }

    #[allow(clippy::cast_precision_loss)] // As JavaScript reads it.
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Bson, E> {
        Ok(number_of(value as f64))
    }

    #[allow(clippy::cast_precision_loss)] // As JavaScript reads it.
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Bson, E> {
        Ok(number_of(value as f64))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Bson, E> {
        Ok(number_of(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Bson, E> {
        Ok(Bson::String(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Bson, E> {
        Ok(Bson::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bson, A::Error> {
        let (below, mut values) = (self.below()?, Vec::new());
        while let Some(value) = seq.next_element_seed(below)? {
            values.push(value);
        }
        Ok(Bson::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bson, A::Error> {
        let (below, mut document) = (self.below()?, Document::new());
        while let Some(name) = map.next_key::<String>()? {
            if name.starts_with('$') || name.contains(['.', '\0']) {
                return Err(de::Error::custom(BAD_NAME));
            }
            document.insert(name, map.next_value_seed(below)?);
        }
        Ok(Bson::Document(document))
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Plain(&self.0).serialize(serializer)
    }
}

/// A value that has come out of [`plain`].
struct Plain<'v>(&'v Bson);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Bson::Null => serializer.serialize_unit(),
            Bson::Boolean(value) => serializer.serialize_bool(*value),
            Bson::Int32(value) => serializer.serialize_i32(*value),
            #[allow(clippy::cast_possible_truncation)] // It is one that fits.
            Bson::Double(value) if value.fract() == 0.0 && value.abs() <= INTEGERS => {
                serializer.serialize_i64(*value as i64)
            }
            Bson::Double(value) => serializer.serialize_f64(*value),
            Bson::String(value) => serializer.serialize_str(value),
            Bson::Array(values) => {
                let mut seq = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    seq.serialize_element(&Plain(value))?;
                }
                seq.end()
            }
            Bson::Document(document) => {
                let mut map = serializer.serialize_map(Some(document.len()))?;
                for (name, value) in document {
                    map.serialize_entry(name, &Plain(value))?;
                }
                map.end()
            }
            _ => Err(ser::Error::custom("no JSON")),
        }
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Binary, doc, oid::ObjectId, spec::BinarySubtype};

    use super::*;

    fn through(json: &str) -> String {
        let document = document_of(json.as_bytes()).expect("a document");
        String::from_utf8(json_of(document).expect("JSON again")).expect("text")
    }

    #[test]
    fn json_comes_back_as_javascript_would_write_it() {
        for (json, again) in [
            (r#"{"b":1,"a":[true,null,"\u0000é"],"c":{"$":0}}"#, None),
            (r#"{"b":1,"a":[true,null,"x"],"c":{}}"#, Some(r#"{"b":1,"a":[true,null,"x"],"c":{}}"#)),
            (
                r#"{ "n": 1.0, "m": -0.0, "o": 2.5, "p": 4294967296 }"#,
                Some(r#"{"n":1,"m":0,"o":2.5,"p":4294967296}"#),
            ),
            (r#"{"a":1,"b":2,"a":3}"#, Some(r#"{"a":3,"b":2}"#)),
            ("{}", Some("{}")),
        ] {
            match again {
                Some(again) => assert_eq!(through(json), again),
                None => assert!(document_of(json.as_bytes()).is_err(), "{json}"),
            }
        }
    }

    #[test]
    fn what_a_document_cannot_hold_is_refused() {
        let deep =
            |levels: usize| format!("{}{}", r#"{"a":"#.repeat(levels), "1".to_owned() + &"}".repeat(levels));
        assert!(document_of(deep(100).as_bytes()).is_ok());
        for json in [
            "",
            "null",
            "[1]",
            "1",
            "\"text\"",
            "{",
            "{} {}",
            r#"{"a":"\ud800"}"#,
            r#"{"a":1e400}"#,
            r#"{"$set":1}"#,
            r#"{"a":{"$oid":"x"}}"#,
            r#"{"a.b":1}"#,
            "{\"a\\u0000\":1}",
            &deep(101),
        ] {
            assert_eq!(
                document_of(json.as_bytes()).map_err(|error| error.kind()),
                Err(ErrorKind::Value),
                "{json}"
            );
        }
        assert_eq!(document_of(b"\xff").map_err(|error| error.kind()), Err(ErrorKind::Value));
    }

    #[test]
    fn dates_and_ids_are_the_strings_of_javascript_and_other_types_have_none() {
        let id = ObjectId::parse_str("65f0c0ffee0000000000beef").expect("an id");
        for (millis, iso) in [
            (1_795_398_198_514, "2026-11-23T01:43:18.514Z"),
            (1_795_398_198_500, "2026-11-23T01:43:18.500Z"),
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (-62_167_219_200_000, "0000-01-01T00:00:00.000Z"),
        ] {
            let stored =
                doc! { "at": [DateTime::from_millis(millis)], "by": id, "n": 5_i64, "m": 1_i64 << 40 };
            let seen = plain_document(&stored).expect("it has a form in JSON");
            assert_eq!(
                seen,
                doc! { "at": [iso], "by": "65f0c0ffee0000000000beef", "n": 5, "m": 1_099_511_627_776.0 }
            );
        }
        for odd in [
            Bson::Double(f64::NAN),
            Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: vec![1] }),
            Bson::MaxKey,
            Bson::DateTime(DateTime::MAX),
            Bson::DateTime(DateTime::from_millis(253_402_300_800_000)),
        ] {
            assert_eq!(plain_document(&doc! { "a": [odd] }), None);
        }
    }

    #[test]
    fn what_has_not_changed_keeps_the_type_it_has() {
        let (then, now) = (DateTime::from_millis(0), DateTime::from_millis(1));
        let stored = doc! { "a": then, "b": { "c": 5_i64, "d": [then, now] }, "e": then, "gone": 1 };
        let mut new = plain_document(&stored).expect("it has a form in JSON");
        new.remove("gone");
        new.insert("e", "today");
        new.get_document_mut("b").expect("it is there").get_array_mut("d").expect("too").swap(0, 1);
        let written = with_fields_of(&stored, new);
        let swapped = ["1970-01-01T00:00:00.001Z", "1970-01-01T00:00:00.000Z"];
        assert_eq!(
            written,
            doc! { "a": then, "b": { "c": 5_i64, "d": [swapped[0], swapped[1]] }, "e": "today" }
        );
    }
}
