//! How keys and users are named in Redis: under one prefix, and apart from one another.

use std::fmt;

use cloakroom_core::{Error, Key, Result};

/// What the index keeps stands behind a space, which no [`Key`] contains: nothing of it can be taken for a value.
const USERS: &str = " user ";
const OWNERS: &str = " owner ";

/// The longest prefix, in bytes.
const MAX_PREFIX_LEN: usize = 255;

/// The names under one prefix.
#[derive(Clone)]
pub(super) struct Names {
    prefix: Box<str>,
}

impl Names {
    /// # Errors
    /// [`ErrorKind::Config`](cloakroom_core::ErrorKind::Config) naming `prefix`.
    pub(super) fn new(prefix: &str) -> Result<Self> {
        if prefix.len() > MAX_PREFIX_LEN || !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::config("prefix", "must be at most 255 printable ASCII bytes without spaces"));
        }
        Ok(Self { prefix: prefix.into() })
    }

    /// Returns the name of the value under `key`: the prefix and the key, as they are.
    pub(super) fn value(&self, key: &Key) -> Vec<u8> {
        self.join("", key.as_bytes())
    }

    /// Returns the name of the sorted set of the keys that were bound to `user`.
    pub(super) fn user(&self, user: &str) -> Vec<u8> {
        self.join(USERS, user.as_bytes())
    }

    /// Returns the name of the note that says to whom `key` is bound.
    pub(super) fn owner(&self, key: &Key) -> Vec<u8> {
        self.join(OWNERS, key.as_bytes())
    }

    /// Returns the pattern that matches the names of all values and of nothing else.
    pub(super) fn pattern(&self) -> Vec<u8> {
        let mut pattern = Vec::with_capacity(self.prefix.len() + 8);
        for byte in self.prefix.bytes() {
            if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^' | b'-') {
                pattern.push(b'\\');
            }
            pattern.push(byte);
        }
        pattern.extend_from_slice(b"[!-~]*");
        pattern
    }

    /// Returns the key whose value has this name; `None` if no key of ours has.
    pub(super) fn key(&self, name: &[u8]) -> Option<Key> {
        let key = name.strip_prefix(self.prefix.as_bytes())?;
        Key::new(std::str::from_utf8(key).ok()?).ok()
    }

    fn join(&self, part: &str, rest: &[u8]) -> Vec<u8> {
        let mut name = Vec::with_capacity(self.prefix.len() + part.len() + rest.len());
        name.extend_from_slice(self.prefix.as_bytes());
        name.extend_from_slice(part.as_bytes());
        name.extend_from_slice(rest);
        name
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Names").field(&self.prefix).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use cloakroom_core::ErrorKind;

    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[test]
    fn a_value_is_named_by_the_prefix_and_its_key() {
        let names = Names::new("app:").unwrap();
        assert_eq!(names.value(&key("k")), b"app:k");
        assert_eq!(names.key(b"app:k"), Some(key("k")));
        for other in [&b"app:"[..], b"ap", b"other:k", b"app: user ann", b"app: owner k", b"app:\xff"] {
            assert_eq!(names.key(other), None);
        }
    }

    #[test]
    fn no_two_things_share_a_name() {
        let names = Names::new("app:").unwrap();
        let mut seen = HashSet::new();
        for text in ["a", "user", "owner", "auser", "u", " user a"] {
            if let Ok(key) = Key::new(text) {
                assert!(seen.insert(names.value(&key)) && seen.insert(names.owner(&key)));
            }
            assert!(seen.insert(names.user(text)));
        }
    }

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(Names::new("a*[b]?\\^-").unwrap().pattern(), br"a\*\[b\]\?\\\^\-[!-~]*");
        assert_eq!(Names::new("").unwrap().pattern(), b"[!-~]*");
    }

    #[test]
    fn a_bad_prefix_is_an_error_that_names_the_field() {
        for prefix in ["a b", "a\n", "\u{e9}", &"p".repeat(256)] {
            let error = Names::new(prefix).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("prefix")));
        }
    }
}
