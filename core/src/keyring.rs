//! Secrets, newest first, and what is derived from them: the signer of cookies, the keys of records.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Result};

/// Length of a signature as text: the 32 bytes of HMAC-SHA256 in base64url without padding.
pub(crate) const TAG_CHARS: usize = 43;

/// The shortest secret that is accepted, in bytes: as long as the hash (RFC 2104, section 3).
const MIN_SECRET: usize = 32;

/// The salt of HKDF-Extract. Says which program and which version derives the keys.
const EXTRACT_SALT: &[u8] = b"cloakroom/1/keyring";

/// What the signing key is for, as HKDF-Expand's info. Another use of the ring has another label, thus another key.
const SIGNING: &[u8] = b"cloakroom/1/cookie-signature";

/// What encrypts records.
#[cfg(feature = "encrypt")]
const ENCRYPTION: &[u8] = b"cloakroom/1/record-encryption";

/// What tells the key of an encrypted record. Anybody may see it.
#[cfg(feature = "encrypt")]
const ENCRYPTION_ID: &[u8] = b"cloakroom/1/record-encryption-key-id";

/// Starts every signed message. It fills one block of SHA-256 exactly, so that it is hashed once, at the start, and
/// `name=value` of up to 55 bytes still takes one block.
const MESSAGE_LABEL: [u8; 64] =
    *b"cloakroom/1/cookie-signature name=value\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

type HmacSha256 = Hmac<Sha256>;

/// The secrets that sign cookies or encrypt records, newest first: the first signs and encrypts, all of them verify
/// and decrypt.
///
/// A secret is at least 32 bytes from a random source (`openssl rand -base64 48` prints one). To rotate, put a new
/// secret in front on every server; a cookie signed by an older one is still accepted and is signed anew, and a
/// record is encrypted anew when it is next written. Take the old one out after the longest life of a session.
/// Servers that do not know the new secret yet refuse what it signed or encrypted, so with several servers add it at
/// the **end** first, everywhere, and then move it to the front.
///
/// The ring never fails to be made; it is checked when the layer is built: no secret at all, a secret under 32 bytes
/// and the same secret twice are errors there. Each use of the ring has a key of its own, derived with HKDF-SHA256
/// (RFC 5869), so that a signature tells nothing about any other use. `Debug` shows the number of secrets. They are
/// wiped from memory when the last clone of the ring is dropped; clones share them.
///
/// ```
/// use cloakroom_core::Keyring;
///
/// let keys = Keyring::new(["the new secret: 32 bytes or more, random", "the old secret: 32 bytes or more, random"]);
/// assert_eq!(format!("{keys:?}"), "Keyring(2 secrets)");
/// ```
#[derive(Clone)]
pub struct Keyring(Arc<[Zeroizing<Vec<u8>>]>);

impl Keyring {
    /// Creates a ring from its secrets, newest first.
    #[must_use]
    pub fn new<I>(secrets: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        Self(secrets.into_iter().map(|secret| Zeroizing::new(secret.as_ref().to_vec())).collect())
    }

    /// Tells whether the ring can be used; `field` is what the user calls it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an empty ring, a secret under 32 bytes, and the same
    /// secret twice.
    pub(crate) fn check(&self, field: &'static str) -> Result<()> {
        if self.0.is_empty() {
            return Err(Error::config(
                field,
                "has no secret: give it at least one of 32 random bytes or more",
            ));
        }
        for (at, secret) in self.0.iter().enumerate() {
            let number = at + 1;
            if secret.len() < MIN_SECRET {
                return Err(Error::config(
                    field,
                    format!(
                        "secret {number} is {} bytes long: use at least {MIN_SECRET} from a random source, such \
                         as `openssl rand -base64 48`",
                        secret.len()
                    ),
                ));
            }
            if let Some(first) = self.0[..at].iter().position(|earlier| earlier == secret) {
                return Err(Error::config(
                    field,
                    format!("secret {number} is secret {} again: take one of them out", first + 1),
                ));
            }
        }
        Ok(())
    }

    /// Derives what signs and verifies cookies; `field` is what the user calls this ring.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(crate) fn signer(&self, field: &'static str) -> Result<Signer> {
        self.check(field)?;
        Ok(Signer(self.subkeys(SIGNING).map(|key| started(&*key)).collect()))
    }

    /// Derives what encrypts and decrypts records, newest first; `field` is what the user calls this ring.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    #[cfg(feature = "encrypt")]
    pub(crate) fn record_keys(&self, field: &'static str) -> Result<Vec<RecordKey>> {
        self.check(field)?;
        let ids = self.subkeys(ENCRYPTION_ID).map(|digest| std::array::from_fn(|at| digest[at]));
        Ok(self.subkeys(ENCRYPTION).zip(ids).map(|(secret, id)| RecordKey { id, secret }).collect())
    }

    /// Yields one key for each secret, newest first, fit for `purpose` and for nothing else.
    fn subkeys(&self, purpose: &'static [u8]) -> impl Iterator<Item = Zeroizing<[u8; 32]>> {
        // Extracting first makes the secret a message, never an HMAC key: as keys, a secret and the same secret with
        // a zero byte behind it would be one.
        self.0.iter().map(move |secret| {
            let extracted = digest(keyed(EXTRACT_SALT).chain_update(secret.as_slice()));
            digest(keyed(&*extracted).chain_update(purpose).chain_update([1]))
        })
    }
}

/// Shows the number of secrets.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} secrets)", self.0.len())
    }
}

/// What one secret of the ring gives for records. Has no `Debug`.
#[cfg(feature = "encrypt")]
pub(crate) struct RecordKey {
    /// Stored with each record; one secret's is another's once in 2⁶⁴ pairs.
    pub(crate) id: [u8; Self::ID_LEN],
    pub(crate) secret: Zeroizing<[u8; 32]>,
}

#[cfg(feature = "encrypt")]
impl RecordKey {
    pub(crate) const ID_LEN: usize = 8;
}

/// Signs and verifies `name=value`: one prepared HMAC state for each secret, newest first, at least one.
#[derive(Clone)]
pub(crate) struct Signer(Box<[HmacSha256]>);

/// Which secret made a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyAge {
    /// The one that signs today.
    Newest,
    /// One that only verifies; what it signed should be signed anew.
    Older,
}

impl Signer {
    /// Returns the newest key's signature of this value under this cookie name: 43 characters of base64url.
    pub(crate) fn sign(&self, name: &str, value: &[u8]) -> [u8; TAG_CHARS] {
        let mut text = [0_u8; TAG_CHARS];
        let written = URL_SAFE_NO_PAD
            .encode_slice(digest(message(&self.0[0], name, value)).as_slice(), &mut text)
            .unwrap_or(0);
        // 32 bytes always take 43 characters; a wrong length would be a bug in the constants above.
        debug_assert_eq!(written, TAG_CHARS);
        text
    }

    /// Returns which key made `tag` for this value under this cookie name, or `None` if none of them did.
    ///
    /// Takes the same time whichever key fits and wherever a wrong tag differs, and allocates nothing. Only the one
    /// canonical text of a signature is accepted. The price is two or three SHA-256 blocks for each key of the ring.
    pub(crate) fn verify(&self, name: &str, value: &[u8], tag: &[u8]) -> Option<KeyAge> {
        // What came in is decoded: to encode the right tag instead would look secret bytes up in a table. Only 43
        // characters make 32 bytes; the room above them is for a longer text, which the comparison then refuses.
        let mut decoded = [0_u8; 36];
        let length = URL_SAFE_NO_PAD.decode_slice(tag, &mut decoded).ok()?;
        let tag = decoded.get(..length)?;
        let mut found = None;
        for (at, key) in self.0.iter().enumerate() {
            let fits = message(key, name, value).verify_slice(tag).is_ok();
            // No early end: the time must not tell which key it was.
            if fits && found.is_none() {
                found = Some(if at == 0 { KeyAge::Newest } else { KeyAge::Older });
            }
        }
        found
    }
}

/// Shows the number of keys.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} keys)", self.0.len())
    }
}

/// Returns an HMAC under `key` that has taken in the message label.
fn started(key: &[u8]) -> HmacSha256 {
    keyed(key).chain_update(MESSAGE_LABEL)
}

/// Returns the MAC of `name=value`. A cookie name holds no `=`, so no two pairs make one message.
fn message(started: &HmacSha256, name: &str, value: &[u8]) -> HmacSha256 {
    debug_assert!(!name.contains('='), "a cookie name is a token");
    started.clone().chain_update(name).chain_update(b"=").chain_update(value)
}

fn keyed(key: &[u8]) -> HmacSha256 {
    <HmacSha256 as Mac>::new_from_slice(key).expect("HMAC takes a key of any length")
}

/// Ends a MAC and leaves no copy of it behind.
fn digest(mac: HmacSha256) -> Zeroizing<[u8; 32]> {
    let mut bytes = mac.finalize().into_bytes();
    let digest = Zeroizing::new(bytes.into());
    bytes.as_mut_slice().zeroize();
    digest
}

#[cfg(test)]
mod tests {
    use proptest::{
        prelude::{any, prop_assert, prop_assert_eq, prop_assume, proptest},
        sample::Index,
    };

    use super::*;
    use crate::ErrorKind;

    fn secret(seed: u8) -> [u8; 32] {
        std::array::from_fn(|at| seed.wrapping_mul(31).wrapping_add(at as u8))
    }

    fn signer(seeds: &[u8]) -> Signer {
        Keyring::new(seeds.iter().map(|&seed| secret(seed))).signer("keys").unwrap()
    }

    #[test]
    fn a_ring_is_refused_when_it_is_empty_or_a_secret_is_short_or_doubled() {
        let (long, short) = ("a".repeat(32), "a".repeat(31));
        let other = "b".repeat(64);
        let table: &[(&[&str], &str)] = &[
            (&[], "has no secret"),
            (&[""], "secret 1 is 0 bytes long: use at least 32"),
            (&[&short], "secret 1 is 31 bytes long: use at least 32"),
            (&[&long, &short], "secret 2 is 31 bytes long"),
            (&[&long, &other, &long], "secret 3 is secret 1 again: take one of them out"),
        ];
        for (secrets, cure) in table {
            let ring = Keyring::new(*secrets);
            for error in [ring.check("encrypt.keys").unwrap_err(), ring.signer("encrypt.keys").unwrap_err()] {
                assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("encrypt.keys")));
                assert!(error.to_string().contains(cure), "{error}");
                assert!(!error.to_string().contains(&short[..8]), "{error}");
            }
        }
        assert!(Keyring::new([&long, &other]).check("keys").is_ok());
        assert!(Keyring::new([vec![0_u8; 4096]]).check("keys").is_ok());
    }

    #[test]
    fn neither_the_ring_nor_the_signer_shows_a_secret() {
        let ring = Keyring::new(["canary-canary-canary-canary-canary"; 2]);
        assert_eq!(format!("{ring:?}"), "Keyring(2 secrets)");
        assert_eq!(format!("{:#?}", ring.clone()), "Keyring(2 secrets)");
        assert_eq!(format!("{:?}", signer(&[1, 2, 3])), "Signer(3 keys)");
    }

    #[test]
    fn a_signature_is_a_fixed_function_of_secret_name_and_value() {
        let value = "A".repeat(43);
        let tag = Keyring::new(["0123456789abcdef0123456789abcdef"])
            .signer("keys")
            .unwrap()
            .sign("__Host-sid", value.as_bytes());
        // Computed apart, with Python's hmac: HKDF-SHA256(salt "cloakroom/1/keyring", info
        // "cloakroom/1/cookie-signature"), then HMAC over the label, zero-filled to 64 bytes, and the pair.
        // A change here logs everybody out.
        assert_eq!(str::from_utf8(&tag).unwrap(), "xPmDPstgME79JVhDgi-n9CtnB3v2Kkf4eUT2C1kyYl0");
    }

    #[test]
    fn a_secret_and_the_same_secret_with_a_zero_byte_behind_it_are_two() {
        let (one, two) = (vec![7_u8; 40], [vec![7_u8; 40], vec![0]].concat());
        let tag = Keyring::new([&one]).signer("keys").unwrap().sign("sid", b"x");
        assert_eq!(Keyring::new([&two]).signer("keys").unwrap().verify("sid", b"x", &tag), None);
    }

    #[test]
    fn the_newest_key_signs_and_every_key_verifies() {
        let tags: Vec<_> = [1, 2, 3].iter().map(|&seed| signer(&[seed]).sign("sid", b"value")).collect();
        let ring = signer(&[3, 2, 1]);
        assert_eq!(ring.sign("sid", b"value"), tags[2]);
        assert_eq!(ring.verify("sid", b"value", &tags[2]), Some(KeyAge::Newest));
        assert_eq!(ring.verify("sid", b"value", &tags[1]), Some(KeyAge::Older));
        assert_eq!(ring.verify("sid", b"value", &tags[0]), Some(KeyAge::Older));
        assert_eq!(signer(&[3, 2]).verify("sid", b"value", &tags[0]), None);
    }

    #[test]
    fn another_purpose_has_another_key() {
        let ring = Keyring::new([secret(1)]);
        let (a, b) =
            (ring.subkeys(SIGNING).next().unwrap(), ring.subkeys(b"cloakroom/1/other").next().unwrap());
        assert_ne!(*a, *b);
        assert_ne!(*a, secret(1));
    }

    #[cfg(feature = "encrypt")]
    #[test]
    fn a_key_identifier_is_no_part_of_its_key_nor_of_any_other() {
        let ring = Keyring::new([secret(1), secret(2)]);
        let keys = ring.record_keys("encrypt").unwrap();
        assert_ne!(keys[0].id, keys[1].id);
        for RecordKey { id, .. } in &keys {
            let others = keys.iter().map(|key| *key.secret).chain(ring.subkeys(SIGNING).map(|key| *key));
            for key in others.chain([secret(1), secret(2)]) {
                assert!(!key.windows(id.len()).any(|part| part == id));
            }
        }
    }

    #[test]
    fn a_tag_has_one_text_only() {
        let ring = signer(&[1]);
        let tag = ring.sign("sid", b"value");
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let accepted = alphabet
            .iter()
            .filter(|&&last| {
                let mut other = tag;
                other[TAG_CHARS - 1] = last;
                ring.verify("sid", b"value", &other).is_some()
            })
            .count();
        assert_eq!(accepted, 1, "the two spare bits of the last character are no place to hide in");
        for wrong in [&tag[..42], &[&tag[..], b"="].concat(), &[&tag[..], b"A"].concat(), b""] {
            assert_eq!(ring.verify("sid", b"value", wrong), None);
        }
    }

    proptest! {
        #[test]
        fn no_two_pairs_share_a_signature(
            text in "[a-z]{2,40}", one in any::<Index>(), two in any::<Index>(),
        ) {
            let (one, two) = (one.index(text.len() - 1) + 1, two.index(text.len() - 1) + 1);
            prop_assume!(one != two);
            let ring = signer(&[1]);
            let tag = ring.sign(&text[..one], &text.as_bytes()[one..]);
            prop_assert_eq!(ring.verify(&text[..one], &text.as_bytes()[one..], &tag), Some(KeyAge::Newest));
            prop_assert_eq!(ring.verify(&text[..two], &text.as_bytes()[two..], &tag), None);
            // A value may hold a `=`, a name may not.
            let shifted = [b"=", &text.as_bytes()[one..]].concat();
            prop_assert!(ring.verify(&text[..one], &shifted, &tag).is_none());
        }

        #[test]
        fn no_tag_from_outside_panics_or_fits(tag in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(signer(&[1, 2]).verify("sid", b"value", &tag), None);
        }
    }
}
