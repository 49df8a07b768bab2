//! The format of Express with express-session: one cookie `s:id.signature`, `sess:` before the id, rows with `cookie`.

use std::{fmt, sync::Arc};

use base64::Engine as _;
use bytes::Bytes;
use hmac::Hmac;
use http::HeaderMap;
use sha2::Sha256;

use super::{
    Format, Profile, ReadRenewal, RecordCodec, RenewalRule, Shared, Terms, Wire,
    node::{
        self, EPOCH, Fields, Prefixed, Row, STANDARD, Secrets, cookie_fields, express_attributes, field,
        header, http_date, iso_date, reserved, same_site, spelt, write_row,
    },
};
use crate::{
    config::{ClockFn, millis_of},
    cookie::{
        Candidates, CookieConfig, CookieForm, CookieOptions, Lifetime, Outgoing, Rejection, Ticket,
        check_pair, first_values,
    },
    document::Document,
    error::Result,
    headers::HeaderEdits,
    id::Key,
    ids::{IdShape, IdSource},
    keyring::KeyAge,
    record::{Decoded, Meta, Millis, Record},
    transport::Carrier,
};

type HmacSha256 = Hmac<Sha256>;

/// The length of a signature as text: 32 bytes of base64, which are 43 characters.
const TAG_CHARS: usize = 43;

/// The wire format of [express-session](https://github.com/expressjs/session) 1: [`Profile::express`] with options.
///
/// ```
/// use cloakroom_core::{Express, Profile};
///
/// let profile = Profile::from(Express::new(["the newest secret", "an older one"]).prefix("shop:"));
/// # let _ = profile;
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is a profile's beginning: hand it to Profile::from"]
pub struct Express {
    secrets: Secrets,
    prefix: Box<str>,
}

impl Express {
    /// Creates the format from the option `secret` there, in its order: the first signs, all of them verify, and what an
    /// older one signed is signed anew.
    pub fn new<I>(secrets: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        Self { secrets: Secrets::new(secrets), prefix: "sess:".into() }
    }

    /// Sets what stands before the id in the store: `sess:` unless set, as connect-redis has it. A store without a
    /// prefix, such as connect-pg-simple, has an empty one.
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }
}

impl From<Express> for Profile {
    fn from(express: Express) -> Self {
        Self::of(express)
    }
}

impl Profile {
    /// Returns the format of Express with express-session, given its option `secret`, in its order.
    ///
    /// The other service and this one then share live sessions in the same store, in both directions. Give this one the
    /// same options: [`Express`] has what concerns the format, [`CookieConfig`] the cookie, and
    /// [`Expiry::idle`](crate::Expiry::idle) is `cookie.maxAge`, or the store's own ttl where that is not set. Express
    /// has no `maxAge` unless configured; where it has, call [`lasting`](CookieConfig::lasting) on
    /// [`default_cookie`](Self::default_cookie).
    ///
    /// As there, every use renews the record, and a write sends the cookie again; so does a use if
    /// [`rolling`](crate::Builder::rolling) is on. The record itself stays as it is when it is only renewed. Sessions
    /// cannot be bound to users: a row has no room for that. Unlike there, a logout removes the cookie.
    ///
    /// Express drops data under keys that its own sessions have methods or properties for: `id`, `req`, `touch`, `save`,
    /// `reload`, `destroy`, `regenerate`, `resetMaxAge`, and those of every object, such as `constructor`. Here such a
    /// key is [`ErrorKind::Value`](crate::ErrorKind::Value) when the session is saved.
    ///
    /// ```
    /// use cloakroom_core::Profile;
    ///
    /// let profile = Profile::express(["the newest secret", "an older one"]);
    /// assert_eq!(format!("{profile:?}"), "Profile(express)");
    /// ```
    #[must_use]
    pub fn express<I>(secrets: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        Express::new(secrets).into()
    }
}

impl Format for Express {
    fn name(&self) -> &'static str {
        "express"
    }

    fn cookie(&self) -> CookieConfig {
        CookieConfig::of_node("connect.sid").browser_session()
    }

    fn ids(&self) -> IdSource {
        IdSource::random(node::ID_BYTES)
    }

    fn shared(&self) -> Shared {
        Shared::WithOthers
    }

    fn carrier(&self, terms: &Terms<'_>) -> Result<Carrier> {
        self.secrets.check()?;
        let config = terms.cookie.checked()?;
        // Every character may take three, and the signature as well.
        check_pair(&config.name, 3 * (2 + terms.ids.length() + 1 + TAG_CHARS))?;
        Ok(Carrier::Foreign(Box::new(ExpressCookie {
            config,
            ids: terms.ids,
            secrets: self.secrets.clone(),
        })))
    }

    fn wire(&self, terms: &Terms<'_>) -> Result<Wire> {
        Ok(Wire {
            keys: Arc::new(Prefixed::new(&self.prefix, terms.ids.length())?),
            records: Arc::new(ExpressRows {
                config: terms.cookie.checked()?,
                max_age: terms.expiry.idle_millis(),
                limit: terms.limit,
                clock: Arc::clone(&terms.clock),
            }),
            renewal: RenewalRule {
                reads: ReadRenewal::Always,
                every_write: true,
                by_touch: true,
                in_silence: true,
            },
            in_cookie: false,
            endless_cookie: terms.cookie.lifetime == Lifetime::BrowserSession,
            whole_seconds: true,
        })
    }
}

/// `connect.sid`: `s:`, the id, a dot, and HMAC-SHA256 over the id alone, all of it percent-encoded.
#[derive(Debug)]
struct ExpressCookie {
    config: CookieConfig,
    ids: IdShape,
    secrets: Secrets,
}

impl CookieForm for ExpressCookie {
    fn covers(&self, path: &str) -> bool {
        self.config.covers(path)
    }

    fn read(&self, headers: &HeaderMap) -> Candidates {
        match first_values(headers, [&self.config.name]) {
            [Some(value)] => Candidates::foreign([value].into()),
            [None] => Candidates::default(),
        }
    }

    fn verify(&self, candidates: &Candidates, _: usize) -> Result<Ticket, Rejection> {
        let (id, age) = self.opened(candidates).ok_or(Rejection::Forged)?;
        let id = self.ids.parse(&id).ok_or(Rejection::Strange)?;
        Ok(Ticket::new(id, age == KeyAge::Older))
    }

    fn send(&self, ticket: &Outgoing<'_>, response: &mut HeaderEdits) {
        let config = &node::own_cookie(&self.config, ticket, &node::row_cookie(ticket));
        let at = ticket.now.saturating_add(ticket.lives.millis());
        let expires = (config.lifetime == Lifetime::Ttl).then(|| http_date(at));
        let id = ticket.id.expose();
        let tag = STANDARD.encode(self.secrets.sign::<HmacSha256>(&[id.as_bytes()]));
        let value = percent_encoded(&format!("s:{id}.{tag}"));
        let attributes = express_attributes(config, expires.as_deref());
        if let Some(value) = header(format!("{}={value}{attributes}", self.config.name)) {
            response.append_cookie(value);
        }
    }

    fn take_back(&self, options: Option<&CookieOptions>, response: &mut HeaderEdits) {
        let own = options.map(|options| options.over(&self.config));
        let attributes = express_attributes(own.as_ref().unwrap_or(&self.config), Some(EPOCH));
        if let Some(value) = header(format!("{}={attributes}", self.config.name)) {
            response.append_cookie(value);
        }
    }

    fn names(&self) -> Vec<&str> {
        vec![&self.config.name]
    }

    fn check_options(&self, options: &CookieOptions) -> Result<()> {
        options.over(&self.config).checked().map(|_| ())
    }
}

impl ExpressCookie {
    /// Returns what was signed, and how old the secret is that did it.
    fn opened(&self, candidates: &Candidates) -> Option<(Vec<u8>, KeyAge)> {
        let [value] = candidates.foreign_values()? else { return None };
        let value = percent_decoded(value)?;
        let signed = value.strip_prefix(b"s:")?;
        let dot = signed.iter().rposition(|&byte| byte == b'.')?;
        let (id, tag) = (signed.get(..dot)?, signed.get(dot + 1..)?);
        let tag = (tag.len() == TAG_CHARS).then(|| STANDARD.decode(tag).ok())??;
        let age = self.secrets.verify::<HmacSha256>(&[id], &tag)?;
        Some((id.to_vec(), age))
    }
}

/// Decodes `%xx`; `None` where what follows a `%` is no byte.
fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        if *byte == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok().filter(|two| !two.starts_with('+'))?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after.get(2..)?;
        } else {
            out.push(*byte);
            rest = after;
        }
    }
    Some(out)
}

/// Encodes as `encodeURIComponent` does.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `{"cookie":{"originalMaxAge":..,"expires":..,..},..}`: what a session's cookie is like, and then its data.
struct ExpressRows {
    config: CookieConfig,
    /// What `originalMaxAge` is unless the row says otherwise.
    max_age: Millis,
    limit: usize,
    clock: Arc<ClockFn>,
}

impl RecordCodec for ExpressRows {
    fn encode(&self, _: &Key, meta: &Meta, data: &Document) -> Result<Bytes> {
        if data.iter().any(|(key, _)| is_own(key)) {
            return Err(reserved("`id`, `save` and the others that every session or object has there"));
        }
        write_row(&self.cookie(meta)?, data, self.limit)
    }

    fn decode(&self, _: &Key, bytes: &Bytes) -> Result<Decoded> {
        let mut row = Row::read(bytes, self.limit)?;
        // Express keeps none of these either.
        row.entries.retain(|(key, _)| !is_own(key));
        let mut meta = Meta::starting(millis_of((self.clock)()), None);
        if let Some(raw) = row.cookie {
            let fields = cookie_fields(raw)?;
            let max_age = field(&fields, "originalMaxAge").and_then(node::millis);
            // `expires` is not looked at: a renewal leaves the row as it is, so that it goes stale.
            meta.ttl = max_age.filter(|own| *own != self.max_age);
            meta.cookie = Some(CookieOptions {
                same_site: field(&fields, "sameSite").and_then(same_site),
                http_only: field(&fields, "httpOnly").map(|raw| raw == "true"),
                browser_session: Some(max_age.is_none()),
            });
            meta.extra = Some(raw.into());
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

/// Whether Express drops this key when it reads a row: its sessions have something of the name already.
fn is_own(key: &str) -> bool {
    const PROPERTIES: [&str; 20] = [
        "id",
        "req",
        "touch",
        "resetMaxAge",
        "save",
        "reload",
        "destroy",
        "regenerate",
        // What every object of JavaScript has.
        "constructor",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "toLocaleString",
        "toString",
        "valueOf",
        "__defineGetter__",
        "__defineSetter__",
        "__lookupGetter__",
        "__lookupSetter__",
        "__proto__",
    ];
    PROPERTIES.contains(&key)
}

impl ExpressRows {
    /// Returns the `cookie` of a row: the one it had with what has changed, or a new one.
    fn cookie(&self, meta: &Meta) -> Result<String> {
        let own = meta.cookie.unwrap_or_default();
        let config = own.over(&self.config);
        let lives = (config.lifetime == Lifetime::Ttl).then(|| meta.ttl.unwrap_or(self.max_age));
        let ends = lives.map(|lives| format!("\"{}\"", iso_date(meta.renewed.saturating_add(lives))));
        let lives = lives.map_or_else(|| "null".to_owned(), |lives| lives.to_string());
        let ends = ends.unwrap_or_else(|| "null".to_owned());
        let mut fields = match &meta.extra {
            Some(raw) => Fields::of(cookie_fields(raw)?),
            None => Fields::empty(),
        };
        fields.set("originalMaxAge", lives);
        if meta.extra.is_some() {
            fields.set("expires", ends);
            if own.http_only.is_some() {
                fields.set("httpOnly", if config.http_only { "true" } else { "false" });
            }
            if let Some(same_site) = own.same_site {
                fields.set("sameSite", spelt(same_site.as_str()));
            }
            return Ok(fields.to_json());
        }
        if config.partitioned {
            fields.set("partitioned", "true");
        }
        if let Some(priority) = config.priority {
            fields.set("priority", spelt(priority.as_str()));
        }
        fields.set("expires", ends);
        if config.secure {
            fields.set("secure", "true");
        }
        fields.set("httpOnly", if config.http_only { "true" } else { "false" });
        if let Some(domain) = &config.domain {
            fields.set("domain", format!("\"{domain}\""));
        }
        // A path holds nothing that JSON escapes: that is checked.
        fields.set("path", format!("\"{}\"", config.path));
        if let Some(same_site) = config.same_site {
            fields.set("sameSite", spelt(same_site.as_str()));
        }
        Ok(fields.to_json())
    }
}

impl fmt::Debug for ExpressRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExpressRows")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(secret: &str, id: &str) -> String {
        let tag = STANDARD.encode(Secrets::new([secret]).sign::<HmacSha256>(&[id.as_bytes()]));
        percent_encoded(&format!("s:{id}.{tag}"))
    }

    #[test]
    fn values_are_those_of_cookie_signature() {
        // Made by the package itself.
        assert_eq!(sign("s3cret", "abc"), "s%3Aabc.Ty8wqvSle9YKtHPI6cLN%2FvwYZyPUcn7W8x8ENTyROJo");
        assert_eq!(sign("old", "abc"), "s%3Aabc.BUBtJoecrDl%2BdBJJqC0EoSVp%2B2PCx7CzPPd7nSJ%2FnH4");
    }

    #[test]
    fn what_is_percent_encoded_reads_back_and_nonsense_is_nothing() {
        let text: String = (0_u8..128).map(char::from).collect();
        assert_eq!(percent_decoded(percent_encoded(&text).as_bytes()).unwrap(), text.as_bytes());
        for bad in ["%", "%4", "%zz", "a%", "%+1", "%\u{e9}"] {
            assert_eq!(percent_decoded(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn every_flip_of_a_bit_is_refused() {
        let (id, secrets) = ("ShAK2lyZHmzqINFmj32LqoG7PkHdtldy", Secrets::new(["s3cret", "old"]));
        let cookie = ExpressCookie {
            config: CookieConfig::of_node("connect.sid"),
            ids: IdSource::random(node::ID_BYTES).shape(),
            secrets,
        };
        let opens = |value: &[u8]| {
            let ticket = cookie.verify(&Candidates::foreign([Box::from(value)].into()), 0);
            ticket.ok().map(|ticket| ticket.reissue)
        };
        let good = sign("s3cret", id);
        assert_eq!(opens(good.as_bytes()), Some(false));
        assert_eq!(opens(sign("old", id).as_bytes()), Some(true));
        assert_eq!(opens(sign("another", id).as_bytes()), None);
        // Also as it is without percent-encoding; and `%3a` is `%3A`.
        assert_eq!(opens(&percent_decoded(good.as_bytes()).unwrap()), Some(false));
        let decoded = percent_decoded(good.as_bytes()).unwrap();
        for at in 0..decoded.len() * 8 {
            let mut value = decoded.clone();
            value[at / 8] ^= 1 << (at % 8);
            assert_eq!(opens(&value), None, "bit {at}");
        }
        for bad in ["", "s:", "s:.", "s:a", ".", "j:{}", id] {
            assert_eq!(opens(bad.as_bytes()), None, "{bad}");
        }
    }
}
