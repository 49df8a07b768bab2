//! JSON of one value, with text written at once: `serde_json` looks at each byte of a text on its own.

use std::{
    cell::RefCell,
    fmt::Display,
    io::{self, Write},
    mem,
};

use serde::ser::{Serialize, Serializer};
use serde_json::Error;

use crate::scan::plain_len;

/// Appends the JSON of `value` to `out`.
///
/// # Errors
/// Those of `serde_json`.
pub(super) fn write_json<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    let shared = RefCell::new(mem::take(out));
    let written =
        value.serialize(TextAtOnce { out: &shared, json: &mut serde_json::Serializer::new(Shared(&shared)) });
    *out = shared.into_inner();
    written
}

/// A `serde_json` serializer, except for a value that is a text without escapes: most values of sessions are, and they
/// are longer than the others. Text inside of structs and lists goes the usual way.
struct TextAtOnce<'s, 'o> {
    out: &'o RefCell<Vec<u8>>,
    json: &'s mut Json<'o>,
}

type Json<'o> = serde_json::Serializer<Shared<'o>>;

/// Lets two write to one buffer, each in its turn.
struct Shared<'o>(&'o RefCell<Vec<u8>>);

impl Write for Shared<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Leaves a kind of value to `serde_json`.
macro_rules! as_usual {
    ($($method:ident($($name:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $method(self, $($name: $type),*) -> Result<$answer, Error> {
            self.json.$method($($name),*)
        })*
    };
}

impl<'s, 'o> Serializer for TextAtOnce<'s, 'o> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = <&'s mut Json<'o> as Serializer>::SerializeSeq;
    type SerializeTuple = <&'s mut Json<'o> as Serializer>::SerializeTuple;
    type SerializeTupleStruct = <&'s mut Json<'o> as Serializer>::SerializeTupleStruct;
    type SerializeTupleVariant = <&'s mut Json<'o> as Serializer>::SerializeTupleVariant;
    type SerializeMap = <&'s mut Json<'o> as Serializer>::SerializeMap;
    type SerializeStruct = <&'s mut Json<'o> as Serializer>::SerializeStruct;
    type SerializeStructVariant = <&'s mut Json<'o> as Serializer>::SerializeStructVariant;

    fn serialize_str(self, text: &str) -> Result<(), Error> {
        if plain_len(text.as_bytes()) < text.len() {
            return self.json.serialize_str(text);
        }
        let mut out = self.out.borrow_mut();
        out.reserve(text.len() + 2);
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        Ok(())
    }

    // What these hold may be a text.
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.json.serialize_newtype_variant(name, index, variant, value)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.json.collect_str(value)
    }

    as_usual! {
        serialize_bool(value: bool) -> ();
        serialize_i8(value: i8) -> ();
        serialize_i16(value: i16) -> ();
        serialize_i32(value: i32) -> ();
        serialize_i64(value: i64) -> ();
        serialize_i128(value: i128) -> ();
        serialize_u8(value: u8) -> ();
        serialize_u16(value: u16) -> ();
        serialize_u32(value: u32) -> ();
        serialize_u64(value: u64) -> ();
        serialize_u128(value: u128) -> ();
        serialize_f32(value: f32) -> ();
        serialize_f64(value: f64) -> ();
        serialize_char(value: char) -> ();
        serialize_bytes(value: &[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(name: &'static str) -> ();
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str) -> ();
        serialize_seq(len: Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(len: usize) -> Self::SerializeTuple;
        serialize_tuple_struct(name: &'static str, len: usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> Self::SerializeTupleVariant;
        serialize_map(len: Option<usize>) -> Self::SerializeMap;
        serialize_struct(name: &'static str, len: usize) -> Self::SerializeStruct;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> Self::SerializeStructVariant;
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use proptest::prelude::{any, prop_assert_eq, proptest};
    use serde::Serialize;
    use serde_json::{json, value::RawValue};

    use super::*;

    #[derive(Serialize)]
    struct Unit;

    #[derive(Serialize)]
    struct Wrapped<T>(T);

    #[derive(Serialize)]
    struct Pair(u8, &'static str);

    #[derive(Serialize)]
    enum Every {
        Unit,
        Newtype(&'static str),
        Tuple(u8, &'static str),
        Struct { text: &'static str },
    }

    #[track_caller]
    fn agree<T: Serialize + ?Sized>(value: &T) {
        let mut out = b"before".to_vec();
        let written = write_json(value, &mut out).map_err(|error| error.to_string());
        match serde_json::to_vec(value) {
            Ok(json) => assert_eq!((written, &out[6..]), (Ok(()), &*json)),
            Err(error) => assert_eq!(written, Err(error.to_string())),
        }
        assert!(out.starts_with(b"before"));
    }

    #[test]
    fn every_kind_of_value_is_written_as_serde_json_writes_it() {
        agree(&true);
        agree(&(1_i8, 2_i16, 3_i32, 4_i64, 5_i128));
        agree(&(1_u8, 2_u16, 3_u32, 4_u64, 5_u128));
        agree(&i8::MIN);
        agree(&i16::MIN);
        agree(&i32::MIN);
        agree(&i64::MIN);
        agree(&i128::MIN);
        agree(&u8::MAX);
        agree(&u16::MAX);
        agree(&u32::MAX);
        agree(&u64::MAX);
        agree(&u128::MAX);
        agree(&1.5_f32);
        agree(&1e300_f64);
        agree(&f64::NAN);
        agree(&'é');
        agree(&'"');
        agree("text");
        agree("");
        agree("quo\"te");
        agree("line\n");
        agree("é🦀\u{7f}");
        agree(&Some("text"));
        agree(&None::<u8>);
        agree(&Some(Some("a\\b")));
        agree(&());
        agree(&Unit);
        agree(&Wrapped("text"));
        agree(&Wrapped(Wrapped(1)));
        agree(&Pair(1, "a"));
        agree(&Every::Unit);
        agree(&Every::Newtype("a"));
        agree(&Every::Tuple(1, "a"));
        agree(&Every::Struct { text: "a" });
        agree(&["a", "b\n"]);
        agree(&Vec::<u8>::new());
        agree(&Duration::from_secs(1));
        agree(&json!({"a": [1, null, {"b": "c\"d"}]}));
        agree(&format_args!("collected {}", "\"text\""));
        agree(&BTreeMap::from([(1_u8, "a"), (2, "b")]));
        agree(&BTreeMap::from([((1_u8, 2_u8), "no key of JSON")]));
        agree(&RawValue::from_string("{ \"as\" : \"it is\" }".to_owned()).unwrap());
        agree(std::path::Path::new("/a/path"));
    }

    proptest! {
        #[test]
        fn any_text_is_written_as_serde_json_writes_it(text in any::<String>(), times in 0..9_usize) {
            let text = text.repeat(times);
            let mut out = Vec::new();
            write_json(&text, &mut out).unwrap();
            prop_assert_eq!(out, serde_json::to_vec(&text).unwrap());
        }
    }
}
