//! What stands under a key in one of the two stores: a session's value, or a note of the move.

use bytes::{BufMut, Bytes, BytesMut};
use cloakroom_core::{Error, ErrorKind, Result, Ttl};

/// Begins every note. No session's value may begin so; [`check`] refuses it.
const NOTE: &[u8; 16] = b"\0cloakroom/move\x01";

/// Says in `from` that the session was moved to `to`, so that its entry in the index of `from` still counts there.
pub(super) const MOVED: Bytes = Bytes::from_static(b"\0cloakroom/move\x01M");

const PENDING: u8 = b'P';
const VERIFIED: u8 = b'V';

/// Bytes that tell one claim from every other.
const NONCE: usize = 16;

/// Where the value begins in a claim: after the note, the stage, the nonce and the ttl.
const VALUE: usize = NOTE.len() + 1 + NONCE + 8;

/// What stands under a key.
pub(super) enum Held {
    Value(Bytes),
    /// In `to`: the value is under way.
    Claim(Claim),
    /// In `from`: the value is not here any more.
    Moved,
}

impl Held {
    /// Tells a value from a note.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for a note that is none of ours, or of a later version.
    pub(super) fn read(bytes: Bytes) -> Result<Self> {
        let Some(note) = bytes.strip_prefix(NOTE) else {
            return Ok(Self::Value(bytes));
        };
        let stage = match note.first() {
            Some(&PENDING) => Stage::Pending,
            Some(&VERIFIED) => Stage::Verified,
            _ if bytes == MOVED => return Ok(Self::Moved),
            _ => return Err(unreadable()),
        };
        let millis = bytes.get(VALUE - 8..VALUE).and_then(|millis| millis.try_into().ok());
        let ttl = Ttl::from_millis(u64::from_be_bytes(millis.ok_or_else(unreadable)?));
        Ok(Self::Claim(Claim { stage, ttl, value: bytes.slice(VALUE..), raw: bytes }))
    }
}

/// How far a claim has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Worth nothing by itself: nobody has looked into `from` since it was made.
    Pending,
    /// The value was seen in `from` while this claim stood in `to`: it is the session now.
    Verified,
}

/// A value on its way, as it stands in `to`. Each is different from every other, so that a compare-and-swap of one
/// cannot meet another.
pub(super) struct Claim {
    pub(super) stage: Stage,
    /// How long the value is to live in `to`.
    pub(super) ttl: Ttl,
    pub(super) value: Bytes,
    /// The claim as it is stored.
    pub(super) raw: Bytes,
}

impl Claim {
    /// # Errors
    /// [`ErrorKind::Backend`] when the operating system has no random bytes.
    pub(super) fn pending(value: &[u8], ttl: Ttl) -> Result<Self> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| {
            Error::new(ErrorKind::Backend)
                .store("migrating")
                .hint("the operating system gave no random bytes")
                .with_source(error.to_string())
        })?;
        Ok(Self::write(Stage::Pending, &nonce, ttl, value))
    }

    /// Returns the same claim at its second stage.
    pub(super) fn verified(&self) -> Self {
        let nonce = &self.raw[NOTE.len() + 1..][..NONCE];
        Self::write(Stage::Verified, nonce, self.ttl, &self.value)
    }

    fn write(stage: Stage, nonce: &[u8], ttl: Ttl, value: &[u8]) -> Self {
        let mut raw = BytesMut::with_capacity(VALUE + value.len());
        raw.put_slice(NOTE);
        raw.put_u8(match stage {
            Stage::Pending => PENDING,
            Stage::Verified => VERIFIED,
        });
        raw.put_slice(nonce);
        raw.put_u64(ttl.millis());
        raw.put_slice(value);
        let raw = raw.freeze();
        Self { stage, ttl, value: raw.slice(VALUE..), raw }
    }
}

/// Refuses a value that would be taken for a note.
///
/// # Errors
/// [`ErrorKind::Value`].
pub(super) fn check(value: &[u8]) -> Result<()> {
    if value.starts_with(NOTE) {
        let error = Error::new(ErrorKind::Value).store("migrating");
        return Err(error.hint("the value begins like a note of the move between two stores"));
    }
    Ok(())
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Corrupt)
        .store("migrating")
        .hint("there is a note of the move that this version does not know")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Ttl = Ttl::from_secs(7);

    #[test]
    fn a_claim_reads_back_at_both_stages() {
        for value in [&b""[..], b"value", NOTE] {
            let pending = Claim::pending(value, TTL).unwrap();
            for (claim, stage) in [(pending.verified(), Stage::Verified), (pending, Stage::Pending)] {
                let Held::Claim(read) = Held::read(claim.raw.clone()).unwrap() else {
                    panic!("it is a claim");
                };
                assert!(read.stage == stage && read.raw == claim.raw);
                assert_eq!((read.ttl, &*read.value), (TTL, value));
            }
        }
    }

    #[test]
    fn no_two_claims_are_equal() {
        assert!(Claim::pending(b"v", TTL).unwrap().raw != Claim::pending(b"v", TTL).unwrap().raw);
    }

    #[test]
    fn what_is_no_note_is_a_value() {
        for value in [&b""[..], b"{}", b"\0cloakroom/move", b"\0cloakroom/move\x02M"] {
            let held = Held::read(Bytes::from_static(value)).unwrap();
            assert!(matches!(held, Held::Value(read) if read == value));
            assert!(check(value).is_ok());
        }
        assert!(matches!(Held::read(MOVED).unwrap(), Held::Moved));
        assert_eq!(check(&MOVED).unwrap_err().kind(), ErrorKind::Value);
    }

    #[test]
    fn a_note_that_is_unknown_or_cut_off_is_neither_a_value_nor_absent() {
        let claim = Claim::pending(b"", TTL).unwrap().raw;
        for note in [Bytes::from_static(NOTE), claim.slice(..VALUE - 1), [&MOVED[..], b"x"].concat().into()] {
            assert_eq!(Held::read(note).err().unwrap().kind(), ErrorKind::Corrupt);
        }
    }
}
