//! The native record: what is stored for a session, as a JSON object that `redis-cli` and `psql` can show.

use std::{
    borrow::Cow,
    fmt,
    marker::PhantomData,
    str,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use serde::{
    Deserialize,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::{
    cookie::CookieOptions,
    document::{Document, JsonString, MAX_KEYS, json_string},
    error::{Error, ErrorKind, Result},
    scan::{Quoted, Scanner},
};

/// The format this code writes, and the only one it reads.
const VERSION: u64 = 1;

/// What stands between the values of a record, in the order of their writing. The first tells the [`VERSION`].
const START: &[u8] = br#"{"v":1,"nonce":""#;
const CREATED: &[u8] = br#","created":"#;
const RENEWED: &[u8] = br#","renewed":"#;
const DEADLINE: &[u8] = br#","deadline":"#;
const TTL: &[u8] = br#","ttl":"#;
const COOKIE: &[u8] = br#","cookie":"#;
const USER: &[u8] = br#","user":"#;
const DATA: &[u8] = br#","data":"#;
const MOVED: &[u8] = br#","moved":"#;

/// How an encrypted record begins. No JSON does.
pub(crate) const ENCRYPTED: [u8; 3] = *b"CRe";

/// The deepest nesting of a record. `serde_json` itself stops at 128.
const MAX_DEPTH: u32 = 127;

/// A wall-clock time: milliseconds since the Unix epoch, by the application's clock.
pub(crate) type Millis = u64;

/// Everything of a record but its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) created: Millis,
    /// When the idle time last began anew; the cookie was sent then.
    pub(crate) renewed: Millis,
    /// The absolute end, whatever happens.
    pub(crate) deadline: Option<Millis>,
    /// This session's own idle time, in place of the configured one.
    pub(crate) ttl: Option<Millis>,
    pub(crate) user: Option<Box<str>>,
    /// This session's own cookie options.
    pub(crate) cookie: Option<CookieOptions>,
    /// What another format keeps beside the data, as raw JSON. The native one has nothing of the kind.
    pub(crate) extra: Option<Arc<str>>,
}

impl Meta {
    /// Returns that of a session which begins now.
    pub(crate) const fn starting(now: Millis, deadline: Option<Millis>) -> Self {
        Self { created: now, renewed: now, deadline, ttl: None, user: None, cookie: None, extra: None }
    }
}

/// A readable session record.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) meta: Meta,
    pub(crate) data: Document,
}

/// What stored bytes turn out to be.
#[derive(Debug)]
pub(crate) enum Decoded {
    Session(Record),
    /// The session moved to another id a moment ago. Holds no data and grants nothing.
    Tombstone,
}

/// Makes every write different from every other: a random prefix and a counter.
///
/// A write whose reply was lost is recognised by it. One call of the random source for each engine, not for each
/// write, since such a call costs more than everything else a write does here.
#[derive(Debug)]
pub(crate) struct NonceSource {
    /// 16 hexadecimal digits and a point.
    prefix: Box<[u8]>,
    counter: AtomicU64,
}

impl NonceSource {
    pub(crate) fn new() -> Result<Self> {
        let prefix = getrandom::u64().map_err(|error| {
            Error::new(ErrorKind::Backend)
                .operation("build")
                .hint("the operating system gave no random bytes")
                .with_source(error.to_string())
        })?;
        Ok(Self::from_parts(prefix, 0))
    }

    fn from_parts(prefix: u64, counter: u64) -> Self {
        let prefix = format!("{prefix:016x}.").into_bytes().into();
        Self { prefix, counter: AtomicU64::new(counter) }
    }

    fn next(&self) -> u64 {
        self.counter.fetch_add(1, Relaxed)
    }
}

/// Encodes a session with a fresh nonce.
///
/// # Errors
/// [`ErrorKind::TooLarge`] when the record would be longer than `limit` bytes or has more than 1,024 keys.
pub(crate) fn encode(meta: &Meta, data: &Document, nonces: &NonceSource, limit: usize) -> Result<Bytes> {
    let [mut count, mut created, mut renewed, mut deadline, mut ttl] = [itoa::Buffer::new(); 5];
    let count = count.format(nonces.next());
    let (created, renewed) = (created.format(meta.created), renewed.format(meta.renewed));
    let deadline = meta.deadline.map(|time| deadline.format(time));
    let ttl = meta.ttl.map(|time| ttl.format(time));
    // Three plain values: nothing of them can fail to become JSON.
    let cookie = meta.cookie.as_ref().map(|cookie| serde_json::to_string(cookie).unwrap_or_default());
    let user = meta.user.as_deref().map(json_string);
    let optional = |name: &[u8], value: Option<usize>| value.map_or(0, |value| name.len() + value);
    let size = START.len()
        + nonces.prefix.len()
        + count.len()
        + 1
        + CREATED.len()
        + created.len()
        + RENEWED.len()
        + renewed.len()
        + optional(DEADLINE, deadline.map(str::len))
        + optional(TTL, ttl.map(str::len))
        + optional(COOKIE, cookie.as_ref().map(String::len))
        + optional(USER, user.as_ref().map(JsonString::len))
        + DATA.len()
        + data.json_len()
        + 1;
    if size > limit || data.len() > MAX_KEYS {
        return Err(Error::new(ErrorKind::TooLarge).operation("save").hint(format!(
            "the record has {size} bytes in {} keys; the limits are {limit} bytes and {MAX_KEYS} keys",
            data.len()
        )));
    }
    // Of exactly the final size, so that turning it into `Bytes` allocates nothing more.
    let mut out = Vec::with_capacity(size);
    out.extend_from_slice(START);
    out.extend_from_slice(&nonces.prefix);
    out.extend_from_slice(count.as_bytes());
    out.push(b'"');
    out.extend_from_slice(CREATED);
    out.extend_from_slice(created.as_bytes());
    out.extend_from_slice(RENEWED);
    out.extend_from_slice(renewed.as_bytes());
    for (name, value) in [(DEADLINE, deadline), (TTL, ttl), (COOKIE, cookie.as_deref())] {
        if let Some(value) = value {
            out.extend_from_slice(name);
            out.extend_from_slice(value.as_bytes());
        }
    }
    if let Some(user) = user {
        out.extend_from_slice(USER);
        user.write(&mut out);
    }
    out.extend_from_slice(DATA);
    data.write_json(&mut out);
    out.push(b'}');
    debug_assert_eq!(out.len(), size);
    Ok(Bytes::from(out))
}

/// Encodes the tombstone that `cycle_id` leaves under the old key.
pub(crate) fn encode_tombstone(nonces: &NonceSource, now: Millis) -> Bytes {
    let [mut count, mut moved] = [itoa::Buffer::new(); 2];
    let count = count.format(nonces.next()).as_bytes();
    [START, &nonces.prefix, count, b"\"", MOVED, moved.format(now).as_bytes(), b"}"].concat().into()
}

/// Decodes stored bytes.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when they are longer than `limit`, nested too deeply, of an unknown version, or not a
/// record at all. The hint says which; nothing of the bytes is quoted.
pub(crate) fn decode(bytes: &Bytes, limit: usize) -> Result<Decoded> {
    // Places in a document have 32 bits.
    if bytes.len() > limit || u32::try_from(bytes.len()).is_err() {
        return Err(corrupt("the stored record is larger than the limit"));
    }
    if bytes.starts_with(&ENCRYPTED) {
        return Err(corrupt("the stored record is encrypted, and no keys to decrypt it are configured"));
    }
    if let Some(record) = decode_own(bytes) {
        return Ok(Decoded::Session(record));
    }
    decode_any(bytes)
}

/// Decodes a session record in exactly the layout that [`encode`] writes, which is nearly every one there is, in one
/// pass over its text.
///
/// `None` when anything is otherwise, be it wrong or only unusual: [`decode_any`] is then the judge. What is taken here
/// it would take too, to the same effect.
fn decode_own(bytes: &Bytes) -> Option<Record> {
    // Checked as a whole: piece by piece takes longer. Most records are ASCII, which is quicker to see.
    if !bytes.is_ascii() && str::from_utf8(bytes).is_err() {
        return None;
    }
    let mut scan = Scanner::new(bytes);
    if !scan.eat(START) {
        return None;
    }
    scan.string_end()?;
    let created = if scan.eat(CREATED) { scan.integer()? } else { return None };
    let renewed = if scan.eat(RENEWED) { scan.integer()? } else { return None };
    let deadline = if scan.eat(DEADLINE) { Some(scan.integer()?) } else { None };
    let ttl = if scan.eat(TTL) { Some(scan.integer()?) } else { None };
    let cookie =
        if scan.eat(COOKIE) { Some(serde_json::from_slice(scan.value(MAX_DEPTH - 1)?).ok()?) } else { None };
    let user = if scan.eat(USER) { Some(Box::from(&*unquote(scan.string()?)?)) } else { None };
    if !scan.eat(DATA) {
        return None;
    }
    let data = scan_data(&mut scan, bytes)?;
    if !scan.eat(b"}") || !scan.is_done() {
        return None;
    }
    let meta = Meta { created, renewed, deadline, ttl, user, cookie, extra: None };
    Some(Record { meta, data })
}

/// Takes the data object out of `bytes`, which are what is scanned.
///
/// `None` when it is none, has spaces around its keys and values, more keys than are allowed, or one of them twice.
fn scan_data(scan: &mut Scanner<'_>, bytes: &Bytes) -> Option<Document> {
    if scan.eat(b"{}") {
        return Some(Document::default());
    }
    // Room for as many keys as there can well be. Most sessions have few.
    let mut data = Document::over(bytes.clone(), (bytes.len() / 48).clamp(4, 32));
    let mut before: &[u8] = b"{";
    while scan.eat(before) {
        let start = scan.at();
        let key = scan.string()?;
        if !scan.eat(b":") || data.len() == MAX_KEYS {
            return None;
        }
        let value_start = scan.at();
        // Two containers are open around it: the record and its data.
        let value = scan.value(MAX_DEPTH - 2)?;
        match key {
            Quoted::Plain(_) => data.push_member(start, value_start, scan.at()),
            Quoted::Escaped(_) => data.push_loaded(unquote(key)?, str::from_utf8(value).ok()?),
        }
        before = b",";
    }
    (scan.eat(b"}") && !data.is_empty() && !data.has_duplicates()).then_some(data)
}

/// Returns what a JSON string says; `None` when its escapes make no text.
fn unquote(quoted: Quoted<'_>) -> Option<Cow<'_, str>> {
    match quoted {
        Quoted::Plain(text) => str::from_utf8(text).ok().map(Cow::Borrowed),
        Quoted::Escaped(json) => serde_json::from_slice(json).ok().map(Cow::Owned),
    }
}

/// Decodes whatever is a record, also one that another program wrote or rearranged.
///
/// # Errors
/// [`ErrorKind::Corrupt`] as of [`decode`].
fn decode_any(bytes: &Bytes) -> Result<Decoded> {
    if too_deep(bytes, MAX_DEPTH as usize) {
        return Err(corrupt("the stored record is nested too deeply"));
    }
    let text = str::from_utf8(bytes).map_err(|_| corrupt("the stored bytes are not a session record"))?;
    let stored: Stored<'_> = serde_json::from_str(text).map_err(|error| describe(bytes, &error))?;
    if stored.v != VERSION {
        return Err(corrupt("the stored record is of an unknown version"));
    }
    match stored {
        Stored { moved: Some(_), data: None, .. } => Ok(Decoded::Tombstone),
        Stored {
            moved: None, created: Some(created), renewed: Some(renewed), data: Some(entries), ..
        } => {
            let too_many = entries.0.len() > MAX_KEYS;
            let mut data = Document::over(bytes.clone(), entries.0.len().min(MAX_KEYS));
            entries.0.into_iter().take(MAX_KEYS).for_each(|(key, value)| data.push_loaded(key, value));
            if too_many || data.has_duplicates() {
                return Err(corrupt("the stored record has too many keys, or one of them twice"));
            }
            let user = stored.user.map(|user| Box::from(&*user));
            let meta = Meta {
                created,
                renewed,
                deadline: stored.deadline,
                ttl: stored.ttl,
                user,
                cookie: stored.cookie,
                extra: None,
            };
            Ok(Decoded::Session(Record { meta, data }))
        }
        _ => Err(corrupt("the stored record lacks a field")),
    }
}

/// The keys and values of an object: in their order, the values as raw JSON.
pub(crate) type RawEntries<'a> = SmallVec<[(Cow<'a, str>, &'a str); 8]>;

/// Reads the keys and values of a JSON object that another program wrote.
///
/// Values are not looked into: what JavaScript writes and `serde_json` would refuse (half a surrogate pair, `1e400`, a
/// thousand levels) stays as it is. `None` when it is no object, has a key twice or more than 1,024 of them.
pub(crate) fn raw_entries(json: &[u8]) -> Option<RawEntries<'_>> {
    let entries: Entries<'_> = serde_json::from_str(str::from_utf8(json).ok()?).ok()?;
    if entries.0.len() > MAX_KEYS {
        return None;
    }
    let mut keys: SmallVec<[&str; 32]> = entries.0.iter().map(|(key, _)| &**key).collect();
    keys.sort_unstable();
    let has_duplicates = keys.windows(2).any(|pair| pair.first() == pair.last());
    drop(keys);
    (!has_duplicates).then_some(entries.0)
}

fn corrupt(hint: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt).operation("load").hint(hint)
}

/// Tells a future version from plain garbage. `serde_json`'s own message may quote the data, so it is not kept.
fn describe(bytes: &[u8], error: &serde_json::Error) -> Error {
    #[derive(Deserialize)]
    struct VersionOnly {
        v: u64,
    }
    match serde_json::from_slice::<VersionOnly>(bytes) {
        Ok(VersionOnly { v }) if v != VERSION => corrupt("the stored record is of an unknown version"),
        _ if error.is_eof() => corrupt("the stored record is cut short"),
        _ => corrupt("the stored bytes are not a session record"),
    }
}

/// Whether JSON is nested deeper than `limit`. The exact scan runs only if there are enough brackets at all.
pub(crate) fn too_deep(bytes: &[u8], limit: usize) -> bool {
    // Sums of bytes over short runs are what the compiler makes vector instructions of.
    let opens = |byte: &u8| u8::from(byte | 0x20 == b'{');
    let brackets: usize = bytes.chunks(255).map(|run| usize::from(run.iter().map(opens).sum::<u8>())).sum();
    if brackets <= limit {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The fields as stored. An unknown one is refused: writing the record again would lose it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<'a> {
    v: u64,
    #[serde(rename = "nonce")]
    _nonce: serde::de::IgnoredAny,
    created: Option<Millis>,
    renewed: Option<Millis>,
    deadline: Option<Millis>,
    ttl: Option<Millis>,
    #[serde(borrow)]
    user: Option<Cow<'a, str>>,
    cookie: Option<CookieOptions>,
    #[serde(borrow)]
    data: Option<Entries<'a>>,
    moved: Option<Millis>,
}

/// The data object in one pass: keys borrowed where they have no escapes, values as raw JSON.
///
/// Collected on the stack, so that the document is made with room for just them.
struct Entries<'a>(SmallVec<[(Cow<'a, str>, &'a str); 8]>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<'a>(PhantomData<&'a str>);

        impl<'de: 'a, 'a> Visitor<'de> for EntriesVisitor<'a> {
            type Value = Entries<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = SmallVec::new();
                while let Some(Borrowed(key)) = map.next_key()? {
                    let value: &RawValue = map.next_value()?;
                    entries.push((key, value.get()));
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

/// A string borrowed from the input if possible: serde's own `Cow<str>` always copies.
#[derive(Deserialize)]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod both_ways;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Pair;

    const LIMIT: usize = 1 << 20;

    fn meta() -> Meta {
        Meta { renewed: 2, ..Meta::starting(1, None) }
    }

    fn session(bytes: &Bytes) -> Record {
        match decode(bytes, LIMIT).unwrap() {
            Decoded::Session(record) => record,
            Decoded::Tombstone => panic!("a tombstone"),
        }
    }

    fn hint(json: &str) -> String {
        let error = decode(&Bytes::copy_from_slice(json.as_bytes()), LIMIT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        error.to_string()
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let nonces = NonceSource::new().unwrap();
        let mut data = Document::default();
        data.set(&Pair::new("n", "1"));
        data.set(&Pair::new("quo\"te", r#"{"deep":[true,null]}"#));
        let meta = Meta { deadline: Some(9), ttl: Some(5), user: Some("al\"ice".into()), ..meta() };
        let bytes = encode(&meta, &data, &nonces, LIMIT).unwrap();
        let record = session(&bytes);
        assert_eq!(record.meta, meta);
        assert_eq!(record.data.get("quo\"te"), Some(r#"{"deep":[true,null]}"#));
        assert_eq!(record.data.get("n"), Some("1"));
        let again = encode(&record.meta, &record.data, &nonces, LIMIT).unwrap();
        assert_ne!(again, bytes, "two writes of the same data differ by their nonce");
    }

    #[test]
    fn the_stored_form_is_the_documented_one() {
        let nonces = NonceSource::from_parts(0xab, 16);
        let mut data = Document::default();
        data.set(&Pair::new("n", "1"));
        let bytes = encode(&meta(), &data, &nonces, LIMIT).unwrap();
        assert_eq!(bytes, r#"{"v":1,"nonce":"00000000000000ab.16","created":1,"renewed":2,"data":{"n":1}}"#);
    }

    #[test]
    fn a_tombstone_is_told_from_a_session() {
        let nonces = NonceSource::new().unwrap();
        assert!(matches!(decode(&encode_tombstone(&nonces, 7), LIMIT), Ok(Decoded::Tombstone)));
    }

    #[test]
    fn unreadable_bytes_are_corrupt_and_never_quoted() {
        assert!(hint(r#"{"v":2,"shape":"unknown"}"#).contains("unknown version"));
        assert!(
            hint(r#"{"v":1,"nonce":"x","created":1,"renewed":2,"data":{"n":"canary"#).contains("cut short")
        );
        for json in [
            "",
            "null",
            "canary",
            "[]",
            r#"{"v":1,"nonce":"x","created":1,"renewed":2,"data":"canary"}"#,
            r#"{"v":1,"nonce":"x","created":"canary","renewed":2,"data":{}}"#,
            r#"{"v":1,"nonce":"x","created":1,"renewed":2,"data":{},"canary":1}"#,
            r#"{"v":1,"nonce":"x","created":1,"renewed":2,"data":{}} trailing"#,
            r#"{"v":1,"nonce":"x","created":1,"renewed":2}"#,
            r#"{"v":1,"nonce":"x","created":1,"renewed":2,"data":{"a":1,"a":2}}"#,
            r#"{"v":1,"nonce":"x","created":1,"renewed":2,"moved":3,"data":{}}"#,
            r#"{"v":-1,"nonce":"x"}"#,
        ] {
            assert!(!hint(json).contains("canary"));
        }
        let not_utf8 = Bytes::from_static(
            b"{\"v\":1,\"nonce\":\"x\",\"created\":1,\"renewed\":2,\"data\":{\"a\":\"\xff\"}}",
        );
        assert_eq!(decode(&not_utf8, LIMIT).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn size_is_checked_before_anything_is_decoded_or_written() {
        let oversized = Bytes::from(vec![b'{'; 11]);
        assert!(decode(&oversized, 10).unwrap_err().to_string().contains("larger than the limit"));
        let mut data = Document::default();
        data.set(&Pair::new("k", &format!("\"{}\"", "x".repeat(200))));
        let error = encode(&meta(), &data, &NonceSource::new().unwrap(), 200).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn depth_is_limited_and_brackets_in_strings_do_not_count() {
        let nested = |levels: usize| {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            format!(r#"{{"v":1,"nonce":"x","created":1,"renewed":2,"data":{{"a":{open}{close}}}}}"#)
        };
        session(&Bytes::from(nested(MAX_DEPTH as usize - 2)));
        assert!(hint(&nested(MAX_DEPTH as usize - 1)).contains("too deeply"));
        assert!(hint(&nested(100_000)).contains("too deeply"));
        let text = format!(
            r#"{{"v":1,"nonce":"x","created":1,"renewed":2,"data":{{"a":"\"{}"}}}}"#,
            "[".repeat(500)
        );
        session(&Bytes::from(text));
    }

    #[test]
    fn too_many_keys_are_refused_both_ways() {
        let mut data = Document::default();
        for n in 0..=MAX_KEYS {
            data.set(&Pair::new(&n.to_string(), "1"));
        }
        let error = encode(&meta(), &data, &NonceSource::new().unwrap(), LIMIT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let mut json = Vec::new();
        data.write_json(&mut json);
        let data = String::from_utf8(json).unwrap();
        hint(&format!(r#"{{"v":1,"nonce":"x","created":1,"renewed":2,"data":{data}}}"#));
    }
}
