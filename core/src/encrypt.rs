//! Encryption at rest: a record codec around another, so that a store holds and compares sealed bytes only.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use chacha20poly1305::{AeadInPlace, KeyInit, XChaCha20Poly1305};
use smallvec::SmallVec;
use zeroize::Zeroizing;

use crate::{
    document::Document,
    error::{Error, ErrorKind, Result},
    id::Key,
    keyring::{Keyring, RecordKey},
    profile::RecordCodec,
    record::{Decoded, ENCRYPTED, Meta, Millis},
};

/// The format this code writes, and the only one it reads.
const VERSION: u8 = 1;

/// Starts the associated data. Also says what the key is for.
const LABEL: &[u8] = b"cloakroom/1/record-encryption\0";

const HEADER: usize = ENCRYPTED.len() + 1 + RecordKey::ID_LEN;
const NONCE: usize = 24;
const TAG: usize = 16;

/// How much longer an encrypted record is than what is in it.
pub(crate) const OVERHEAD: usize = HEADER + NONCE + TAG;

/// Encrypts what another codec writes with XChaCha20-Poly1305, and binds it to the key it is stored under.
///
/// | bytes of the stored record | |
/// |---|---|
/// | 0 to 2 | `CRe`: an encrypted record; no JSON begins so |
/// | 3 | version: 1 |
/// | 4 to 11 | key identifier: which secret of the ring; derived from it, tells nothing about it |
/// | 12 to 35 | nonce: 192 random bits of the operating system, new for every write |
/// | 36 to n−17 | ciphertext, as long as the record of the inner codec |
/// | n−16 to n−1 | Poly1305 tag |
///
/// The associated data are the label `cloakroom/1/record-encryption` with a zero byte behind it, bytes 0 to 11 as
/// stored, the length of the store key as one byte, and the store key. All but the last are of one length, so no two
/// sets of them make the same bytes.
///
/// Key and key identifier come from the ring by HKDF-SHA256, under the labels `cloakroom/1/record-encryption` and
/// `cloakroom/1/record-encryption-key-id` (the first 8 bytes of that). What is read under an older key is written
/// under the newest the next time it is written, as is every record.
///
/// There is no way to plaintext in here: bytes that do not begin as above are corrupt, and so is a failed tag. A
/// buffer that has held plaintext is wiped when it is dropped, also when reading fails after it was decrypted.
pub(crate) struct EncryptedCodec {
    inner: Arc<dyn RecordCodec>,
    /// Newest first, at least one.
    keys: Box<[SealingKey]>,
    /// The longest stored record, overhead and all.
    limit: usize,
}

impl EncryptedCodec {
    /// Wraps `inner`, which itself must keep to `limit` less [`OVERHEAD`]. `field` is what the user calls the ring.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] as [`Keyring::record_keys`].
    pub(crate) fn new(
        inner: Arc<dyn RecordCodec>,
        ring: &Keyring,
        field: &'static str,
        limit: usize,
    ) -> Result<Self> {
        let keys = ring.record_keys(field)?.iter().map(SealingKey::new).collect();
        Ok(Self { inner, keys, limit })
    }

    /// Encrypts a record under the newest key. Two calls never return the same bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] when the operating system has no random bytes.
    fn seal(&self, key: &Key, plain: Bytes) -> Result<Bytes> {
        // Nobody else has a handle on `plain`, so this takes its buffer over and copies nothing.
        let plain = Zeroizing::new(Vec::from(plain));
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| {
            Error::new(ErrorKind::Backend)
                .operation("save")
                .hint("the operating system gave no random bytes")
                .with_source(error.to_string())
        })?;
        Ok(self.keys[0].seal(key, &nonce, &plain))
    }

    /// Decrypts a record with the key it names.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`]. What is checked before the tag is no secret, so the hint may tell it apart.
    fn open(&self, key: &Key, bytes: &[u8]) -> Result<Bytes> {
        if bytes.len() > self.limit {
            return Err(corrupt("the stored record is larger than the limit"));
        }
        let Some(rest) = bytes.strip_prefix(&ENCRYPTED) else {
            return Err(corrupt("the stored record is not encrypted"));
        };
        if rest.first().is_some_and(|&version| version != VERSION) {
            return Err(corrupt("the stored record is encrypted in an unknown version"));
        }
        let sealed = Sealed::split(bytes).ok_or_else(|| corrupt("the stored record is cut short"))?;
        let with =
            self.keys.iter().find(|candidate| candidate.header == *sealed.header).ok_or_else(|| {
                corrupt("the stored record is encrypted under a secret that is not among those of `encrypt`")
            })?;
        // Checks the tag first: what is not ours is never decrypted.
        let mut plain = Zeroizing::new(sealed.text.to_vec());
        with.cipher
            .decrypt_in_place_detached(
                sealed.nonce.into(),
                &with.bound_to(key),
                &mut plain,
                sealed.tag.into(),
            )
            .map_err(|_| {
                corrupt("the stored record is not as it was written, or not where it was written")
            })?;
        // The owner of these bytes goes with the last handle on them, and wipes them then.
        Ok(Bytes::from_owner(plain))
    }
}

impl RecordCodec for EncryptedCodec {
    fn encode(&self, key: &Key, meta: &Meta, data: &Document) -> Result<Bytes> {
        self.seal(key, self.inner.encode(key, meta, data)?)
    }

    fn decode(&self, key: &Key, bytes: &Bytes) -> Result<Decoded> {
        self.inner.decode(key, &self.open(key, bytes)?)
    }

    fn tombstone(&self, key: &Key, now: Millis) -> Result<Option<Bytes>> {
        self.inner.tombstone(key, now)?.map(|plain| self.seal(key, plain)).transpose()
    }

    fn marks_writes(&self) -> bool {
        self.inner.marks_writes()
    }

    fn keeps_users(&self) -> bool {
        self.inner.keeps_users()
    }
}

/// Shows the number of keys.
impl fmt::Debug for EncryptedCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptedCodec({} keys)", self.keys.len())
    }
}

/// One secret of the ring, ready for use. The cipher wipes its key when it is dropped.
struct SealingKey {
    /// How a record that is encrypted under this key begins.
    header: [u8; HEADER],
    cipher: XChaCha20Poly1305,
}

impl SealingKey {
    fn new(key: &RecordKey) -> Self {
        let mut header = [VERSION; HEADER];
        header[..ENCRYPTED.len()].copy_from_slice(&ENCRYPTED);
        header[ENCRYPTED.len() + 1..].copy_from_slice(&key.id);
        Self { header, cipher: XChaCha20Poly1305::new((&*key.secret).into()) }
    }

    fn seal(&self, key: &Key, nonce: &[u8; NONCE], plain: &[u8]) -> Bytes {
        // Of exactly the final size: growing would leave a copy of the plaintext behind.
        let mut out = Vec::with_capacity(plain.len() + OVERHEAD);
        out.extend_from_slice(&self.header);
        out.extend_from_slice(nonce);
        out.extend_from_slice(plain);
        let tag = self
            .cipher
            .encrypt_in_place_detached(nonce.into(), &self.bound_to(key), &mut out[HEADER + NONCE..])
            .expect("the cipher takes 256 GiB, and a record is shorter");
        out.extend_from_slice(&tag);
        Bytes::from(out)
    }

    /// Returns the associated data.
    fn bound_to(&self, key: &Key) -> SmallVec<[u8; 128]> {
        let key = key.as_bytes();
        let length = u8::try_from(key.len()).expect("a key is at most 255 bytes long");
        [LABEL, &self.header, &[length], key].iter().flat_map(|part| part.iter().copied()).collect()
    }
}

/// The parts of a stored record.
struct Sealed<'a> {
    header: &'a [u8; HEADER],
    nonce: &'a [u8; NONCE],
    text: &'a [u8],
    tag: &'a [u8; TAG],
}

impl<'a> Sealed<'a> {
    /// Splits stored bytes; `None` if they are too few.
    fn split(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (text, tag) = rest.split_last_chunk()?;
        Some(Self { header, nonce, text, tag })
    }
}

fn corrupt(hint: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt).operation("load").hint(hint)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::{
        prelude::{any, prop_assert_eq, proptest},
        sample::Index,
    };

    use super::*;
    use crate::{
        document::Pair,
        profile::tests::{encrypted, native},
    };

    const LIMIT: usize = 64 * 1024;
    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const CANARY: &str = "canary-canary-canary";

    /// A codec whose secrets are told by numbers, newest first.
    fn codec(secrets: &[u8]) -> Arc<dyn RecordCodec> {
        let ring = Keyring::new(secrets.iter().map(|&secret| [secret; 32]));
        encrypted(LIMIT, &ring).unwrap()
    }

    fn key() -> Key {
        Key::new("35XuYCEJRC26W6rYarxsjlweL2szT1tQOSu-FZRFO-g").unwrap()
    }

    fn meta() -> Meta {
        Meta { renewed: 2, ..Meta::starting(1, None) }
    }

    fn document(value: &str) -> Document {
        let mut data = Document::default();
        data.set(&Pair::new("n", &format!("\"{value}\"")));
        data
    }

    fn stored(codec: &dyn RecordCodec) -> Bytes {
        codec.encode(&key(), &meta(), &document(CANARY)).unwrap()
    }

    /// Asserts that `bytes` are refused, and returns why.
    fn refused(codec: &dyn RecordCodec, key: &Key, bytes: impl Into<Bytes>) -> String {
        let error = codec.decode(key, &bytes.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let text = format!("{error} {error:?}");
        assert!(!text.contains("canary") && !text.contains(key.as_str()), "{text}");
        text
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let codec = codec(&[1]);
        let meta = Meta { deadline: Some(9), ttl: Some(5), user: Some("alice".into()), ..meta() };
        let bytes = codec.encode(&key(), &meta, &document(CANARY)).unwrap();
        let Decoded::Session(record) = codec.decode(&key(), &bytes).unwrap() else { panic!("a tombstone") };
        assert_eq!(record.meta, meta);
        assert_eq!(record.data.get("n"), Some(format!("\"{CANARY}\"").as_str()));
        assert_eq!(record.data.len(), 1);
    }

    #[test]
    fn a_tombstone_is_encrypted_and_reads_back() {
        let codec = codec(&[1]);
        let bytes = codec.tombstone(&key(), 7).unwrap().unwrap();
        assert!(bytes.starts_with(&ENCRYPTED));
        assert!(matches!(codec.decode(&key(), &bytes), Ok(Decoded::Tombstone)));
        refused(&*codec, &Key::new("other").unwrap(), bytes);
    }

    #[test]
    fn the_stored_form_is_the_documented_one() {
        let ring = Keyring::new([SECRET]);
        let codec = EncryptedCodec::new(native(LIMIT), &ring, "encrypt", LIMIT).unwrap();
        let plain = br#"{"v":1,"nonce":"00000000000000ab.10","created":1,"renewed":2,"data":{"n":1}}"#;
        let nonce = std::array::from_fn(|at| 0x40 + at as u8);
        // Computed apart, with Python: HKDF of `cryptography`, XChaCha20-Poly1305 of libsodium (PyNaCl).
        // A change here makes every stored record unreadable.
        let expected = "43526501796ed4e7679b6ed3404142434445464748494a4b4c4d4e4f5051525354555657474689b0ea83\
            0ac22561f650b3d595aaa1f9619d8d6ea2be344074cc4b98aa2ddafa959205da086157faa33cf760ef8c2a9f34480005\
            323bc6929e580f9c99e59ba50695c83c078c09daff133c1995cf37728e6e6c331f2e1c5bc4f0";
        let sealed = codec.keys[0].seal(&key(), &nonce, plain);
        let hex: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
        assert_eq!(codec.open(&key(), &sealed).unwrap(), &plain[..]);
        assert_eq!(sealed.len(), plain.len() + OVERHEAD);
        assert_eq!(OVERHEAD, 52, "as Builder::encrypt says");
    }

    #[test]
    fn every_flip_of_a_single_bit_is_refused() {
        // Under three keys, so that a flipped key identifier could name another.
        let codec = codec(&[1, 2, 3]);
        let good = stored(&*codec);
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.to_vec();
                bytes[at] ^= 1 << bit;
                refused(&*codec, &key(), bytes);
            }
        }
        assert!(codec.decode(&key(), &good).is_ok());
    }

    #[test]
    fn every_truncation_and_every_extension_is_refused() {
        let codec = codec(&[1]);
        let good = stored(&*codec);
        for length in 0..good.len() {
            refused(&*codec, &key(), good.slice(..length));
            refused(&*codec, &key(), good.slice(good.len() - length..));
        }
        for byte in 0..=u8::MAX {
            refused(&*codec, &key(), [&good[..], &[byte]].concat());
            refused(&*codec, &key(), [&[byte], &good[..]].concat());
        }
        refused(&*codec, &key(), [&good[..], &good[..]].concat());
    }

    #[test]
    fn parts_of_two_records_do_not_make_a_third() {
        let codec = codec(&[1, 2]);
        let (one, two) = (stored(&*codec), stored(&*codec));
        for cut in 0..one.len() {
            if one[..cut] != two[..cut] && one[cut..] != two[cut..] {
                refused(&*codec, &key(), [&one[..cut], &two[cut..]].concat());
            }
        }
    }

    #[test]
    fn a_record_under_another_key_is_refused_also_if_one_key_begins_with_the_other() {
        let codec = codec(&[1]);
        let keys = ["%", "%%", "%%%", "~", "%~"].map(|text| Key::new(text).unwrap());
        for here in &keys {
            let bytes = codec.encode(here, &meta(), &document(CANARY)).unwrap();
            for there in &keys {
                if here == there {
                    assert!(codec.decode(there, &bytes).is_ok());
                } else {
                    assert!(refused(&*codec, there, bytes.clone()).contains("not where it was written"));
                }
            }
        }
        let longest = Key::new("k".repeat(Key::MAX_LEN)).unwrap();
        let bytes = codec.encode(&longest, &meta(), &document(CANARY)).unwrap();
        assert!(codec.decode(&longest, &bytes).is_ok());
    }

    #[test]
    fn plaintext_is_refused_and_without_keys_an_encrypted_record_is() {
        let (native, codec) = (native(LIMIT), codec(&[1]));
        assert!(refused(&*codec, &key(), stored(&*native)).contains("is not encrypted"));
        let tombstone = native.tombstone(&key(), 7).unwrap().unwrap();
        assert!(refused(&*codec, &key(), tombstone).contains("is not encrypted"));
        assert!(refused(&*codec, &key(), "").contains("is not encrypted"));
        assert!(refused(&*native, &key(), stored(&*codec)).contains("is encrypted"));
    }

    #[test]
    fn plaintext_behind_the_marks_of_an_encrypted_record_is_refused() {
        let codec = codec(&[1]);
        let plain = stored(&*native(LIMIT));
        let good = stored(&*codec);
        for marks in [3, 4, HEADER, HEADER + NONCE] {
            refused(&*codec, &key(), [&good[..marks], &plain[..]].concat());
            refused(&*codec, &key(), [&good[..marks], &plain[..], &[0; TAG]].concat());
        }
    }

    #[test]
    fn the_hint_tells_what_an_operator_can_mend() {
        let codec = codec(&[1]);
        let mut later = stored(&*codec).to_vec();
        later[3] = 2;
        assert!(refused(&*codec, &key(), later).contains("unknown version"));
        assert!(refused(&*codec, &key(), "CRe").contains("cut short"));
        let foreign = stored(&*self::codec(&[2]));
        assert!(refused(&*codec, &key(), foreign).contains("not among those of `encrypt`"));
        assert!(refused(&*codec, &key(), sealed_garbage()).contains("not a session record"));
    }

    /// A record whose tag fits and whose plaintext is no record.
    fn sealed_garbage() -> Bytes {
        let ring = Keyring::new([[1; 32]]);
        let native = native(LIMIT);
        let codec = EncryptedCodec::new(native, &ring, "encrypt", LIMIT).unwrap();
        codec.seal(&key(), Bytes::from_static(CANARY.as_bytes())).unwrap()
    }

    #[test]
    fn the_newest_key_encrypts_and_every_key_of_the_ring_decrypts() {
        let records = [1, 2, 3].map(|secret| stored(&*codec(&[secret])));
        let ring = codec(&[3, 2, 1]);
        for record in &records {
            assert!(ring.decode(&key(), record).is_ok());
        }
        assert_eq!(stored(&*ring)[..HEADER], records[2][..HEADER], "the newest key's mark");
        refused(&*codec(&[3, 2]), &key(), records[0].clone());
    }

    #[test]
    fn nothing_of_the_plaintext_is_in_the_stored_bytes() {
        let codec = codec(&[1]);
        let meta = Meta { user: Some(CANARY.into()), ..meta() };
        for value in ["", CANARY, &CANARY.repeat(1000)] {
            let bytes = codec.encode(&key(), &meta, &document(value)).unwrap();
            for word in [CANARY.as_bytes(), b"nonce", b"data", b"user", key().as_bytes()] {
                assert!(!bytes.windows(word.len()).any(|window| window == word));
            }
        }
    }

    #[test]
    fn nonces_do_not_repeat_and_their_bits_are_even() {
        let codec = codec(&[1]);
        let data = document("");
        let mut seen = HashSet::new();
        let mut ones = [0_u32; 8 * NONCE];
        let rounds = 10_000;
        for _ in 0..rounds {
            let bytes = codec.encode(&key(), &meta(), &data).unwrap();
            let nonce: [u8; NONCE] = bytes[HEADER..HEADER + NONCE].try_into().unwrap();
            for (bit, count) in ones.iter_mut().enumerate() {
                *count += u32::from(nonce[bit / 8] >> (bit % 8) & 1);
            }
            assert!(seen.insert(nonce));
        }
        // Six standard deviations of a fair coin; all 192 bits stay inside in all but one run of two million.
        let (mean, deviation) = (f64::from(rounds) / 2.0, (f64::from(rounds) / 4.0).sqrt());
        assert!(ones.iter().all(|&count| (f64::from(count) - mean).abs() < 6.0 * deviation));
    }

    #[test]
    fn the_limit_is_about_the_stored_bytes_and_checked_before_anything_is_decrypted() {
        let ring = Keyring::new([[1; 32]]);
        let limited = |limit| encrypted(limit, &ring).unwrap();
        let codec = limited(1024);
        let lengths: Vec<_> = (0..1024)
            .map_while(|length| match codec.encode(&key(), &meta(), &document(&"x".repeat(length))) {
                Ok(bytes) => Some(bytes),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TooLarge);
                    None
                }
            })
            .collect();
        let longest = lengths.last().unwrap();
        assert_eq!(longest.len(), 1024);
        assert!(codec.decode(&key(), longest).is_ok());
        assert!(limited(1025).decode(&key(), longest).is_ok());
        assert!(refused(&*limited(1023), &key(), longest.clone()).contains("larger than the limit"));
        let garbage = [&longest[..], b"?"].concat();
        assert!(refused(&*codec, &key(), garbage).contains("larger than the limit"), "not: altered");
    }

    #[test]
    fn debug_shows_the_number_of_keys_and_no_more() {
        assert_eq!(format!("{:?}", codec(&[1, 2])), "EncryptedCodec(2 keys)");
        assert_eq!(format!("{:#?}", codec(&[1])), "EncryptedCodec(1 keys)");
    }

    proptest! {
        #[test]
        fn no_bytes_from_outside_panic_or_fit(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), marks in any::<Index>(),
        ) {
            let codec = codec(&[1, 2]);
            refused(&*codec, &key(), bytes.clone());
            let marks = marks.index(HEADER + 1);
            let marked = [&stored(&*codec)[..marks], &bytes[..]].concat();
            refused(&*codec, &key(), marked);
        }

        #[test]
        fn any_value_and_user_read_back(value in "[^\"\\\\\\x00-\\x1f]{0,300}", user in ".{0,40}") {
            let codec = codec(&[1]);
            let meta = Meta { user: Some(user.into()), ..meta() };
            let bytes = codec.encode(&key(), &meta, &document(&value)).unwrap();
            let decoded = codec.decode(&key(), &bytes).unwrap();
            let Decoded::Session(record) = decoded else { panic!("a tombstone") };
            prop_assert_eq!(record.meta, meta);
            let written = document(&value);
            prop_assert_eq!(record.data.get("n"), written.get("n"));
        }
    }
}
