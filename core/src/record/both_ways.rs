//! A record read in the usual layout and the same read by `serde_json` are one and the same, and so is every refusal.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::{cookie::SameSite, document::Pair};

const LIMIT: usize = 1 << 20;

/// All that tells one outcome from another.
type Outcome = std::result::Result<Option<(Meta, Vec<(String, String)>)>, String>;

fn outcome(decoded: Result<Decoded>) -> Outcome {
    match decoded {
        Ok(Decoded::Session(Record { meta, data })) => {
            let entries = data.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            Ok(Some((meta, entries)))
        }
        Ok(Decoded::Tombstone) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

#[track_caller]
fn agree(bytes: impl Into<Bytes>) {
    let bytes = bytes.into();
    let own = decode_own(&bytes).map(|record| outcome(Ok(Decoded::Session(record))));
    let judge = outcome(decode_any(&bytes));
    assert_eq!(own.unwrap_or_else(|| judge.clone()), judge, "{bytes:?}");
    assert_eq!(outcome(decode(&bytes, LIMIT)), judge, "{bytes:?}");
}

fn agree_whatever_is_changed(bytes: &[u8], replacements: &[u8]) {
    for at in 0..=bytes.len() {
        let (before, after) = bytes.split_at(at);
        let tail = after.get(1..).unwrap_or_default();
        agree([before, tail].concat());
        agree(before.to_vec());
        for &byte in replacements {
            agree([before, &[byte], tail].concat());
            agree([before, &[byte], after].concat());
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-z]{0,12}",
        1 => ".{0,12}",
        1 => vec(select(vec!["\"", "\\", "\n", "\u{0}", "é", "🦀", "{", "plain text of more than a word"]), 0..4)
            .prop_map(|pieces| pieces.concat()),
    ]
}

fn cookie() -> impl Strategy<Value = CookieOptions> {
    (option::of(select(vec![SameSite::Lax, SameSite::Strict])), any::<bool>()).prop_map(
        |(same_site, ends)| {
            let options = CookieOptions::default().browser_session(ends);
            same_site.map_or(options, |same_site| options.same_site(same_site))
        },
    )
}

fn meta() -> impl Strategy<Value = Meta> {
    let times = (any::<u64>(), any::<u64>(), option::of(any::<u64>()), option::of(0..100_000_u64));
    (times, option::of(text()), option::of(cookie())).prop_map(
        |((created, renewed, deadline, ttl), user, cookie)| Meta {
            extra: None,
            created,
            renewed,
            deadline,
            ttl,
            user: user.map(String::into_boxed_str),
            cookie,
        },
    )
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        text().prop_map(|text| serde_json::Value::from(text).to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| serde_json::Value::from(number).to_string()),
        select(vec![
            "null",
            "true",
            "[]",
            "{}",
            "[1, {\"a\" : [false]}]",
            "\"\\ud800\"",
            "-0",
            "1e400",
            "{\"a\":1,\"a\":2}"
        ])
        .prop_map(str::to_owned),
    ]
}

/// The bytes of a record and what was written into it.
fn record() -> impl Strategy<Value = (Bytes, Meta, Vec<(String, String)>)> {
    (meta(), vec((text(), value()), 0..6), any::<(u64, u64)>()).prop_map(
        |(meta, entries, (prefix, counter))| {
            let mut data = Document::default();
            for (key, value) in entries {
                data.set(&Pair::new(&key, &value));
            }
            let nonces = NonceSource::from_parts(prefix, counter);
            let bytes = encode(&meta, &data, &nonces, LIMIT).unwrap();
            let written = data.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            (bytes, meta, written)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_changed_byte_is_judged_alike((bytes, ..) in record(), random in any::<u8>()) {
        let telling = *b"\"\\{}[],:019-.eE tnu\x1f\xc3";
        agree_whatever_is_changed(&bytes, &[&telling[..], &[random]].concat());
    }

    #[test]
    fn rearranged_fields_are_judged_alike(
        order in Just(vec![
            r#""v":1"#, r#""nonce":"x""#, r#""created":1"#, r#""renewed":2"#, r#""deadline":3"#, r#""ttl":null"#,
            r#""cookie":{"sameSite":"lax"}"#, r#""user":"u""#, r#""data":{"a":1}"#, r#""moved":4"#, r#""user":null"#,
        ]).prop_shuffle(),
        count in 0..=11_usize,
    ) {
        agree(format!("{{{}}}", order[..count].join(",")));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_written_is_read_without_serde_and_with_it((bytes, meta, entries) in record()) {
        let record = decode_own(&bytes).expect("the layout is the usual one");
        prop_assert_eq!(outcome(Ok(Decoded::Session(record))), Ok(Some((meta, entries))));
        agree(bytes);
    }

    #[test]
    fn no_two_writes_have_a_nonce_in_common((bytes, meta, _) in record(), (prefix, counter) in any::<(u64, u64)>()) {
        let data = decode_own(&bytes).expect("the layout is the usual one").data;
        let nonces = NonceSource::from_parts(prefix, counter);
        let (one, two) = (encode(&meta, &data, &nonces, LIMIT).unwrap(), encode(&meta, &data, &nonces, LIMIT).unwrap());
        prop_assert_ne!(&one, &two);
        let text = format!(r#"{{"v":1,"nonce":"{prefix:016x}.{counter}","#);
        prop_assert!(one.starts_with(text.as_bytes()));
        prop_assert_ne!(encode_tombstone(&nonces, 1), encode_tombstone(&nonces, 1));
    }
}

#[test]
fn every_byte_in_every_place_is_judged_alike() {
    let record = concat!(
        r#"{"v":1,"nonce":"ab.1","created":10,"renewed":2,"deadline":3,"ttl":4,"cookie":{"httpOnly":true},"#,
        r#""user":"\u0061é","data":{"a":[1.5,{"b":null}],"":"x","c\n":{}}}"#
    );
    assert!(decode_own(&Bytes::from_static(record.as_bytes())).is_some());
    let all: Vec<u8> = (0..=0xff).collect();
    agree_whatever_is_changed(record.as_bytes(), &all);
}

#[test]
fn the_limits_are_the_same_both_ways() {
    let with = |data: &str| format!(r#"{{"v":1,"nonce":"x","created":1,"renewed":2,"data":{data}}}"#);
    for levels in [120, 124, 125, 126, 127, 128, 1000] {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            for inner in ["0", "[]", "{}"] {
                let data = format!(r#"{{"a":{}{inner}{}}}"#, open.repeat(levels), close.repeat(levels));
                agree(with(&data));
            }
        }
    }
    for keys in [0, 1, 15, 16, 17, 18, 31, 1023, 1024, 1025] {
        let members: Vec<_> = (0..keys).map(|key| format!(r#""{key}":{key}"#)).collect();
        let record = with(&format!("{{{}}}", members.join(",")));
        assert_eq!(decode_own(&Bytes::from(record.clone())).is_some(), keys <= MAX_KEYS);
        agree(record);
        // The same key twice, the second time as an escape.
        let again = with(&format!("{{{},\"\\u0030\":1}}", members.join(",")));
        assert!(decode_own(&Bytes::from(again.clone())).is_none());
        agree(again);
    }
    for number in
        ["18446744073709551615", "18446744073709551616", "01", "1.0", "1e3", "-1", "-0", "null", "\"1\""]
    {
        agree(with("{}").replace(":1,\"renewed", &format!(":{number},\"renewed")));
        agree(with("{}").replace("\"renewed\":2", &format!("\"renewed\":2,\"ttl\":{number}")));
    }
}
