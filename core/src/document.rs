//! A session's data: an ordered map from text keys to raw JSON, decoded only where a handler looks.

use std::{borrow::Cow, fmt, str, sync::Arc};

use bytes::Bytes;

use crate::scan::plain_len;

/// The most keys a session may have. Look-ups are linear, and nothing a browser session is for needs more.
pub(crate) const MAX_KEYS: usize = 1024;

/// Text that is either still part of the bytes as loaded, or was written since.
#[derive(Clone)]
pub(crate) enum Text {
    /// Byte range of the loaded record; always whole UTF-8 characters, since it came from a `&str` of it.
    Loaded { start: u32, end: u32 },
    /// Shared with the operation log.
    Written(Arc<str>),
}

impl Text {
    /// Returns the text as bytes: to compare and to copy it needs no check that it is UTF-8.
    fn resolve<'a>(&'a self, loaded: &'a Bytes) -> &'a [u8] {
        match self {
            Self::Loaded { start, end } => loaded.get(*start as usize..*end as usize).unwrap_or_default(),
            Self::Written(text) => text.as_bytes(),
        }
    }

    fn resolve_str<'a>(&'a self, loaded: &'a Bytes) -> &'a str {
        match self {
            Self::Loaded { .. } => str::from_utf8(self.resolve(loaded)).unwrap_or_default(),
            Self::Written(text) => text,
        }
    }
}

#[derive(Clone)]
struct Entry {
    key: Text,
    /// Valid JSON, exactly one value.
    value: Text,
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
        let key = match key {
            Cow::Borrowed(key) => self.locate(key),
            Cow::Owned(key) => Text::Written(key.into()),
        };
        let value = self.locate(value);
        self.entries.push(Entry { key, value });
    }

    /// Turns a slice of the loaded bytes into its range; a slice of anything else is copied.
    fn locate(&self, part: &str) -> Text {
        let start = (part.as_ptr() as usize).wrapping_sub(self.loaded.as_ptr() as usize);
        match (u32::try_from(start), u32::try_from(start.saturating_add(part.len()))) {
            (Ok(start), Ok(end)) if end as usize <= self.loaded.len() => Text::Loaded { start, end },
            _ => Text::Written(part.into()),
        }
    }

    /// Returns the raw JSON under `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let entry = self.entries.iter().find(|entry| entry.key.resolve(&self.loaded) == key.as_bytes())?;
        Some(entry.value.resolve_str(&self.loaded))
    }

    /// Stores raw JSON under `key`; `true` if that is a change.
    pub(crate) fn set(&mut self, key: &Arc<str>, value: Arc<str>) -> bool {
        let loaded = &self.loaded;
        match self.entries.iter_mut().find(|entry| entry.key.resolve(loaded) == key.as_bytes()) {
            Some(entry) if entry.value.resolve(loaded) == value.as_bytes() => false,
            Some(entry) => {
                entry.value = Text::Written(value);
                true
            }
            None => {
                self.entries.push(Entry { key: Text::Written(Arc::clone(key)), value: Text::Written(value) });
                true
            }
        }
    }

    /// Removes `key`; `true` if it was there.
    pub(crate) fn remove(&mut self, key: &str) -> bool {
        let before = self.entries.len();
        let loaded = &self.loaded;
        self.entries.retain(|entry| entry.key.resolve(loaded) != key.as_bytes());
        self.entries.len() != before
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
        self.entries
            .iter()
            .map(|entry| (entry.key.resolve_str(&self.loaded), entry.value.resolve_str(&self.loaded)))
    }

    /// Yields keys with their raw JSON as it is written.
    fn pieces(&self) -> impl Iterator<Item = (JsonString<'_>, &[u8])> {
        self.entries
            .iter()
            .map(|entry| (json_string_of(entry.key.resolve(&self.loaded)), entry.value.resolve(&self.loaded)))
    }

    /// Returns how many bytes [`write_json`](Self::write_json) writes.
    pub(crate) fn json_len(&self) -> usize {
        let entries: usize = self.pieces().map(|(key, value)| key.len() + 1 + value.len()).sum();
        2 + entries + self.entries.len().saturating_sub(1)
    }

    /// Writes the document as one JSON object, without spaces.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (index, (key, value)) in self.pieces().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            key.write(out);
            out.push(b':');
            out.extend_from_slice(value);
        }
        out.push(b'}');
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({} keys)", self.entries.len())
    }
}

/// A JSON string: the text as it is where nothing needs escaping, which is nearly always.
pub(crate) enum JsonString<'a> {
    Plain(&'a [u8]),
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
                out.extend_from_slice(text);
                out.push(b'"');
            }
            Self::Escaped(text) => out.extend_from_slice(text.as_bytes()),
        }
    }
}

/// Returns `text` as a JSON string.
pub(crate) fn json_string(text: &str) -> JsonString<'_> {
    json_string_of(text.as_bytes())
}

/// The same for bytes known to be text, which are checked to be only if anything needs escaping.
fn json_string_of(text: &[u8]) -> JsonString<'_> {
    if plain_len(text) == text.len() {
        JsonString::Plain(text)
    } else {
        let text = str::from_utf8(text).unwrap_or_default();
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
        assert!(matches!(document.entries[0].value, Text::Loaded { start: 5, end: 11 }));
        assert_eq!(document.get("a"), Some("[1, 2]"));
        assert!(document.set(&"b".into(), "2".into()));
        assert!(!document.set(&"b".into(), "2".into()), "the same value is no change");
        assert_eq!(json(&document), r#"{"a":[1, 2],"b":2}"#);
        assert!(document.remove("a") && !document.remove("a"));
        assert_eq!(json(&document), r#"{"b":2}"#);
    }

    #[test]
    fn keys_that_need_escaping_are_escaped() {
        let mut document = Document::default();
        for key in ["", "a\"b", "back\\slash", "line\nfeed", "nul\0", "emoji 🦀", "__proto__", "$where.a"] {
            assert!(document.set(&key.into(), "1".into()));
        }
        let back: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&json(&document)).unwrap();
        assert_eq!(back.len(), 8);
        assert!(back.contains_key("a\"b") && back.contains_key("nul\0"));
    }

    #[test]
    fn debug_shows_no_data() {
        let mut document = Document::default();
        document.set(&"secret".into(), "\"value\"".into());
        assert_eq!(format!("{document:?}"), "Document(1 keys)");
    }
}
