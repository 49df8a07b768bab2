//! A wire format in one value: how an id becomes a key, how a record becomes bytes, how a session is renewed.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    document::Document,
    error::Result,
    id::{Key, SessionId},
    record::{self, Decoded, Meta, Millis, NonceSource},
};
#[cfg(feature = "encrypt")]
use crate::{
    encrypt::{self, EncryptedCodec},
    keyring::Keyring,
};

/// The format of keys and records.
///
/// The engine asks this seam and nothing else about formats, so one that another program shares can take its place.
/// The native one is what there is so far: keys are hashes of ids, and records are versioned JSON objects. How the id
/// looks in a cookie or a header is the [`Carrier`](crate::transport::Carrier)'s part.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) keys: Arc<dyn KeyRule>,
    pub(crate) records: Arc<dyn RecordCodec>,
}

/// Turns the id in the ticket into the key in the store.
pub(crate) trait KeyRule: fmt::Debug + Send + Sync {
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) when the id makes no key.
    fn key(&self, id: &SessionId) -> Result<Key>;
}

/// SHA-256: a leaked database holds no usable ticket.
#[derive(Debug)]
struct Hashed;

impl KeyRule for Hashed {
    fn key(&self, id: &SessionId) -> Result<Key> {
        Ok(id.key())
    }
}

/// Turns records into stored bytes and back.
///
/// The key is the one the bytes are stored under: a codec that encrypts binds them to it.
pub(crate) trait RecordCodec: fmt::Debug + Send + Sync {
    /// # Errors
    /// [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge).
    fn encode(&self, key: &Key, meta: &Meta, data: &Document) -> Result<Bytes>;

    /// # Errors
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt), quoting nothing.
    fn decode(&self, key: &Key, bytes: &Bytes) -> Result<Decoded>;

    /// Returns what a moved session leaves under its old key; `None` if the format knows no such thing, and the old
    /// record is removed instead.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn tombstone(&self, key: &Key, now: Millis) -> Result<Option<Bytes>>;

    /// Whether a session that was only read is renewed by the store's `touch`, so that the record stays as it is byte
    /// for byte; else it is written anew with the time of its renewal.
    fn renews_by_touch(&self) -> bool {
        false
    }

    /// Whether every write differs from every other, so that one whose reply was lost is known again.
    fn marks_writes(&self) -> bool {
        true
    }
}

impl Profile {
    /// Returns Cloakroom's own format.
    pub(crate) fn native(limit: usize) -> Result<Self> {
        let records = Arc::new(NativeCodec { nonces: NonceSource::new()?, limit });
        Ok(Self { keys: Arc::new(Hashed), records })
    }

    /// Returns Cloakroom's own format, encrypted; `limit` is about the bytes that are stored.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for the field `encrypt` when the ring cannot be used.
    #[cfg(feature = "encrypt")]
    pub(crate) fn encrypted(limit: usize, ring: &Keyring) -> Result<Self> {
        let native = Self::native(limit.saturating_sub(encrypt::OVERHEAD))?;
        let records = Arc::new(EncryptedCodec::new(native.records, ring, "encrypt", limit)?);
        Ok(Self { records, ..native })
    }
}

/// Versioned JSON objects, each write different from every other by its nonce.
#[derive(Debug)]
struct NativeCodec {
    nonces: NonceSource,
    limit: usize,
}

impl RecordCodec for NativeCodec {
    fn encode(&self, _: &Key, meta: &Meta, data: &Document) -> Result<Bytes> {
        record::encode(meta, data, &self.nonces, self.limit)
    }

    fn decode(&self, _: &Key, bytes: &Bytes) -> Result<Decoded> {
        record::decode(bytes, self.limit)
    }

    fn tombstone(&self, _: &Key, now: Millis) -> Result<Option<Bytes>> {
        Ok(Some(record::encode_tombstone(&self.nonces, now)))
    }
}

#[cfg(test)]
mod tests;
