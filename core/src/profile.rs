//! A wire format in one value: the cookie, how an id becomes a key, how a record becomes bytes, how a session is renewed.

use std::{fmt, sync::Arc};

use bytes::Bytes;

#[cfg(feature = "encrypt")]
use crate::encrypt::{self, EncryptedCodec};
use crate::{
    config::ClockFn,
    cookie::{CookieConfig, Lifetime},
    document::Document,
    error::Result,
    expiry::Expiry,
    id::{Key, SessionId},
    ids::{IdShape, IdSource},
    keyring::Keyring,
    record::{self, Decoded, Meta, Millis, NonceSource},
    transport::Carrier,
};

/// A wire format: what cookies, keys and records look like, and when a session is renewed.
///
/// [`native`](Self::native) is Cloakroom's own and the default. Another one makes this program share live sessions with
/// programs that know that format alone: see [`Builder::profile`](crate::Builder::profile).
#[derive(Clone)]
pub struct Profile {
    format: Arc<dyn Format>,
    cookie: Option<CookieConfig>,
}

impl Profile {
    /// Returns Cloakroom's own format: keys are hashes of ids, records are versioned JSON objects, and a use renews a
    /// session once less than half of its idle time is left.
    #[must_use]
    pub fn native() -> Self {
        Self::of(Native)
    }

    /// Returns the cookie that this format has unless another is configured: to change one option of it, begin here.
    ///
    /// ```
    /// use cloakroom_core::Profile;
    ///
    /// let cookie = Profile::native().default_cookie().name("__Host-shop");
    /// # let _ = cookie;
    /// ```
    #[must_use]
    pub fn default_cookie(&self) -> CookieConfig {
        self.cookie.clone().unwrap_or_else(|| self.format.cookie())
    }

    /// Sets the cookie of this profile, for programs that use the format with another one.
    ///
    /// [`Builder::cookie`](crate::Builder::cookie) is stronger.
    #[must_use]
    pub fn with_cookie(mut self, cookie: CookieConfig) -> Self {
        self.cookie = Some(cookie);
        self
    }

    pub(crate) fn of(format: impl Format + 'static) -> Self {
        Self { format: Arc::new(format), cookie: None }
    }

    pub(crate) fn format(&self) -> &dyn Format {
        &*self.format
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::native()
    }
}

/// Shows the format's name and no secret.
impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Profile({})", self.format.name())
    }
}

/// One wire format, before it is configured. The engine asks this seam and nothing else about formats.
pub(crate) trait Format: fmt::Debug + Send + Sync {
    /// Returns the name that users know the format by.
    fn name(&self) -> &'static str;

    /// Returns the cookie that this format's programs use unless told otherwise.
    fn cookie(&self) -> CookieConfig;

    /// Returns the source of ids that this format's programs use unless told otherwise.
    fn ids(&self) -> IdSource;

    /// Tells who else reads and writes these records.
    fn shared(&self) -> Shared;

    /// Makes the codec of the cookie.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) by the field's name.
    fn carrier(&self, terms: &Terms<'_>) -> Result<Carrier>;

    /// Makes the rest.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) by the field's name, and
    /// [`ErrorKind::Backend`](crate::ErrorKind::Backend) when there are no random bytes.
    fn wire(&self, terms: &Terms<'_>) -> Result<Wire>;
}

/// Who reads and writes the records of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shared {
    /// Programs of this crate, which know its keyrings and keep all there is to know of a session.
    No,
    /// Other programs too, with a signature of their own, and a record that has room for what they know.
    WithOthers,
    /// As above, and the record is in the cookie: no store is asked.
    InTheCookie,
}

/// What is configured, as far as a format wants to know.
pub(crate) struct Terms<'a> {
    pub(crate) cookie: CookieConfig,
    pub(crate) ids: IdShape,
    pub(crate) keys: Option<&'a Keyring>,
    #[cfg(feature = "encrypt")]
    pub(crate) encrypt: Option<&'a Keyring>,
    /// The largest record, in bytes.
    pub(crate) limit: usize,
    pub(crate) expiry: Expiry,
    pub(crate) clock: Arc<ClockFn>,
}

/// A format as configured: what the engine works with.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) keys: Arc<dyn KeyRule>,
    pub(crate) records: Arc<dyn RecordCodec>,
    pub(crate) renewal: RenewalRule,
    /// The ticket is the record: whatever is written must be sent.
    pub(crate) in_cookie: bool,
    /// The cookie ends with the browser, unless a session's own says otherwise.
    pub(crate) endless_cookie: bool,
    /// The store is told of whole seconds, rounded up.
    pub(crate) whole_seconds: bool,
}

/// When a session's time begins anew, and who hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RenewalRule {
    pub(crate) reads: ReadRenewal,
    /// Whether every write begins the time anew, and sends the ticket again.
    pub(crate) every_write: bool,
    /// Whether a session that was only read is renewed by the store's `touch`, so that the record stays as it is byte
    /// for byte; else it is written anew with the time of its renewal.
    pub(crate) by_touch: bool,
    /// Whether a renewal after a mere read leaves the browser's ticket as it is, unless `rolling` is on.
    pub(crate) in_silence: bool,
}

/// When a mere read renews a session. `rolling` makes each of them do so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadRenewal {
    /// As [`Expiry::renew_below`] says.
    WhenDue,
    Never,
    Always,
}

impl RenewalRule {
    pub(crate) const NATIVE: Self =
        Self { reads: ReadRenewal::WhenDue, every_write: false, by_touch: false, in_silence: false };
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

    /// Whether every write differs from every other, so that one whose reply was lost is known again.
    fn marks_writes(&self) -> bool {
        true
    }

    /// Whether a record has room for the user that a session is bound to.
    fn keeps_users(&self) -> bool {
        true
    }
}

/// Cloakroom's own format.
#[derive(Debug)]
struct Native;

impl Format for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn cookie(&self) -> CookieConfig {
        CookieConfig::new()
    }

    fn ids(&self) -> IdSource {
        IdSource::default()
    }

    fn shared(&self) -> Shared {
        Shared::No
    }

    fn carrier(&self, terms: &Terms<'_>) -> Result<Carrier> {
        terms.cookie.build(terms.keys, terms.ids).map(Carrier::Cookie)
    }

    fn wire(&self, terms: &Terms<'_>) -> Result<Wire> {
        Ok(Wire {
            keys: Arc::new(Hashed),
            records: native_records(terms)?,
            renewal: RenewalRule::NATIVE,
            in_cookie: false,
            endless_cookie: terms.cookie.lifetime == Lifetime::BrowserSession,
            whole_seconds: false,
        })
    }
}

/// Returns the native codec, within the encrypting one if there are keys for that; `limit` is about the bytes that are
/// stored.
fn native_records(terms: &Terms<'_>) -> Result<Arc<dyn RecordCodec>> {
    #[cfg(feature = "encrypt")]
    if let Some(ring) = terms.encrypt {
        let limit = terms.limit.saturating_sub(encrypt::OVERHEAD);
        let inner = Arc::new(NativeCodec { nonces: NonceSource::new()?, limit });
        return Ok(Arc::new(EncryptedCodec::new(inner, ring, "encrypt", terms.limit)?));
    }
    Ok(Arc::new(NativeCodec { nonces: NonceSource::new()?, limit: terms.limit }))
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

#[cfg(feature = "node")]
pub(crate) mod express;
#[cfg(feature = "node")]
mod keygrip;
#[cfg(feature = "node")]
pub(crate) mod koa;
#[cfg(feature = "node")]
mod koa_session;
#[cfg(feature = "node")]
mod node;
#[cfg(test)]
pub(crate) mod tests;
