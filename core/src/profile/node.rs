//! What the formats of Node programs have in common: secrets, the objects they store, dates and cookie attributes.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Mac, digest::KeyInit};
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::{
    cookie::{CookieConfig, Outgoing, Priority, SameSite},
    document::{Document, MAX_KEYS, json_string},
    error::{Error, ErrorKind, Result},
    id::{Key, SessionId},
    keyring::KeyAge,
    profile::KeyRule,
    record::{Millis, RawEntries, raw_entries},
};

/// The bytes of randomness in an id of `uid-safe`, which all of them use: 192 bits, 32 characters.
pub(super) const ID_BYTES: usize = 24;

/// A removal's date, as every one of them writes it.
pub(super) const EPOCH: &str = "Thu, 01 Jan 1970 00:00:00 GMT";

/// Base64 that takes padding or leaves it, and nothing but the one text of each value.
const fn lenient() -> GeneralPurposeConfig {
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
}
pub(super) const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient());
pub(super) const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, lenient());

/// The secrets that a Node program signs with, newest first: of any length, since that program has chosen them.
#[derive(Clone)]
pub(super) struct Secrets(Arc<[Zeroizing<Vec<u8>>]>);

impl Secrets {
    pub(super) fn new<I>(secrets: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        Self(secrets.into_iter().map(|secret| Zeroizing::new(secret.as_ref().to_vec())).collect())
    }

    /// # Errors
    /// [`ErrorKind::Config`] naming `profile` when there is none, one is empty, or one is there twice.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |cure: String| Err(Error::config("profile", cure));
        if self.0.is_empty() {
            return wrong("has no secret: give it those that the Node program signs its cookies with".into());
        }
        for (at, secret) in self.0.iter().enumerate() {
            if secret.is_empty() {
                return wrong(format!("secret {} is empty: anybody could sign with it", at + 1));
            }
            if let Some(first) = self.0[..at].iter().position(|earlier| earlier == secret) {
                return wrong(format!(
                    "secret {} is secret {} again: take one of them out",
                    at + 1,
                    first + 1
                ));
            }
        }
        Ok(())
    }

    /// Returns the newest secret's MAC of a message.
    pub(super) fn sign<M: Mac + KeyInit>(&self, message: &[&[u8]]) -> Vec<u8> {
        let newest = self.0.first().map(|secret| secret.as_slice()).unwrap_or_default();
        mac::<M>(newest, message).finalize().into_bytes().to_vec()
    }

    /// Returns which secret made this MAC, in the same time whichever it was.
    pub(super) fn verify<M: Mac + KeyInit>(&self, message: &[&[u8]], tag: &[u8]) -> Option<KeyAge> {
        let mut found = None;
        for (at, secret) in self.0.iter().enumerate() {
            let fits = mac::<M>(secret, message).verify_slice(tag).is_ok();
            if fits && found.is_none() {
                found = Some(if at == 0 { KeyAge::Newest } else { KeyAge::Older });
            }
        }
        found
    }
}

fn mac<M: Mac + KeyInit>(secret: &[u8], message: &[&[u8]]) -> M {
    let mut mac = <M as Mac>::new_from_slice(secret).expect("HMAC takes a key of any length");
    message.iter().for_each(|part| mac.update(part));
    mac
}

/// Shows the number of secrets.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// The key is the id behind a prefix.
#[derive(Debug)]
pub(super) struct Prefixed(pub(super) Box<str>);

impl Prefixed {
    /// # Errors
    /// [`ErrorKind::Config`] naming `profile` when no key can begin so.
    pub(super) fn new(prefix: &str, id_chars: usize) -> Result<Self> {
        Key::new(format!("{prefix}{}", "0".repeat(id_chars))).map_err(|_| {
            Error::config("profile", "the prefix must be printable ASCII, and short enough for a key of 255")
        })?;
        Ok(Self(prefix.into()))
    }
}

impl KeyRule for Prefixed {
    fn key(&self, id: &SessionId) -> Result<Key> {
        Key::new(format!("{}{}", self.0, id.expose()))
    }
}

/// A stored object, taken apart: `cookie` as raw JSON, and the rest.
pub(super) struct Row<'a> {
    pub(super) cookie: Option<&'a str>,
    pub(super) entries: RawEntries<'a>,
}

impl<'a> Row<'a> {
    /// Reads a stored object.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it is larger than `limit`, or no object that can be kept as it is. It then stays
    /// where it is: another program can read it.
    pub(super) fn read(bytes: &'a [u8], limit: usize) -> Result<Self> {
        if bytes.len() > limit {
            return Err(corrupt("the stored row is larger than the limit"));
        }
        let mut entries = raw_entries(bytes).ok_or_else(|| corrupt("the stored row is no session"))?;
        let at = entries.iter().position(|(key, _)| key == "cookie");
        let cookie = at.map(|at| entries.remove(at).1);
        Ok(Self { cookie, entries })
    }

    /// Makes a document of the rest, whose values refer to `bytes`.
    pub(super) fn into_data(self, bytes: &bytes::Bytes) -> Document {
        let mut data = Document::over(bytes.clone(), self.entries.len());
        for (key, value) in self.entries {
            data.push_loaded(key, value);
        }
        data
    }
}

/// Returns the fields of a row's `cookie`.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when it is no object.
pub(super) fn cookie_fields(raw: &str) -> Result<RawEntries<'_>> {
    raw_entries(raw.as_bytes()).ok_or_else(|| corrupt("the `cookie` of the stored row is no object"))
}

pub(super) fn field<'a>(fields: &RawEntries<'a>, name: &str) -> Option<&'a str> {
    fields.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
}

/// Reads `sameSite` as these programs do: `true` is strict, and so on in any case of letters.
pub(super) fn same_site(raw: &str) -> Option<SameSite> {
    match raw.trim_matches('"').to_ascii_lowercase().as_str() {
        "true" | "strict" => Some(SameSite::Strict),
        "lax" => Some(SameSite::Lax),
        "none" => Some(SameSite::None),
        _ => None,
    }
}

/// Reads `priority`, in any case of letters.
pub(super) fn priority(raw: &str) -> Option<Priority> {
    match raw.trim_matches('"').to_ascii_lowercase().as_str() {
        "low" => Some(Priority::Low),
        "medium" => Some(Priority::Medium),
        "high" => Some(Priority::High),
        _ => None,
    }
}

/// Writes what an attribute says as these programs have it in a row: a JSON string of small letters.
pub(super) fn spelt(value: &str) -> String {
    format!("\"{}\"", value.to_ascii_lowercase())
}

/// Returns the cookie of one session: as configured, but for what the session's options and its row say otherwise.
///
/// `row` is the row's `cookie`. Of what is not among the options it is asked for the priority alone.
pub(super) fn own_cookie(config: &CookieConfig, ticket: &Outgoing<'_>, row: &RawEntries<'_>) -> CookieConfig {
    let mut own = ticket.options.map_or_else(|| config.clone(), |options| options.over(config));
    own.priority = field(row, "priority").and_then(priority).or(own.priority);
    own
}

/// Returns the fields of the row's `cookie` that a ticket goes out for; none for a new session.
pub(super) fn row_cookie<'a>(ticket: &Outgoing<'a>) -> RawEntries<'a> {
    ticket.extra.and_then(|raw| cookie_fields(raw).ok()).unwrap_or_default()
}

/// Reads a number of milliseconds; `None` for `null`, zero and whatever else means "with the browser".
pub(super) fn millis(raw: &str) -> Option<Millis> {
    let number: f64 = serde_json::from_str(raw).ok()?;
    (number >= 1.0).then_some(number as Millis)
}

/// An object that is written with some of its fields replaced: the others stay, in their places.
pub(super) struct Fields<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Fields<'a> {
    pub(super) fn of(entries: RawEntries<'a>) -> Self {
        Self(entries.into_iter().map(|(key, value)| (key, Cow::Borrowed(value))).collect())
    }

    pub(super) const fn empty() -> Self {
        Self(Vec::new())
    }

    /// Sets a field to raw JSON, at the end if it is not there.
    pub(super) fn set(&mut self, name: &'static str, value: impl Into<Cow<'a, str>>) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value.into(),
            None => self.0.push((Cow::Borrowed(name), value.into())),
        }
    }

    pub(super) fn to_json(&self) -> String {
        let mut out = Vec::new();
        for (key, value) in &self.0 {
            out.push(if out.is_empty() { b'{' } else { b',' });
            json_string(key).write(&mut out);
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
        }
        if out.is_empty() {
            out.push(b'{');
        }
        out.push(b'}');
        // Made of JSON alone, which is text.
        String::from_utf8(out).unwrap_or_default()
    }
}

/// Writes a row: `cookie` first, then the data.
///
/// # Errors
/// [`ErrorKind::Value`] for data under the key `cookie`, and [`ErrorKind::TooLarge`].
pub(super) fn write_row(cookie: &str, data: &Document, limit: usize) -> Result<bytes::Bytes> {
    if data.get("cookie").is_some() {
        return Err(reserved("`cookie`"));
    }
    let size = br#"{"cookie":"#.len() + cookie.len() + data.json_len() - usize::from(data.is_empty());
    check_size(size, data.len() + 1, limit)?;
    let mut out = Vec::with_capacity(size);
    out.extend_from_slice(br#"{"cookie":"#);
    out.extend_from_slice(cookie.as_bytes());
    write_after(&mut out, data);
    debug_assert_eq!(out.len(), size);
    Ok(out.into())
}

/// Writes the entries of `data` behind others in an object, and ends it.
pub(super) fn write_after(out: &mut Vec<u8>, data: &Document) {
    let start = out.len();
    data.write_json(out);
    if data.is_empty() {
        out.truncate(start);
        out.push(b'}');
    } else if let Some(brace) = out.get_mut(start) {
        *brace = b',';
    }
}

/// # Errors
/// [`ErrorKind::TooLarge`].
pub(super) fn check_size(size: usize, keys: usize, limit: usize) -> Result<()> {
    if size <= limit && keys <= MAX_KEYS {
        return Ok(());
    }
    Err(Error::new(ErrorKind::TooLarge).operation("save").hint(format!(
        "the record has {size} bytes in {keys} keys; the limits are {limit} bytes and {MAX_KEYS} keys"
    )))
}

/// The error of data under a key that the format keeps for itself.
pub(super) fn reserved(what: &str) -> Error {
    Error::new(ErrorKind::Value)
        .operation("save")
        .hint(format!("this profile keeps keys such as {what} for itself: store the value under another one"))
}

pub(super) fn corrupt(hint: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt).operation("load").hint(hint)
}

/// Returns a time as HTTP writes it.
pub(super) fn http_date(at: Millis) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_millis(at.min(LAST)))
}

/// The end of the year 9999, after which dates have no such form.
const LAST: Millis = 253_402_300_799_999;

/// Returns a time as JavaScript's `toISOString` writes it: `2026-11-23T01:43:18.514Z`.
pub(super) fn iso_date(at: Millis) -> String {
    let at = at.min(LAST);
    // The date by HTTP's rules, in other words and with its milliseconds.
    let http = http_date(at);
    let part = |from: usize, to: usize| http.get(from..to).unwrap_or_default();
    let month = MONTHS.iter().position(|month| *month == part(8, 11)).unwrap_or(0) + 1;
    let mut iso = String::with_capacity(24);
    let _ = write!(iso, "{}-{month:02}-{}T{}.{:03}Z", part(12, 16), part(5, 7), part(17, 25), at % 1000);
    iso
}

/// Reads what `toISOString` writes; `None` for anything else.
pub(super) fn parse_iso(text: &str) -> Option<Millis> {
    let part = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second, milli) = (part(11, 13)?, part(14, 16)?, part(17, 19)?, part(20, 23)?);
    // Years that begin in March end with the day that some of them lack. A wrong date fails the comparison below.
    let (shifted, months) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + (months * 153 + 2) / 5 + day;
    let since_epoch = days.checked_sub(DAYS_TO_EPOCH)?;
    let at = (((since_epoch * 24 + hour) * 60 + minute) * 60 + second) * 1000 + milli;
    (iso_date(at) == text).then_some(at)
}

/// Days from 1 March of the year 0 to the Unix epoch, counted from 1.
const DAYS_TO_EPOCH: u64 = 719_469;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Returns the attributes of `cookies`, the package of Koa, in its order and spelling, each with `; ` before it.
pub(super) fn koa_attributes(config: &CookieConfig, expires: Option<&str>) -> String {
    let mut text = format!("; path={}", config.path);
    if let Some(expires) = expires {
        text.push_str("; expires=");
        text.push_str(expires);
    }
    if let Some(domain) = &config.domain {
        text.push_str("; domain=");
        text.push_str(domain);
    }
    if let Some(priority) = config.priority {
        text.push_str("; priority=");
        text.push_str(&priority.as_str().to_ascii_lowercase());
    }
    if let Some(same_site) = config.same_site {
        text.push_str("; samesite=");
        text.push_str(&same_site.as_str().to_ascii_lowercase());
    }
    for (set, name) in
        [(config.secure, "secure"), (config.http_only, "httponly"), (config.partitioned, "partitioned")]
    {
        if set {
            text.push_str("; ");
            text.push_str(name);
        }
    }
    text
}

/// Returns the attributes of `cookie`, the package of Express, likewise.
pub(super) fn express_attributes(config: &CookieConfig, expires: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(domain) = &config.domain {
        text.push_str("; Domain=");
        text.push_str(domain);
    }
    text.push_str("; Path=");
    text.push_str(&config.path);
    if let Some(expires) = expires {
        text.push_str("; Expires=");
        text.push_str(expires);
    }
    for (set, name) in
        [(config.http_only, "HttpOnly"), (config.secure, "Secure"), (config.partitioned, "Partitioned")]
    {
        if set {
            text.push_str("; ");
            text.push_str(name);
        }
    }
    if let Some(priority) = config.priority {
        text.push_str("; Priority=");
        text.push_str(priority.as_str());
    }
    if let Some(same_site) = config.same_site {
        text.push_str("; SameSite=");
        text.push_str(same_site.as_str());
    }
    text
}

/// Makes a `Set-Cookie`; `None` if the parts cannot stand in a header, which the checks before rule out.
pub(super) fn header(text: String) -> Option<HeaderValue> {
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_javascript_and_read_back() {
        // new Date(n).toISOString() and .toUTCString().
        for (at, iso, utc) in [
            (0, "1970-01-01T00:00:00.000Z", EPOCH),
            (1_795_398_198_514, "2026-11-23T01:43:18.514Z", "Mon, 23 Nov 2026 01:43:18 GMT"),
            (1_709_164_800_007, "2024-02-29T00:00:00.007Z", "Thu, 29 Feb 2024 00:00:00 GMT"),
            (LAST, "9999-12-31T23:59:59.999Z", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!((iso_date(at).as_str(), http_date(at).as_str()), (iso, utc));
            assert_eq!(parse_iso(iso), Some(at));
        }
        assert_eq!(iso_date(Millis::MAX), "9999-12-31T23:59:59.999Z");
        for bad in [
            "",
            "2026-11-23",
            "2026-13-01T00:00:00.000Z",
            "2026-02-30T00:00:00.000Z",
            "2026-11-23T01:43:18Z",
            "é",
        ] {
            assert_eq!(parse_iso(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_object_keeps_what_it_is_not_told_to_change_in_its_place() {
        let mut fields = Fields::of(raw_entries(br#"{"a":1,"maxAge":2,"z":[1, 2]}"#).unwrap());
        fields.set("maxAge", "null");
        fields.set("new", "true");
        assert_eq!(fields.to_json(), r#"{"a":1,"maxAge":null,"z":[1, 2],"new":true}"#);
        assert_eq!(Fields::empty().to_json(), "{}");
    }

    #[test]
    fn what_javascript_writes_and_others_refuse_is_read_and_kept() {
        let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        for value in [r#""\ud800""#, "1e400", "12345678901234567890", "-0", deep.as_str()] {
            let row = format!(r#"{{"cookie":{{}},"odd":{value},"n":1}}"#);
            let bytes = bytes::Bytes::from(row.clone());
            let data = Row::read(&bytes, 1 << 20).unwrap().into_data(&bytes);
            assert_eq!(data.get("odd"), Some(value));
            assert_eq!(write_row("{}", &data, 1 << 20).unwrap(), row);
        }
        for bad in
            ["", "5", "[]", "null", "\"x\"", "{", "{}x", r#"{"a":1,"a":2}"#, r#"{"\ud800":1}"#, "{\"a\":1}\0"]
        {
            let bytes = bytes::Bytes::from(bad.to_owned());
            assert!(Row::read(&bytes, 99).is_err_and(|error| error.kind() == ErrorKind::Corrupt), "{bad}");
        }
    }

    #[test]
    fn secrets_that_nobody_signs_with_are_refused_and_never_shown() {
        let empty: [&str; 0] = [];
        for (secrets, cure) in
            [(&empty[..], "no secret"), (&["a", ""], "secret 2 is empty"), (&["a", "a"], "again")]
        {
            let error = Secrets::new(secrets).check().unwrap_err();
            assert_eq!(error.field(), Some("profile"));
            assert!(error.to_string().contains(cure), "{error}");
        }
        assert_eq!(format!("{:?}", Secrets::new(["canary"])), "Secrets(1)");
    }
}
