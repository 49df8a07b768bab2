//! The format of Koa with koa-generic-session: two cookies, `koa:sess:` before the id, rows with their `cookie` object.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;

use super::{
    Format, Profile, ReadRenewal, RecordCodec, RenewalRule, Shared, Terms, Wire,
    keygrip::Pair,
    node::{
        self, Fields, Prefixed, Row, Secrets, cookie_fields, field, parse_iso, same_site, spelt, write_row,
    },
};
use crate::{
    config::{ClockFn, millis_of},
    cookie::{Candidates, CookieConfig, CookieForm, CookieOptions, Lifetime, Outgoing, Rejection, Ticket},
    document::Document,
    error::Result,
    headers::HeaderEdits,
    id::Key,
    ids::{IdShape, IdSource},
    keyring::KeyAge,
    record::{Decoded, Meta, Millis, RawEntries, Record},
    store::Ttl,
    transport::Carrier,
};

/// The wire format of [koa-generic-session](https://github.com/koajs/generic-session) 2: [`Profile::koa`] with options.
///
/// ```
/// use cloakroom_core::{Koa, Profile};
///
/// let profile = Profile::from(Koa::new(["the newest of app.keys", "an older one"]).prefix("shop:sess:"));
/// # let _ = profile;
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is a profile's beginning: hand it to Profile::from"]
pub struct Koa {
    secrets: Secrets,
    prefix: Box<str>,
    max_age: Option<Duration>,
}

impl Koa {
    /// Creates the format from the application's `app.keys`, in their order: the first signs, all of them verify, and
    /// what an older one signed is signed anew.
    ///
    /// # Risk
    /// The signatures are HMAC-SHA1 under these keys as they are. Whoever knows one can sign any id, and has to guess
    /// one of 192 bits all the same.
    pub fn new<I>(keys: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        Self { secrets: Secrets::new(keys), prefix: "koa:sess:".into(), max_age: None }
    }

    /// Sets what stands before the id in the store, as the option `prefix` there; `koa:sess:` unless set.
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the cookie's lifetime apart from the record's, for a service whose options `cookie.maxAge` and `ttl`
    /// differ. [`Builder::expiry`](crate::Builder::expiry) is then the `ttl`. Without it the one value is both.
    ///
    /// The `maxAge` of a row is then about the cookie alone, as there, so that a row has no room for a time of the
    /// session's own. [`Session::set_ttl`](crate::Session::set_ttl) holds for the write it is part of, and the next one
    /// begins the configured time anew; a time that shall hold comes from [`Builder::idle_by`](crate::Builder::idle_by),
    /// which is asked at every write. The cookie hears of neither.
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }
}

impl From<Koa> for Profile {
    fn from(koa: Koa) -> Self {
        Self::of(koa)
    }
}

impl Profile {
    /// Returns the format of Koa with koa-generic-session, given the application's `app.keys` in their order.
    ///
    /// The other service and this one then share live sessions in the same store, in both directions. Give this one the
    /// same options: [`Koa`] has what concerns the format, [`CookieConfig`] the cookie, and
    /// [`Expiry::idle`](crate::Expiry::idle) is `cookie.maxAge`. Everything in a row that is not ours stays as it is.
    ///
    /// As there, a write begins the time anew and sends the cookies again, and a read does not, unless
    /// [`rolling`](crate::Builder::rolling) is on. Sessions cannot be bound to users: a row has no room for that.
    ///
    /// ```
    /// use cloakroom_core::Profile;
    ///
    /// let profile = Profile::koa(["the newest of app.keys", "an older one"]);
    /// assert_eq!(format!("{profile:?}"), "Profile(koa)");
    /// ```
    #[must_use]
    pub fn koa<I>(keys: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        Koa::new(keys).into()
    }
}

impl Format for Koa {
    fn name(&self) -> &'static str {
        "koa"
    }

    fn cookie(&self) -> CookieConfig {
        CookieConfig::of_node("koa.sid")
    }

    fn ids(&self) -> IdSource {
        IdSource::random(node::ID_BYTES)
    }

    fn shared(&self) -> Shared {
        Shared::WithOthers
    }

    fn carrier(&self, terms: &Terms<'_>) -> Result<Carrier> {
        let pair = Pair::new(&terms.cookie, &self.secrets, terms.ids.length())?;
        Ok(Carrier::Foreign(Box::new(KoaCookie {
            pair,
            ids: terms.ids,
            max_age: self.max_age.map(Ttl::new),
        })))
    }

    fn wire(&self, terms: &Terms<'_>) -> Result<Wire> {
        let idle = terms.expiry.idle_millis();
        Ok(Wire {
            keys: Arc::new(Prefixed::new(&self.prefix, terms.ids.length())?),
            records: Arc::new(KoaRows {
                config: terms.cookie.checked()?,
                max_age: self.max_age.map_or(idle, |max_age| Ttl::new(max_age).millis()),
                apart: self.max_age.is_some(),
                limit: terms.limit,
                clock: Arc::clone(&terms.clock),
            }),
            renewal: RenewalRule {
                reads: ReadRenewal::Never,
                every_write: true,
                by_touch: false,
                in_silence: false,
            },
            in_cookie: false,
            endless_cookie: terms.cookie.lifetime == Lifetime::BrowserSession,
            // The rows of a koa store end to the millisecond; it is koa-redis that rounds up, as every store here may.
            whole_seconds: false,
        })
    }
}

/// `koa.sid` and `koa.sid.sig`.
#[derive(Debug)]
struct KoaCookie {
    pair: Pair,
    ids: IdShape,
    /// The cookie's lifetime, where it is not the record's.
    max_age: Option<Ttl>,
}

impl CookieForm for KoaCookie {
    fn covers(&self, path: &str) -> bool {
        self.pair.config.covers(path)
    }

    fn read(&self, headers: &HeaderMap) -> Candidates {
        self.pair.read(headers)
    }

    fn verify(&self, candidates: &Candidates, _: usize) -> Result<Ticket, Rejection> {
        let (value, age) = self.pair.verify(candidates).ok_or(Rejection::Forged)?;
        let id = self.ids.parse(value).ok_or(Rejection::Strange)?;
        Ok(Ticket::new(id, age == KeyAge::Older))
    }

    fn send(&self, ticket: &Outgoing<'_>, response: &mut HeaderEdits) {
        let row = node::row_cookie(ticket);
        let config = node::own_cookie(&self.pair.config, ticket, &row);
        self.pair.send(ticket.id.expose(), self.ends(ticket, &row), &config, response);
    }

    fn take_back(&self, options: Option<&CookieOptions>, response: &mut HeaderEdits) {
        self.pair.take_back(options, response);
    }

    fn refuse(&self, why: Rejection, response: &mut HeaderEdits) {
        match why {
            Rejection::Forged => self.pair.refuse(response),
            Rejection::Strange => {}
            Rejection::Invalid => self.pair.take_back(None, response),
        }
    }

    fn names(&self) -> Vec<&str> {
        self.pair.names()
    }

    fn check_options(&self, options: &CookieOptions) -> Result<()> {
        options.over(&self.pair.config).checked().map(|_| ())
    }
}

impl KoaCookie {
    /// Returns when a cookie ends: with its record, or by a time of its own where both are apart.
    fn ends(&self, ticket: &Outgoing<'_>, row: &RawEntries<'_>) -> Millis {
        let Some(configured) = self.max_age else {
            return ticket.now.saturating_add(ticket.lives.millis());
        };
        match (field(row, "maxAge").and_then(node::millis), row_expires(row)) {
            (Some(own), _) => ticket.now.saturating_add(own),
            (None, Some(expires)) => expires,
            (None, None) => ticket.now.saturating_add(configured.millis()),
        }
    }
}

/// Reads the date that a row's `cookie` names as its end.
fn row_expires(row: &RawEntries<'_>) -> Option<Millis> {
    field(row, "expires").and_then(|raw| parse_iso(raw.trim_matches('"')))
}

/// `{"cookie":{..},..}`: what a session's cookie is like, and then its data.
struct KoaRows {
    config: CookieConfig,
    /// What `maxAge` is unless the row says otherwise.
    max_age: Millis,
    /// `maxAge` is about the cookie alone.
    apart: bool,
    limit: usize,
    clock: Arc<ClockFn>,
}

impl RecordCodec for KoaRows {
    fn encode(&self, _: &Key, meta: &Meta, data: &Document) -> Result<Bytes> {
        write_row(&self.cookie(meta)?, data, self.limit)
    }

    fn decode(&self, _: &Key, bytes: &Bytes) -> Result<Decoded> {
        let row = Row::read(bytes, self.limit)?;
        let mut meta = Meta::starting(millis_of((self.clock)()), None);
        if let Some(raw) = row.cookie {
            self.read_cookie(raw, &mut meta)?;
        }
        Ok(Decoded::Session(Record { meta, data: row.into_data(bytes) }))
    }

    fn tombstone(&self, _: &Key, _: Millis) -> Result<Option<Bytes>> {
        Ok(None)
    }

    fn marks_writes(&self) -> bool {
        false
    }

    fn keeps_users(&self) -> bool {
        false
    }
}

impl KoaRows {
    /// Takes what a row says of its cookie: the session follows that from then on, as it does there.
    fn read_cookie(&self, raw: &str, meta: &mut Meta) -> Result<()> {
        let fields = cookie_fields(raw)?;
        let max_age = field(&fields, "maxAge").and_then(node::millis);
        let expires = row_expires(&fields);
        if !self.apart {
            meta.ttl = max_age.filter(|own| *own != self.max_age);
        }
        meta.deadline = expires;
        meta.cookie = Some(CookieOptions {
            same_site: field(&fields, "sameSite").and_then(same_site),
            http_only: field(&fields, "httpOnly").map(|raw| raw == "true"),
            browser_session: Some(max_age.is_none() && expires.is_none()),
        });
        meta.extra = Some(raw.into());
        Ok(())
    }

    /// Returns the `cookie` of a row: the one it had with what has changed, or a new one.
    fn cookie(&self, meta: &Meta) -> Result<String> {
        let own = meta.cookie.unwrap_or_default();
        let config = own.over(&self.config);
        let mut fields = match &meta.extra {
            Some(raw) => Fields::of(cookie_fields(raw)?),
            None => self.new_cookie(),
        };
        if meta.cookie.is_some() {
            if own.http_only.is_some() {
                fields.set("httpOnly", if config.http_only { "true" } else { "false" });
            }
            if let Some(same_site) = own.same_site {
                fields.set("sameSite", spelt(same_site.as_str()));
            }
        }
        let had = match &meta.extra {
            Some(raw) => field(&cookie_fields(raw)?, "maxAge").and_then(node::millis),
            None => Some(self.max_age),
        };
        // Apart from the record's own time, which is then no business of the cookie's, a row keeps what it says.
        let wanted = if self.apart { had } else { meta.ttl };
        let has = match config.lifetime {
            Lifetime::BrowserSession => None,
            // A row whose cookie has a date of its own has no `maxAge`, unless it is given a time now.
            Lifetime::Ttl if meta.deadline.is_some() && had.is_none() => wanted,
            Lifetime::Ttl => wanted.or(Some(self.max_age)),
        };
        if has != had {
            fields.set("maxAge", has.map_or_else(|| "null".to_owned(), |has| has.to_string()));
        }
        Ok(fields.to_json())
    }

    /// Returns the `cookie` of a new session: what is configured first, then the defaults, as there.
    fn new_cookie(&self) -> Fields<'_> {
        let mut fields = Fields::empty();
        if let Some(same_site) = self.config.same_site {
            fields.set("sameSite", spelt(same_site.as_str()));
        }
        if let Some(priority) = self.config.priority {
            fields.set("priority", spelt(priority.as_str()));
        }
        if let Some(domain) = &self.config.domain {
            fields.set("domain", format!("\"{domain}\""));
        }
        if self.config.secure {
            fields.set("secure", "true");
        }
        if self.config.partitioned {
            fields.set("partitioned", "true");
        }
        fields.set("httpOnly", if self.config.http_only { "true" } else { "false" });
        // A path holds nothing that JSON escapes: that is checked.
        fields.set("path", format!("\"{}\"", self.config.path));
        fields.set("overwrite", "true");
        fields.set("signed", "true");
        fields.set("maxAge", self.max_age.to_string());
        fields
    }
}

impl fmt::Debug for KoaRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KoaRows")
    }
}
