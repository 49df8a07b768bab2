//! A million hostile Cookie headers from a generator, and a corpus of the telling ones.
#![allow(clippy::unwrap_used)] // What helps a test is a test.

mod support;

use std::time::{Duration, Instant};

use cloakroom_conformance::{Counting, Reference};
use cloakroom_core::{Engine, RequestHead, SessionId};
use http::{HeaderMap, HeaderValue, Method, Uri, header::COOKIE};

/// What hostile headers are made of: our name and its likenesses, values nearly well formed, separators, garbage.
const PARTS: &[&[u8]] = &[
    b"__Host-sid",
    b"__host-sid",
    b"__Host-sid2",
    b"x__Host-sid",
    b"__Host-sid.sig",
    b"sid",
    b"=",
    b"==",
    b";",
    b"; ",
    b";;",
    b" ",
    b"\t",
    b"\"",
    b",",
    b"%3D",
    b"%00",
    b"\\",
    b".",
    b"\xff\xfe",
    "é".as_bytes(),
    b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    b"BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB",
    b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA+",
    b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/",
    b"a=1",
    b"$Version=1",
    b"__Host-sid=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    b"__Host-sid=\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"",
    b"__Host-sid=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
];

/// A small generator of numbers that is the same in every run (xorshift, Marsaglia 2003).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    /// One header: up to a dozen parts, one byte of some changed.
    fn header(&mut self) -> Vec<u8> {
        let mut header = Vec::new();
        for _ in 0..=self.below(12) {
            header.extend_from_slice(PARTS[self.below(PARTS.len())]);
        }
        if self.below(3) == 0 {
            let (at, byte) = (self.below(header.len()), self.below(256));
            header[at] = byte as u8;
        }
        header
    }
}

/// Sends one header through begin and load; returns how often the store was read.
async fn look_ups(engine: &Engine, store: &Counting<Reference>, header: HeaderValue) -> u64 {
    let headers = HeaderMap::from_iter([(COOKIE, header)]);
    let (method, uri) = (Method::GET, Uri::from_static("/"));
    let lazy = engine.begin(&RequestHead { method: &method, uri: &uri, headers: &headers });
    let session = lazy.load().await.unwrap();
    assert!(session.is_new() && session.id().is_none(), "never adopted");
    let reads = store.counts().total();
    store.reset();
    reads
}

/// Counts the pairs of a header that a strict reader takes for a well-formed session cookie.
fn well_formed(header: &[u8]) -> usize {
    let mut ids: Vec<&[u8]> = header
        .split(|&byte| byte == b';')
        .map(|pair| pair.trim_ascii())
        .filter_map(|pair| pair.strip_prefix(b"__Host-sid"))
        .filter_map(|rest| rest.trim_ascii_start().strip_prefix(b"="))
        .map(|value| value.trim_ascii())
        .map(|value| value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
        .filter(|value| SessionId::parse(value).is_some())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids.len()
}

#[tokio::test]
async fn a_million_hostile_headers_neither_panic_nor_reach_the_store_without_a_well_formed_id() {
    let store = Counting::new(Reference::new());
    let engine = Engine::builder(store.clone()).build().unwrap();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let (mut sent, mut reads, mut slowest) = (0, 0, Duration::ZERO);
    while sent < 1_000_000 {
        let bytes = numbers.header();
        let Ok(header) = HeaderValue::from_bytes(&bytes) else { continue };
        sent += 1;
        let start = Instant::now();
        let count = look_ups(&engine, &store, header).await;
        slowest = slowest.max(start.elapsed());
        let allowed = well_formed(&bytes).min(4) as u64;
        assert_eq!(count, allowed, "{:?}", String::from_utf8_lossy(&bytes));
        reads += count;
    }
    assert!(reads > 1000, "the generator makes well-formed ids too: {reads}");
    // Not a measurement: a header of at most a kilobyte that took a second would be a loop gone wrong.
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

/// One header a line, after the number of look-ups it may cause and a space; `\xNN` stands for a byte.
const CORPUS: &str = include_str!("corpus/cookies.txt");

#[tokio::test]
async fn the_corpus_of_telling_headers_is_read_as_it_says() {
    let store = Counting::new(Reference::new());
    let engine = Engine::builder(store.clone()).build().unwrap();
    let mut lines = 0;
    for line in CORPUS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (expected, header) = line.split_once(' ').unwrap();
        let header = HeaderValue::from_bytes(&unescape(header)).unwrap();
        assert_eq!(look_ups(&engine, &store, header).await, expected.parse::<u64>().unwrap(), "{line}");
        lines += 1;
    }
    assert!(lines >= 40, "{lines}");
}

fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes
}
