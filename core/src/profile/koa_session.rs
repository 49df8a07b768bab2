//! The format of koa-session: the session itself in a cookie, as base64 of JSON, with its signature beside it.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD as PADDED};
use bytes::Bytes;
use http::HeaderMap;

use super::{
    Format, Hashed, Profile, ReadRenewal, RecordCodec, RenewalRule, Shared, Terms, Wire,
    keygrip::Pair,
    node::{self, STANDARD, Secrets, check_size, corrupt, field, reserved},
};
use crate::{
    config::{ClockFn, millis_of},
    cookie::{Candidates, CookieConfig, CookieForm, CookieOptions, Lifetime, Outgoing, Rejection, Ticket},
    document::Document,
    error::Result,
    headers::HeaderEdits,
    id::{Key, SessionId},
    ids::IdSource,
    keyring::KeyAge,
    record::{Decoded, Meta, Millis, Record, raw_entries},
    transport::Carrier,
};

/// The longest name and value of a cookie together, in bytes.
const MAX_PAIR: usize = 4096;

impl Profile {
    /// Returns the format of [koa-session](https://github.com/koajs/session) 7 without a store, given the application's
    /// `app.keys` in their order: the session is in the cookie itself. The layer is given [`NoStore`](crate::NoStore).
    ///
    /// Name the cookie as the option `key` there, `koa.sess` unless set; [`Expiry::idle`](crate::Expiry::idle) is
    /// `maxAge`, and [`CookieConfig::browser_session`] is `maxAge: 'session'`. A write begins the time anew, and so does
    /// a read if [`rolling`](crate::Builder::rolling) is on.
    ///
    /// What is in a cookie has limits. It is signed and not encrypted: the visitor can read it. About 3 KB is all it
    /// holds; more is [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge). Of parallel requests the last answer wins
    /// ([`Guarantee::LastWriterWins`](crate::Guarantee::LastWriterWins)).
    ///
    /// # Risk
    /// There is no way to end a session on the server: who has kept a cookie can present it again until it runs out,
    /// also after a logout.
    ///
    /// ```
    /// use cloakroom_core::{Engine, NoStore, Profile};
    ///
    /// let engine = Engine::builder(NoStore).profile(Profile::koa_session(["the newest of app.keys"])).build()?;
    /// # let _ = engine;
    /// # Ok::<(), cloakroom_core::Error>(())
    /// ```
    #[must_use]
    pub fn koa_session<I>(keys: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        Self::of(KoaSession { secrets: Secrets::new(keys) })
    }
}

#[derive(Debug)]
struct KoaSession {
    secrets: Secrets,
}

impl Format for KoaSession {
    fn name(&self) -> &'static str {
        "koa-session"
    }

    fn cookie(&self) -> CookieConfig {
        CookieConfig::of_node("koa.sess")
    }

    /// Of no use but to tell one session from another in events.
    fn ids(&self) -> IdSource {
        IdSource::default()
    }

    fn shared(&self) -> Shared {
        Shared::InTheCookie
    }

    fn carrier(&self, terms: &Terms<'_>) -> Result<Carrier> {
        let pair = Pair::new(&terms.cookie, &self.secrets, 0)?;
        Ok(Carrier::Foreign(Box::new(SessionCookie { pair, clock: Arc::clone(&terms.clock) })))
    }

    fn wire(&self, terms: &Terms<'_>) -> Result<Wire> {
        let config = terms.cookie.checked()?;
        // Base64 takes four characters for three bytes.
        let room = (MAX_PAIR.saturating_sub(config.name.len())) / 4 * 3;
        Ok(Wire {
            keys: Arc::new(Hashed),
            records: Arc::new(CookieRows {
                lifetime: config.lifetime,
                max_age: terms.expiry.idle_millis(),
                limit: terms.limit.min(room),
                clock: Arc::clone(&terms.clock),
            }),
            renewal: RenewalRule {
                reads: ReadRenewal::Never,
                every_write: true,
                by_touch: false,
                in_silence: false,
            },
            in_cookie: true,
            endless_cookie: terms.cookie.lifetime == Lifetime::BrowserSession,
            whole_seconds: false,
        })
    }
}

/// `koa.sess` and `koa.sess.sig`.
struct SessionCookie {
    pair: Pair,
    clock: Arc<ClockFn>,
}

impl CookieForm for SessionCookie {
    fn covers(&self, path: &str) -> bool {
        self.pair.config.covers(path)
    }

    fn read(&self, headers: &HeaderMap) -> Candidates {
        self.pair.read(headers)
    }

    fn verify(&self, candidates: &Candidates, _: usize) -> Result<Ticket, Rejection> {
        let (value, age) = self.pair.verify(candidates).ok_or(Rejection::Forged)?;
        self.opened(value, age == KeyAge::Older).ok_or(Rejection::Strange)
    }

    fn send(&self, ticket: &Outgoing<'_>, response: &mut HeaderEdits) {
        let ends = ticket.now.saturating_add(ticket.lives.millis());
        let config = node::own_cookie(&self.pair.config, ticket, &node::row_cookie(ticket));
        self.pair.send(&PADDED.encode(ticket.record), ends, &config, response);
    }

    fn take_back(&self, options: Option<&CookieOptions>, response: &mut HeaderEdits) {
        self.pair.take_back(options, response);
    }

    fn names(&self) -> Vec<&str> {
        self.pair.names()
    }

    fn check_options(&self, options: &CookieOptions) -> Result<()> {
        options.over(&self.pair.config).checked().map(|_| ())
    }
}

impl SessionCookie {
    /// Returns what a signed value holds; `None` if that has run out, or is nothing that this format writes. There is no
    /// record to protect then, so it is no session, as there, and what is written next takes its place.
    fn opened(&self, value: &[u8], reissue: bool) -> Option<Ticket> {
        let record = STANDARD.decode(value).ok()?;
        let fields = raw_entries(&record)?;
        let expire = field(&fields, "_expire").and_then(node::millis);
        if expire.is_some_and(|expire| expire < millis_of((self.clock)())) {
            return None;
        }
        drop(fields);
        // What is in the cookie names it: there is no id.
        let id = SessionId::parse(SessionId::from_checked(value).key().as_bytes())?;
        Some(Ticket { id, reissue, record: Some(record.into()) })
    }
}

impl fmt::Debug for SessionCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionCookie").field(&self.pair).finish()
    }
}

/// The data, then `_expire` and `_maxAge`, or `_session` for a cookie that ends with the browser.
struct CookieRows {
    lifetime: Lifetime,
    max_age: Millis,
    limit: usize,
    clock: Arc<ClockFn>,
}

impl RecordCodec for CookieRows {
    fn encode(&self, _: &Key, meta: &Meta, data: &Document) -> Result<Bytes> {
        if data.iter().any(|(key, _)| is_own(key)) {
            return Err(reserved("`isNew` and those that begin with `_`"));
        }
        let ends_with_browser = match meta.cookie.and_then(|own| own.browser_session) {
            Some(ends) => ends,
            None => self.lifetime == Lifetime::BrowserSession,
        };
        let mut out = Vec::new();
        data.write_json(&mut out);
        out.pop();
        if !data.is_empty() {
            out.push(b',');
        }
        if ends_with_browser {
            out.extend_from_slice(br#""_session":true}"#);
        } else {
            let lives = meta.ttl.unwrap_or(self.max_age);
            let expire = meta.renewed.saturating_add(lives);
            out.extend_from_slice(format!(r#""_expire":{expire},"_maxAge":{lives}}}"#).as_bytes());
        }
        check_size(out.len(), data.len(), self.limit)?;
        Ok(out.into())
    }

    fn decode(&self, _: &Key, bytes: &Bytes) -> Result<Decoded> {
        let wrong = || corrupt("the cookie holds no session");
        let entries = raw_entries(bytes).ok_or_else(wrong)?;
        let mut meta = Meta::starting(millis_of((self.clock)()), None);
        let max_age = field(&entries, "_maxAge").and_then(node::millis);
        meta.ttl = max_age.filter(|own| *own != self.max_age);
        let ends_with_browser = field(&entries, "_session") == Some("true");
        if ends_with_browser != (self.lifetime == Lifetime::BrowserSession) {
            meta.cookie = Some(CookieOptions::default().browser_session(ends_with_browser));
        }
        let mut data = Document::over(bytes.clone(), entries.len());
        for (key, value) in entries {
            // koa-session keeps none of these either.
            if !is_own(&key) {
                data.push_loaded(key, value);
            }
        }
        Ok(Decoded::Session(Record { meta, data }))
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

/// Whether koa-session keeps this key for itself.
fn is_own(key: &str) -> bool {
    key.starts_with('_') || key == "isNew"
}

impl fmt::Debug for CookieRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieRows")
    }
}
