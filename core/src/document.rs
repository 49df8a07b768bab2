//! A session's data: an ordered map from text keys to raw JSON, decoded only where a handler looks.

use std::{borrow::Cow, fmt, str, sync::Arc};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::scan::plain_len;

/// The most keys a session may have. Look-ups are linear, and nothing a browser session is for needs more.
pub(crate) const MAX_KEYS: usize = 1024;

/// A key and its value as they were written, shared by the document and the operation log: one allocation for both.
#[derive(Clone)]
pub(crate) struct Pair(Entry);

impl Pair {
    /// Creates a pair of a key and valid JSON, exactly one value.
    pub(crate) fn new(key: &str, json: &str) -> Self {
        let mut text = Vec::with_capacity(key.len() + json.len() + 3);
        let pending = Self::begin(key, &mut text);
        text.extend_from_slice(json.as_bytes());
        pending.end(&text)
    }

    /// Writes everything that comes before the JSON to `text`, which is empty.
    pub(crate) fn begin(key: &str, text: &mut Vec<u8>) -> PendingPair {
        let name = json_string(key);
        let tag = tag(key.as_bytes());
        let key = match &name {
            JsonString::Plain(key) => Span { start: 1, end: 1 + number(key.len()) },
            // What is looked for and what is written are not the same then: both are kept, one after the other.
            JsonString::Escaped(_) => {
                text.extend_from_slice(key.as_bytes());
                Span { start: 0, end: number(key.len()) }
            }
        };
        let start = number(text.len());
        name.write(text);
        text.push(b':');
        PendingPair { tag, key, start, value: number(text.len()) }
    }

    /// Returns the JSON.
    pub(crate) fn value(&self) -> &[u8] {
        self.0.value(&[])
    }
}

/// Shows neither key nor value.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair")
    }
}

/// A [`Pair`] whose value is still to be written.
pub(crate) struct PendingPair {
    tag: u32,
    key: Span,
    start: u32,
    value: u32,
}

impl PendingPair {
    /// Returns what has been written of the value.
    pub(crate) fn value<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.value as usize..).unwrap_or_default()
    }

    /// Takes the text that [`Pair::begin`] began, with the value behind it; it is shorter than 4 GiB.
    pub(crate) fn end(self, text: &[u8]) -> Pair {
        let Self { tag, key, start, value } = self;
        Pair(Entry { own: Some(Arc::from(text)), tag, key, start, value, end: number(text.len()) })
    }
}

/// A range of bytes.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

/// One member of the data object: places in a text of its own or, without one, in the record as loaded. They are always
/// whole UTF-8 characters, as they were cut out of a `&str`.
#[derive(Clone)]
struct Entry {
    own: Option<Arc<[u8]>>,
    /// A number made of the key, so that other keys need not be looked at.
    tag: u32,
    /// The key as handlers call it.
    key: Span,
    /// Where `"key":value` begins as it is written, without spaces.
    start: u32,
    /// Where the value begins: valid JSON, exactly one value.
    value: u32,
    end: u32,
}

impl Entry {
    fn part<'a>(&'a self, loaded: &'a [u8], start: u32, end: u32) -> &'a [u8] {
        self.own.as_deref().unwrap_or(loaded).get(start as usize..end as usize).unwrap_or_default()
    }

    fn key<'a>(&'a self, loaded: &'a [u8]) -> &'a [u8] {
        self.part(loaded, self.key.start, self.key.end)
    }

    fn value<'a>(&'a self, loaded: &'a [u8]) -> &'a [u8] {
        self.part(loaded, self.value, self.end)
    }

    /// Returns key and value as JSON.
    fn member<'a>(&'a self, loaded: &'a [u8]) -> &'a [u8] {
        self.part(loaded, self.start, self.end)
    }
}

/// The data object of a record. Unchanged values are copied as they are when it is written again.
#[derive(Clone, Default)]
pub(crate) struct Document {
    loaded: Bytes,
    entries: Vec<Entry>,
}

impl Document {
    /// Creates an empty document with room for `keys`, that can refer to parts of `loaded`.
    pub(crate) fn over(loaded: Bytes, keys: usize) -> Self {
        Self { loaded, entries: Vec::with_capacity(keys) }
    }

    /// Adds an entry as it was read. The caller answers for keys being distinct.
    pub(crate) fn push_loaded(&mut self, key: Cow<'_, str>, value: &str) {
        if let Cow::Borrowed(key) = key
            && let Some(start) = self.place(key).and_then(|start| start.checked_sub(1))
            && self.place(value) == Some(start + key.len() + 3)
            && self.loaded.get(start..).is_some_and(|rest| rest.first() == Some(&b'"'))
            && self.loaded.get(start + 1 + key.len()..).is_some_and(|rest| rest.starts_with(b"\":"))
        {
            let value_start = start + key.len() + 3;
            self.push_member(start, value_start, value_start + value.len());
        } else {
            self.entries.push(Pair::new(&key, value).0);
        }
    }

    /// Adds the entry that stands in the loaded bytes as `"key":value`, without escapes in the key. The caller answers
    /// for that, and for keys being distinct.
    pub(crate) fn push_member(&mut self, start: usize, value: usize, end: usize) {
        let key = Span { start: number(start + 1), end: number(value.saturating_sub(2)) };
        self.entries.push(Entry {
            own: None,
            tag: tag(self.loaded.get(start + 1..value.saturating_sub(2)).unwrap_or_default()),
            key,
            start: number(start),
            value: number(value),
            end: number(end),
        });
    }

    /// Returns where in the loaded bytes a slice of them begins; `None` for a slice of anything else.
    fn place(&self, part: &str) -> Option<usize> {
        let start = (part.as_ptr() as usize).wrapping_sub(self.loaded.as_ptr() as usize);
        (start.saturating_add(part.len()) <= self.loaded.len()).then_some(start)
    }

    /// Returns whether a key is there twice.
    pub(crate) fn has_duplicates(&self) -> bool {
        // Equal keys set the same bit. Where no bit is set twice, and in most sessions none is, nothing needs comparing.
        let mut seen = [0_u64; 16];
        let clash = self.entries.iter().any(|entry| {
            let bit = 1 << (entry.tag % 64);
            seen.get_mut(entry.tag as usize / 64 % 16).is_none_or(|word| {
                let before = *word;
                *word |= bit;
                before & bit != 0
            })
        });
        if !clash {
            return false;
        }
        let mut keys: SmallVec<[&[u8]; 32]> =
            self.entries.iter().map(|entry| entry.key(&self.loaded)).collect();
        keys.sort_unstable();
        keys.windows(2).any(|pair| pair.first() == pair.last())
    }

    fn find(&self, tag: u32, key: &[u8]) -> Option<usize> {
        self.entries.iter().position(|entry| entry.tag == tag && entry.key(&self.loaded) == key)
    }

    /// Returns the raw JSON under `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let entry = self.entries.get(self.find(tag(key.as_bytes()), key.as_bytes())?)?;
        Some(str::from_utf8(entry.value(&self.loaded)).unwrap_or_default())
    }

    /// Stores a pair; `true` if that is a change.
    pub(crate) fn set(&mut self, pair: &Pair) -> bool {
        match self.find(pair.0.tag, pair.0.key(&[])).and_then(|at| self.entries.get_mut(at)) {
            Some(entry) if entry.value(&self.loaded) == pair.value() => return false,
            Some(entry) => *entry = pair.0.clone(),
            None => self.entries.push(pair.0.clone()),
        }
        true
    }

    /// Removes `key`; `true` if it was there.
    pub(crate) fn remove(&mut self, key: &str) -> bool {
        let found = self.find(tag(key.as_bytes()), key.as_bytes());
        if let Some(at) = found {
            self.entries.remove(at);
        }
        found.is_some()
    }

    /// Removes everything; `true` if there was something.
    pub(crate) fn clear(&mut self) -> bool {
        let had = !self.entries.is_empty();
        self.entries.clear();
        had
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Yields keys with their raw JSON, in the order they were first written.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = |part| str::from_utf8(part).unwrap_or_default();
        self.entries.iter().map(move |entry| (text(entry.key(&self.loaded)), text(entry.value(&self.loaded))))
    }

    /// Returns how many bytes [`write_json`](Self::write_json) writes.
    pub(crate) fn json_len(&self) -> usize {
        let members: usize = self.entries.iter().map(|entry| (entry.end - entry.start) as usize).sum();
        2 + members + self.entries.len().saturating_sub(1)
    }

    /// Writes the document as one JSON object, without spaces.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (index, entry) in self.entries.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(entry.member(&self.loaded));
        }
        out.push(b'}');
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({} keys)", self.entries.len())
    }
}

/// Makes a number of the length and the last bytes of a key, in which keys of one session differ most.
fn tag(key: &[u8]) -> u32 {
    let tail = match key.last_chunk() {
        Some(tail) => u64::from_le_bytes(*tail),
        None => key.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    // The odd number is that of Fibonacci hashing: the highest bits of the product depend on all of the key's.
    ((tail ^ key.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Places in texts are held in 32 bits, and records and values of 4 GiB are refused before they come here.
#[allow(clippy::cast_possible_truncation)]
fn number(place: usize) -> u32 {
    debug_assert!(u32::try_from(place).is_ok());
    place as u32
}

/// A JSON string: the text as it is where nothing needs escaping, which is nearly always.
pub(crate) enum JsonString<'a> {
    Plain(&'a str),
    Escaped(String),
}

impl JsonString<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Plain(text) => text.len() + 2,
            Self::Escaped(text) => text.len(),
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Plain(text) => {
                out.push(b'"');
                out.extend_from_slice(text.as_bytes());
                out.push(b'"');
            }
            Self::Escaped(text) => out.extend_from_slice(text.as_bytes()),
        }
    }
}

/// Returns `text` as a JSON string.
pub(crate) fn json_string(text: &str) -> JsonString<'_> {
    if plain_len(text.as_bytes()) == text.len() {
        JsonString::Plain(text)
    } else {
        JsonString::Escaped(serde_json::Value::from(text).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(document: &Document) -> String {
        let mut out = Vec::new();
        document.write_json(&mut out);
        assert_eq!(out.len(), document.json_len());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn loaded_values_are_referred_to_and_written_ones_replace_them() {
        let loaded = Bytes::from_static(br#"{"a":[1, 2],"b":"x"}"#);
        let text = str::from_utf8(&loaded).unwrap();
        let mut document = Document::over(loaded.clone(), 2);
        document.push_loaded(Cow::Borrowed(&text[2..3]), &text[5..11]);
        document.push_loaded(Cow::Borrowed(&text[13..14]), &text[16..19]);
        assert!(document.entries.iter().all(|entry| entry.own.is_none()));
        assert_eq!(document.get("a"), Some("[1, 2]"));
        assert!(document.set(&Pair::new("b", "2")));
        assert!(!document.set(&Pair::new("b", "2")), "the same value is no change");
        assert_eq!(json(&document), r#"{"a":[1, 2],"b":2}"#);
        assert!(document.remove("a") && !document.remove("a"));
        assert_eq!(json(&document), r#"{"b":2}"#);
    }

    #[test]
    fn what_is_not_written_as_we_write_it_is_copied() {
        let loaded = Bytes::from_static(br#"{"a" :1,"b": 2,"c"\u003a3,"d":4}"#);
        let text = str::from_utf8(&loaded).unwrap();
        let mut document = Document::over(loaded.clone(), 4);
        document.push_loaded(Cow::Borrowed(&text[2..3]), &text[6..7]);
        document.push_loaded(Cow::Borrowed(&text[9..10]), &text[13..14]);
        document.push_loaded(Cow::Borrowed(&text[16..17]), &text[24..25]);
        document.push_loaded(Cow::Borrowed("d"), &text[30..31]);
        document.push_loaded(Cow::Owned("e".to_owned()), "5");
        assert!(document.entries.iter().all(|entry| entry.own.is_some()));
        assert_eq!(json(&document), r#"{"a":1,"b":2,"c":3,"d":4,"e":5}"#);
    }

    #[test]
    fn a_key_that_is_there_twice_is_found_among_however_many() {
        for count in [2, 3, 20, 1000] {
            let mut document = Document::default();
            for number in 0..count {
                document.push_loaded(Cow::Owned(format!("a long key of number {number}")), "1");
            }
            assert!(!document.has_duplicates(), "{count}");
            document.push_loaded(Cow::Owned(format!("a long key of number {}", count / 2)), "1");
            assert!(document.has_duplicates(), "{count}");
        }
        let mut document = Document::default();
        for key in ["", "a", "b", "aa", "aaaaaaaaa", "baaaaaaaa"] {
            document.push_loaded(Cow::Borrowed(key), "1");
        }
        assert!(!document.has_duplicates());
    }

    #[test]
    fn keys_that_need_escaping_are_escaped() {
        let mut document = Document::default();
        for key in ["", "a\"b", "back\\slash", "line\nfeed", "nul\0", "emoji 🦀", "__proto__", "$where.a"] {
            assert!(document.set(&Pair::new(key, "1")));
        }
        let back: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&json(&document)).unwrap();
        assert!(document.get("a\"b") == Some("1") && document.get("").is_some());
        assert_eq!(back.len(), 8);
        assert!(back.contains_key("a\"b") && back.contains_key("nul\0"));
    }

    #[test]
    fn debug_shows_no_data() {
        let mut document = Document::default();
        document.set(&Pair::new("secret", "\"value\""));
        assert_eq!(format!("{document:?}"), "Document(1 keys)");
    }
}
