//! The scanner takes exactly what `serde_json` takes as a raw value.

use proptest::{collection::vec, prelude::*, sample::select};
use serde::Deserialize;
use serde_json::{Deserializer, value::RawValue};

use super::*;

/// The value that `serde_json` finds at the start of a text, whatever follows it.
fn by_serde(text: &str) -> Option<&str> {
    <&RawValue>::deserialize(&mut Deserializer::from_str(text)).ok().map(RawValue::get)
}

/// The same by the scanner, for which whitespace in front is no part of a value.
fn by_scan(text: &str) -> Option<&str> {
    let mut scanner = Scanner::new(text.as_bytes());
    scanner.space();
    scanner.value(128).map(|value| std::str::from_utf8(value).unwrap())
}

#[track_caller]
fn agree(text: &str) {
    assert_eq!(by_scan(text), by_serde(text), "{text:?}");
}

/// The text with one byte replaced, left out or put in, where that is still text.
fn mutations(text: &str, byte: u8) -> impl Iterator<Item = String> {
    (0..=text.len()).flat_map(move |at| {
        let (before, after) = text.as_bytes().split_at(at);
        let tail = after.get(1..).unwrap_or_default();
        [[before, &[byte], tail].concat(), [before, tail].concat(), [before, &[byte], after].concat()]
            .into_iter()
            .filter_map(|bytes| String::from_utf8(bytes).ok())
    })
}

/// Random JSON, with spaces and escapes as a stranger may write them.
fn json() -> impl Strategy<Value = String> {
    let space = select(vec!["", "", "", " ", "\n\t\r "]);
    let piece = select(vec![
        "a",
        "é",
        "🦀",
        "plain text of more than a word",
        "\\n",
        "\\u00e9",
        "\\ud83e\\udd80",
        "\\uD800",
        "\\udc00x",
        "\\\"",
        "\\/",
        "{[",
        "\u{7f}",
        "\u{80}",
    ]);
    let string = vec(piece, 0..6).prop_map(|pieces| format!("\"{}\"", pieces.concat()));
    let number = select(vec![
        "0",
        "-0",
        "1",
        "-12",
        "0.5",
        "1e5",
        "2E-7",
        "3.25e+10",
        "99999999999999999999999",
        "1e999",
    ]);
    let literal = select(vec!["true", "false", "null"]);
    let leaf = prop_oneof![string.clone(), number.prop_map(str::to_owned), literal.prop_map(str::to_owned)];
    leaf.prop_recursive(5, 24, 5, move |inner| {
        let item = (space.clone(), inner, space.clone())
            .prop_map(|(before, item, after)| format!("{before}{item}{after}"));
        let member = (space.clone(), string.clone(), space.clone(), item.clone())
            .prop_map(|(before, name, after, item)| format!("{before}{name}{after}:{item}"));
        prop_oneof![
            (vec(item, 0..5), space.clone()).prop_map(|(items, space)| match &*items {
                [] => format!("[{space}]"),
                items => format!("[{}]", items.join(",")),
            }),
            (vec(member, 0..5), space.clone()).prop_map(|(members, space)| match &*members {
                [] => format!("{{{space}}}"),
                members => format!("{{{}}}", members.join(",")),
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn valid_json_is_taken_whole_and_a_changed_byte_changes_nothing_between_the_two(
        json in json(), random in any::<u8>(),
    ) {
        prop_assert_eq!(by_scan(&json), Some(&*json));
        for byte in [random, b'"', b'\\', b'{', b'}', b'[', b']', b',', b':', b'0', b'-', b'.', b'e', b' ', 0x1f] {
            mutations(&json, byte).for_each(|text| agree(&text));
        }
        for end in (0..json.len()).filter(|end| json.is_char_boundary(*end)) {
            agree(&json[..end]);
        }
    }

    #[test]
    fn soup_of_what_json_is_made_of_is_judged_alike(
        pieces in vec(select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "d800", "\\ud83e\\udd80", "0", "00", "1", "-", "+", ".", "e",
            "E", " ", "\n", "\u{b}", "\u{0}", "true", "fals", "null", "\"a\"", "\"b\":", "é",
        ]), 0..14),
    ) {
        agree(&pieces.concat());
    }

    #[test]
    fn the_plain_start_of_a_string_is_the_same_however_it_is_looked_for(
        mut bytes in vec(select((0x20..=0xff).filter(|byte| is_plain(*byte)).collect::<Vec<u8>>()), 0..150),
        special in select(vec![b'"', b'\\', 0, 1, 0x1f]),
        at in 0..150_usize,
    ) {
        prop_assert_eq!(plain_len(&bytes), bytes.len());
        if at < bytes.len() {
            bytes[at] = special;
            prop_assert_eq!(plain_len(&bytes), at);
        }
    }

    #[test]
    fn integers_are_those_of_serde(number in any::<u64>(), tail in select(vec!["", "0", "5", ",", "00"])) {
        let text = format!("{number}{tail}");
        let digits = text.trim_end_matches(',');
        prop_assert_eq!(Scanner::new(text.as_bytes()).integer(), serde_json::from_str(digits).ok());
    }
}

#[test]
fn every_byte_is_judged_alike_wherever_it_stands() {
    for json in ["\"a\\u12aB b\"", "[1.5e-3,{\"k\" : null}]", "-10", "[true ,false]", "{}", "[[], {}]"] {
        for byte in 0..=0x7f {
            mutations(json, byte).for_each(|text| agree(&text));
        }
    }
}

#[test]
fn special_bytes_are_found_in_words_of_all_bytes() {
    for byte in 0..=0xff_u8 {
        for around in [b'a', 0x7f, 0x80, 0xff, b'#', b'!', b'[', b']', b' '] {
            for at in 0..8 {
                let mut word = [around; 8];
                word[at] = byte;
                assert_eq!(first_special(word), (!is_plain(byte)).then_some(at), "{word:?}");
            }
        }
    }
}

#[test]
fn needless_zeros_and_overflow_are_no_integers() {
    for (text, integer) in [("0", Some(0)), ("00", None), ("07", None), ("", None), ("-1", None)] {
        assert_eq!(Scanner::new(text.as_bytes()).integer(), integer);
    }
    assert_eq!(Scanner::new(b"18446744073709551615").integer(), Some(u64::MAX));
    assert_eq!(Scanner::new(b"18446744073709551616").integer(), None);
    assert_eq!(Scanner::new(b"99999999999999999999").integer(), None);
}

#[test]
fn depth_is_limited_and_costs_no_stack() {
    let nested =
        |open: &str, close: &str, levels: usize| format!("{}0{}", open.repeat(levels), close.repeat(levels));
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for limit in [1, 125, 128] {
            let text = nested(open, close, limit);
            assert_eq!(Scanner::new(text.as_bytes()).value(limit as u32), Some(text.as_bytes()));
            assert_eq!(Scanner::new(nested(open, close, limit + 1).as_bytes()).value(limit as u32), None);
        }
        assert_eq!(Scanner::new(nested(open, close, 129).as_bytes()).value(u32::MAX), None, "no bit is left");
    }
    assert_eq!(Scanner::new(b"[[]]").value(1), None, "an empty container counts");
    assert_eq!(Scanner::new("[".repeat(1_000_000).as_bytes()).value(125), None);
}
