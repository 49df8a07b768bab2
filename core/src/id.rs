//! What the browser holds (an id) and what the store sees (a key), and the one-way street between them.

use std::{fmt, str};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use zeroize::Zeroize;

use crate::{
    error::{Error, ErrorKind, Result},
    ids::IdShape,
};

/// Bytes of randomness in a native id: 256 bits, from the operating system.
const ID_BYTES: usize = 32;

/// Length of a native id as text: 32 bytes in base64url without padding.
pub(crate) const ID_CHARS: usize = 43;

/// Separates the hash of an id from every other use of SHA-256 over the same bytes. With a native id it makes 55 bytes,
/// which is what one block of SHA-256 holds; one byte more, and every request that loads would hash a second block.
const KEY_DOMAIN: &[u8; 55 - ID_CHARS] = b"cloakroom/1\0";

/// Separates the short hash in log lines from the store key, so that a log line is no prefix of a key.
const FINGERPRINT_DOMAIN: &[u8] = b"cloakroom/1/log\0";

/// Separates the key of the note that a session leaves when it moves over from another format from every session's key.
const MOVED_DOMAIN: &[u8] = b"cloakroom/1/moved\0";

/// What the browser holds: the ticket. Whoever has it has the session.
///
/// A native id is 256 bits from the operating system's random source, written as 43 characters of base64url
/// (RFC 4648, section 5, without padding). It never reaches a store, a log line or an error; `Debug` shows a short
/// hash. The text is wiped from memory when the value is dropped, as far as that can be done.
#[derive(PartialEq, Eq)]
pub struct SessionId(SmallVec<[u8; 48]>);

impl SessionId {
    /// Creates a new id from the operating system's random source.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] when the operating system has no random bytes to give. Nothing weaker is used instead.
    pub fn generate() -> Result<Self> {
        let mut random = [0_u8; ID_BYTES];
        getrandom::fill(&mut random).map_err(|error| {
            Error::new(ErrorKind::Backend)
                .operation("generate id")
                .hint("the operating system gave no random bytes")
                .with_source(error.to_string())
        })?;
        let mut text = SmallVec::from_buf_and_len([0_u8; 48], ID_CHARS);
        // 32 bytes always take 43 characters; a wrong length would be a bug in the constants above.
        let written = URL_SAFE_NO_PAD.encode_slice(random, &mut text).unwrap_or(0);
        random.zeroize();
        debug_assert_eq!(written, ID_CHARS);
        Ok(Self(text))
    }

    /// Reads a native id from a cookie's value: exactly 43 characters of the base64url alphabet, nothing decoded.
    ///
    /// Anything else is `None`: a malformed id is no session, never an error.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        IdShape::NATIVE.parse(text)
    }

    /// Returns what stands for the id of a session that was found by its key.
    pub(crate) fn unknown() -> Self {
        Self(SmallVec::new())
    }

    /// Takes text that has been checked against an [`IdShape`], which is ASCII at least.
    pub(crate) fn from_checked(text: &[u8]) -> Self {
        Self(SmallVec::from_slice(text))
    }

    /// Returns the text of the id. Treat it as a password.
    #[must_use]
    pub fn expose(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns the store key: base64url of SHA-256 over a domain label and the id, 43 characters.
    ///
    /// A leaked database therefore holds no usable ticket, and a lookup's timing tells nothing about an id
    /// (the class of CVE-2019-16782).
    #[must_use]
    pub fn key(&self) -> Key {
        let digest = Sha256::new().chain_update(KEY_DOMAIN).chain_update(&self.0).finalize();
        let mut text = SmallVec::from_buf_and_len([0_u8; 64], ID_CHARS);
        let written = URL_SAFE_NO_PAD.encode_slice(digest, &mut text).unwrap_or(0);
        debug_assert_eq!(written, ID_CHARS);
        Key(text)
    }
}

// By hand, here and for keys: the derived one copies byte by byte.
impl Clone for SessionId {
    fn clone(&self) -> Self {
        Self(SmallVec::from_slice(&self.0))
    }
}

impl Drop for SessionId {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId(#{})", self.key().fingerprint())
    }
}

/// What the store sees: 1 to 255 printable ASCII bytes (0x21 to 0x7E), opaque.
///
/// A store never parses a key and never lets it become SQL, a glob or an operator. Keys compare and sort bytewise.
/// `Debug` shows a short hash, since some wire formats put the id itself into the key.
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(SmallVec<[u8; 64]>);

impl Key {
    /// The longest key, in bytes.
    pub const MAX_LEN: usize = 255;

    /// Creates a key from its text.
    ///
    /// # Errors
    /// [`ErrorKind::Value`] when the text is empty, longer than 255 bytes, or not printable ASCII.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let bytes = text.as_ref().as_bytes();
        if bytes.is_empty() || bytes.len() > Self::MAX_LEN || !bytes.iter().all(u8::is_ascii_graphic) {
            return Err(Error::new(ErrorKind::Value)
                .operation("make key")
                .hint("a key is 1 to 255 printable ASCII bytes without spaces"));
        }
        Ok(Self(SmallVec::from_slice(bytes)))
    }

    /// Returns the key's text, for the backend only.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns the key's bytes, for the backend only.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the key, in the store that a session has moved to, of the note that it is gone from under this one.
    pub(crate) fn moved(&self) -> Self {
        let digest = Sha256::new().chain_update(MOVED_DOMAIN).chain_update(&self.0).finalize();
        let mut text = SmallVec::from_buf_and_len([0_u8; 64], ID_CHARS);
        let written = URL_SAFE_NO_PAD.encode_slice(digest, &mut text).unwrap_or(0);
        debug_assert_eq!(written, ID_CHARS);
        Self(text)
    }

    /// Returns eight hexadecimal characters that tell sessions apart in log lines and can be turned into neither
    /// the key nor the id.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let digest = Sha256::new().chain_update(FINGERPRINT_DOMAIN).chain_update(&self.0).finalize();
        Fingerprint([digest[0], digest[1], digest[2], digest[3]])
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        Self(SmallVec::from_slice(&self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(#{})", self.fingerprint())
    }
}

/// A short hash of a key, the only thing about a session that a log line may hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 4]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_id_is_43_base64url_characters_and_reads_back() {
        let id = SessionId::generate().unwrap();
        assert_eq!(id.expose().len(), 43);
        assert_eq!(SessionId::parse(id.expose().as_bytes()), Some(id));
    }

    #[test]
    fn ids_do_not_repeat_and_their_bits_are_even() {
        let mut seen = HashSet::new();
        let mut ones = [0_u32; 256];
        let rounds = 20_000;
        for _ in 0..rounds {
            let id = SessionId::generate().unwrap();
            let bytes = URL_SAFE_NO_PAD.decode(id.expose()).unwrap();
            for (bit, count) in ones.iter_mut().enumerate() {
                *count += u32::from(bytes[bit / 8] >> (bit % 8) & 1);
            }
            assert!(seen.insert(bytes));
        }
        // Six standard deviations of a fair coin; all 256 bits stay inside in all but one run of two million.
        let (mean, deviation) = (f64::from(rounds) / 2.0, (f64::from(rounds) / 4.0).sqrt());
        assert!(ones.iter().all(|&count| (f64::from(count) - mean).abs() < 6.0 * deviation));
    }

    #[test]
    fn anything_but_43_base64url_characters_is_no_id() {
        let good = "A".repeat(43);
        assert!(SessionId::parse(good.as_bytes()).is_some());
        for bad in
            ["", &good[1..], &format!("{good}A"), &good.replacen('A', "+", 1), &good.replacen('A', "é", 1)]
        {
            assert_eq!(SessionId::parse(bad.as_bytes()), None);
        }
        for byte in [b'\0', b'\r', b'\n', b' ', b'%', b'=', b'/', b';', 0x80, 0xff] {
            let mut text = good.clone().into_bytes();
            text[7] = byte;
            assert_eq!(SessionId::parse(&text), None);
        }
    }

    #[test]
    fn the_key_of_an_id_is_a_fixed_one_way_function() {
        let id = SessionId::parse("A".repeat(43).as_bytes()).unwrap();
        // Computed apart: base64url(sha256("cloakroom/1\0" + "A" * 43)). A change here logs everybody out.
        assert_eq!(id.key().as_str(), "pOBRgy8YNuXI5YkMlQt5xX13u45an7NbFEfEKHOVNoQ");
        assert_ne!(id.key().as_str(), id.expose());
    }

    #[test]
    fn the_key_of_a_note_is_no_sessions_key() {
        let text = "A".repeat(43);
        let (id, key) = (SessionId::parse(text.as_bytes()).unwrap(), Key::new(&text).unwrap());
        assert_ne!(key.moved(), id.key(), "though the same text is hashed");
        assert_ne!(id.key().moved(), id.key());
        assert_eq!(key.moved(), key.clone().moved());
    }

    #[test]
    fn keys_of_ids_with_a_common_prefix_share_nothing() {
        let (a, b) = ("A".repeat(43), format!("{}B", "A".repeat(42)));
        let (a, b) =
            (SessionId::parse(a.as_bytes()).unwrap().key(), SessionId::parse(b.as_bytes()).unwrap().key());
        assert_ne!(a.as_bytes()[..4], b.as_bytes()[..4]);
    }

    #[test]
    fn neither_ids_nor_keys_are_shown_by_debug() {
        let id = SessionId::generate().unwrap();
        let (shown_id, shown_key) = (format!("{id:?}"), format!("{:?}", id.key()));
        assert!(!shown_id.contains(&id.expose()[..6]) && !shown_id.contains(&id.key().as_str()[..6]));
        assert!(!shown_key.contains(&id.key().as_str()[..6]));
        assert_eq!(shown_id.trim_start_matches("SessionId"), shown_key.trim_start_matches("Key"));
    }

    #[test]
    fn a_key_is_printable_and_at_most_255_bytes() {
        assert!(Key::new("k".repeat(255)).is_ok());
        assert!(Key::new("sess:{a}*?[x]'\";--$where.a").is_ok());
        for bad in ["", &"k".repeat(256), "a b", "a\nb", "a\0b", "schlüssel"] {
            assert_eq!(Key::new(bad).unwrap_err().kind(), ErrorKind::Value);
        }
    }
}
