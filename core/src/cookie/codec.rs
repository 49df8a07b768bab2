//! The cookie as it is sent and taken back: `Set-Cookie` for an id, its removal, and the check of what came in.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::{
    CookieConfig, CookieOptions,
    read::{self, Candidate, Candidates, TAG_MARK, ValueShape},
};
use crate::{
    error::{Error, Result},
    id::SessionId,
    ids::IdShape,
    keyring::{KeyAge, Signer},
    store::Ttl,
};

/// Stands before the seconds a cookie lives.
const MAX_AGE: &str = "; Max-Age=";

/// Ends a cookie in every browser: some honour only the one, some only the other.
const REMOVED: &str = "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";

/// One checked cookie configuration, ready to read and to write.
#[derive(Clone, Debug)]
pub(crate) struct CookieCodec {
    /// As checked: the name as it is sent, the domain in its normal form.
    config: CookieConfig,
    /// What follows value and `Max-Age`, from its first `; ` on.
    attributes: Box<str>,
    removal: HeaderValue,
    shape: ValueShape,
    signer: Option<Signer>,
}

/// When the browser forgets the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// After the session's ttl.
    Ttl,
    /// When the browser is closed.
    BrowserSession,
}

/// A candidate that is ours as far as can be told without the store.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// What the browser holds.
    pub(crate) id: SessionId,
    /// Whether an older key signed it, so that the cookie should be sent anew.
    pub(crate) reissue: bool,
    /// The stored bytes, where the ticket carries them itself and no store is asked.
    pub(crate) record: Option<Bytes>,
}

impl Ticket {
    /// Makes a ticket that opens what a store has.
    pub(crate) const fn new(id: SessionId, reissue: bool) -> Self {
        Self { id, reissue, record: None }
    }
}

impl CookieCodec {
    /// Creates a codec from a configuration that has been checked, with the name as it is sent.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the parts cannot stand in a header, which the checks
    /// before rule out.
    pub(super) fn new(config: CookieConfig, ids: IdShape, signer: Option<Signer>) -> Result<Self> {
        let attributes = config.attributes();
        let removal = removal(&config)?;
        let shape = ValueShape { id: ids, signed: signer.is_some() };
        Ok(Self { config, attributes: attributes.into(), removal, shape, signer })
    }

    /// Returns the length of every value of this cookie: 43 for a native id, 87 with a signature.
    pub(crate) const fn value_len(&self) -> usize {
        self.shape.length()
    }

    /// Returns the configuration as checked.
    pub(crate) fn config(&self) -> &CookieConfig {
        &self.config
    }

    /// Checks options of one session against this cookie.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the option.
    pub(crate) fn check_options(&self, options: &CookieOptions) -> Result<()> {
        options.over(&self.config).check_promises()
    }

    /// As [`CookieConfig::covers`].
    pub(crate) fn covers(&self, path: &str) -> bool {
        self.config.covers(path)
    }

    /// Collects the values in a request that could be ours, by name and shape alone; allocates only for
    /// the second of several.
    pub(crate) fn read(&self, headers: &HeaderMap) -> Candidates {
        read::scan(headers, self.config.name.as_bytes(), &self.shape)
    }

    /// Returns the id in a candidate, or `None` if no key of ours signed it; allocates nothing.
    ///
    /// With keys an unsigned value is never accepted, without keys a signed one never is.
    pub(crate) fn verify(&self, candidate: &Candidate) -> Option<Ticket> {
        let value = candidate.as_bytes();
        let Some(signer) = &self.signer else {
            return self.shape.id.parse(value).map(|id| Ticket::new(id, false));
        };
        let (id, tag) = value.split_at_checked(self.shape.id.length())?;
        let age = signer.verify(&self.config.name, id, tag.strip_prefix(&[TAG_MARK])?)?;
        Some(Ticket::new(self.shape.id.parse(id)?, age == KeyAge::Older))
    }

    /// Returns the `Set-Cookie` that hands out an id, in one allocation.
    ///
    /// `Max-Age` is the ttl in whole seconds, rounded up, and absent with [`Lifetime::BrowserSession`]. A ttl is at
    /// most 400 days, as is the life of a cookie (RFC 6265bis, section 5.5). The value is marked sensitive, so that
    /// HTTP/2 keeps it out of its compression tables. Options of the session's own cost a second allocation.
    pub(crate) fn set(&self, id: &SessionId, lives: Ttl, options: Option<&CookieOptions>) -> HeaderValue {
        let own = options.map(|options| options.over(&self.config));
        let lifetime = own.as_ref().map_or(self.config.lifetime, |own| own.lifetime);
        let attributes = own.map(|own| own.attributes());
        let attributes = attributes.as_deref().unwrap_or(&self.attributes);
        let (id, seconds) = (id.expose(), lives.secs_rounded_up());
        // Exact, since a buffer with room to spare would be copied once more on its way into the header value.
        let digits = seconds.checked_ilog10().unwrap_or(0) as usize + 1;
        let max_age = match lifetime {
            Lifetime::Ttl => MAX_AGE.len() + digits,
            Lifetime::BrowserSession => 0,
        };
        let length = self.config.name.len() + 1 + self.value_len() + max_age + attributes.len();

        let mut text = String::with_capacity(length);
        text.push_str(&self.config.name);
        text.push('=');
        text.push_str(id);
        if let Some(signer) = &self.signer {
            text.push(char::from(TAG_MARK));
            text.extend(signer.sign(&self.config.name, id.as_bytes()).map(char::from));
        }
        if lifetime == Lifetime::Ttl {
            text.push_str(MAX_AGE);
            text.push_str(itoa::Buffer::new().format(seconds));
        }
        text.push_str(attributes);
        debug_assert_eq!(text.len(), length);
        let mut value =
            HeaderValue::try_from(text).expect("name, id, tag and attributes are printable ASCII");
        value.set_sensitive(true);
        value
    }

    /// Returns the `Set-Cookie` that takes the cookie away, with all the attributes it was set with.
    ///
    /// Browsers tell cookies apart by name, domain and path, and refuse a `__Host-` name without `Secure` even for a
    /// removal. From a frame in another site they take it only with the `SameSite` it was set with.
    pub(crate) fn remove(&self, options: Option<&CookieOptions>) -> HeaderValue {
        let own = options.map(|options| removal(&options.over(&self.config)));
        own.and_then(Result::ok).unwrap_or_else(|| self.removal.clone())
    }
}

fn removal(config: &CookieConfig) -> Result<HeaderValue> {
    HeaderValue::try_from(format!("{}={REMOVED}{}", config.name, config.attributes()))
        .map_err(|_| Error::config("cookie", "must be printable ASCII throughout"))
}
