//! A foreign format through the unchanged engine: bare JSON rows under a prefix, touched to renew, removed to move.

use std::{collections::BTreeMap, time::SystemTime};

use http::{HeaderMap, Method, StatusCode, Uri, header::COOKIE};
use parking_lot::Mutex;

use super::*;
use crate::{
    AtomicStore, Engine, Error, ErrorKind, HeaderEdits, NoStore, RequestHead, Session, Store, Swapped, Ttl,
    async_trait,
    config::Builder,
    cookie::{Candidates, CookieForm, CookieOptions, Outgoing, Rejection, Ticket},
    document::Pair,
};

/// The rows of a program that knows nothing of us: the data alone, as one JSON object.
#[derive(Debug)]
struct BareJson;

impl RecordCodec for BareJson {
    fn encode(&self, _: &Key, _: &Meta, data: &Document) -> Result<Bytes> {
        let mut json = Vec::new();
        data.write_json(&mut json);
        Ok(json.into())
    }

    fn decode(&self, _: &Key, bytes: &Bytes) -> Result<Decoded> {
        let rows: BTreeMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_slice(bytes).map_err(|_| Error::new(ErrorKind::Corrupt))?;
        let mut data = Document::default();
        for (key, value) in rows {
            data.set(&Pair::new(&key, value.get()));
        }
        let meta = Meta::starting(0, None);
        Ok(Decoded::Session(record::Record { meta, data }))
    }

    fn tombstone(&self, _: &Key, _: Millis) -> Result<Option<Bytes>> {
        Ok(None)
    }

    fn keeps_users(&self) -> bool {
        false
    }

    fn marks_writes(&self) -> bool {
        false
    }
}

/// The codec of a format, for its own tests.
pub(crate) fn native(limit: usize) -> Arc<dyn RecordCodec> {
    Arc::new(NativeCodec { nonces: NonceSource::new().unwrap(), limit })
}

#[cfg(feature = "encrypt")]
pub(crate) fn encrypted(limit: usize, ring: &Keyring) -> Result<Arc<dyn RecordCodec>> {
    let inner = native(limit.saturating_sub(encrypt::OVERHEAD));
    Ok(Arc::new(EncryptedCodec::new(inner, ring, "encrypt", limit)?))
}

/// A format of two cookies, `bare` and `bare.twin`, which must say the same.
#[derive(Debug)]
struct Bare;

impl Format for Bare {
    fn name(&self) -> &'static str {
        "bare"
    }
    fn cookie(&self) -> CookieConfig {
        CookieConfig::new().name("bare")
    }
    fn ids(&self) -> IdSource {
        IdSource::default()
    }
    fn shared(&self) -> Shared {
        Shared::WithOthers
    }
    fn carrier(&self, terms: &Terms<'_>) -> Result<Carrier> {
        Ok(Carrier::Foreign(Box::new(Twins(terms.cookie.checked()?, terms.ids))))
    }
    fn wire(&self, _: &Terms<'_>) -> Result<Wire> {
        Ok(Wire {
            keys: Arc::new(Prefixed("app:sess:")),
            records: Arc::new(BareJson),
            renewal: RenewalRule { by_touch: true, ..RenewalRule::NATIVE },
            in_cookie: false,
            endless_cookie: false,
            whole_seconds: false,
        })
    }
}

#[derive(Debug)]
struct Twins(CookieConfig, IdShape);

impl CookieForm for Twins {
    fn covers(&self, path: &str) -> bool {
        self.0.covers(path)
    }
    fn read(&self, headers: &HeaderMap) -> Candidates {
        let text = headers.get(COOKIE).map(|value| value.to_str().unwrap()).unwrap_or_default();
        let values: Vec<Box<[u8]>> =
            text.split("; ").filter_map(|pair| Some(pair.split_once('=')?.1.as_bytes().into())).collect();
        if values.len() == 2 { Candidates::foreign(values.into()) } else { Candidates::default() }
    }
    fn verify(&self, candidates: &Candidates, _: usize) -> Result<Ticket, Rejection> {
        match candidates.foreign_values() {
            Some([one, two]) if one == two => {
                self.1.parse(one).map(|id| Ticket::new(id, false)).ok_or(Rejection::Strange)
            }
            _ => Err(Rejection::Forged),
        }
    }
    fn send(&self, ticket: &Outgoing<'_>, response: &mut HeaderEdits) {
        for name in self.names() {
            let text = format!("{name}={}; for={}", ticket.id.expose(), ticket.lives.secs_rounded_up());
            response.append_cookie(text.parse().unwrap());
        }
    }
    fn take_back(&self, _: Option<&CookieOptions>, response: &mut HeaderEdits) {
        for name in self.names() {
            response.append_cookie(format!("{name}=").parse().unwrap());
        }
    }
    fn refuse(&self, _: Rejection, response: &mut HeaderEdits) {
        response.append_cookie("bare.twin=".parse().unwrap());
    }
    fn names(&self) -> Vec<&str> {
        vec!["bare", "bare.twin"]
    }
    fn check_options(&self, _: &CookieOptions) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Prefixed(&'static str);

impl KeyRule for Prefixed {
    fn key(&self, id: &SessionId) -> Result<Key> {
        Key::new(format!("{}{}", self.0, id.expose()))
    }
}

/// Rows and a list of what was asked of them. A write can lose its reply once.
#[derive(Debug, Default)]
struct Rows {
    rows: Mutex<BTreeMap<Key, Bytes>>,
    calls: Mutex<Vec<&'static str>>,
    lose: Mutex<bool>,
}

impl Rows {
    fn note(&self, call: &'static str) {
        self.calls.lock().push(call);
    }

    fn answer<T>(&self, answer: T) -> Result<T> {
        if std::mem::take(&mut *self.lose.lock()) { Err(ErrorKind::Timeout.into()) } else { Ok(answer) }
    }
}

#[async_trait]
impl Store for Rows {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.note("get");
        Ok(self.rows.lock().get(key).cloned())
    }
    async fn set(&self, key: &Key, value: Bytes, _: Ttl) -> Result<()> {
        self.note("set");
        self.rows.lock().insert(key.clone(), value);
        Ok(())
    }
    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.note("destroy");
        Ok(self.rows.lock().remove(key).is_some())
    }
    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for Rows {
    async fn create(&self, key: &Key, value: Bytes, _: Ttl) -> Result<bool> {
        self.note("create");
        self.rows.lock().insert(key.clone(), value);
        Ok(true)
    }
    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, _: Ttl) -> Result<Swapped> {
        self.note("replace");
        let swapped = match self.rows.lock().get_mut(key) {
            None => Swapped::Gone,
            Some(row) if *row != expected => Swapped::Conflict(row.clone()),
            Some(row) => {
                *row = value;
                Swapped::Done
            }
        };
        self.answer(swapped)
    }
    async fn remove(&self, key: &Key, _: &[u8]) -> Result<Swapped> {
        self.note("remove");
        Ok(self.rows.lock().remove(key).map_or(Swapped::Gone, |_| Swapped::Done))
    }
    async fn touch(&self, key: &Key, _: Ttl) -> Result<bool> {
        self.note("touch");
        Ok(self.rows.lock().contains_key(key))
    }
}

struct Visitor {
    engine: Engine,
    rows: Arc<Rows>,
    cookie: Option<String>,
    /// The Set-Cookie headers of the last answer.
    answered: Vec<String>,
}

impl Visitor {
    fn new(configure: impl FnOnce(Builder<Engine>) -> Builder<Engine>) -> Self {
        let rows = Arc::new(Rows::default());
        let builder = Engine::builder(Arc::clone(&rows)).profile(Profile::of(Bare));
        Self { engine: configure(builder).build().unwrap(), rows, cookie: None, answered: Vec::new() }
    }

    /// One request; returns what the store was asked.
    async fn request(
        &mut self,
        handler: impl AsyncFnOnce(Session) -> Result<()>,
    ) -> Result<Vec<&'static str>> {
        let (method, uri, mut headers) = (Method::GET, Uri::from_static("/"), HeaderMap::new());
        if let Some(cookie) = &self.cookie {
            headers.insert(COOKIE, format!("bare={cookie}; bare.twin={cookie}").parse().unwrap());
        }
        let lazy = self.engine.begin(&RequestHead { method: &method, uri: &uri, headers: &headers });
        handler(lazy.load().await?).await?;
        let edits = self.engine.finish(&lazy, StatusCode::OK).unwrap().await?;
        let mut answer = HeaderMap::new();
        edits.apply(&mut answer);
        self.answered = answer.get_all("set-cookie").iter().map(|v| v.to_str().unwrap().to_owned()).collect();
        if let Some(cookie) = self.answered.first().filter(|cookie| cookie.starts_with("bare=")) {
            self.cookie = cookie.split(['=', ';']).nth(1).map(str::to_owned);
        }
        Ok(std::mem::take(&mut *self.rows.calls.lock()))
    }

    fn row(&self) -> String {
        let key = Key::new(format!("app:sess:{}", self.cookie.as_deref().unwrap())).unwrap();
        String::from_utf8(self.rows.rows.lock()[&key].to_vec()).unwrap()
    }
}

#[tokio::test]
async fn a_foreign_format_is_written_and_read_in_its_own_shape_under_its_own_key() {
    let mut visitor = Visitor::new(|b| b.clock(|| SystemTime::UNIX_EPOCH));
    assert_eq!(visitor.request(async |s| s.insert("n", 1)).await.unwrap(), ["create"]);
    assert_eq!(visitor.row(), r#"{"n":1}"#);
    let calls =
        visitor.request(async |s| s.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).map(|_| ())).await;
    assert_eq!(calls.unwrap(), ["get", "replace"]);
    assert_eq!(visitor.row(), r#"{"n":2}"#);
}

#[tokio::test]
async fn a_format_that_renews_by_touch_leaves_the_row_as_it_is() {
    let mut visitor = Visitor::new(|b| b.clock(|| SystemTime::UNIX_EPOCH).rolling(true));
    visitor.request(async |s| s.insert("n", 1)).await.unwrap();
    assert_eq!(visitor.request(async |s| s.get::<u64>("n").map(|_| ())).await.unwrap(), ["get", "touch"]);
    assert_eq!(visitor.row(), r#"{"n":1}"#);
}

#[tokio::test]
async fn a_format_without_tombstones_removes_what_has_moved() {
    let mut visitor = Visitor::new(|b| b.clock(|| SystemTime::UNIX_EPOCH));
    visitor.request(async |s| s.insert("n", 1)).await.unwrap();
    let old = visitor.cookie.clone();
    let calls = visitor.request(async |s| s.cycle_id().await.map(|_| ())).await.unwrap();
    assert_eq!(calls, ["get", "create", "remove"]);
    assert_ne!(visitor.cookie, old);
    assert_eq!(visitor.rows.rows.lock().len(), 1);
}

#[tokio::test]
async fn a_write_that_cannot_be_known_again_is_reported_and_not_repeated() {
    let mut visitor = Visitor::new(|b| b.clock(|| SystemTime::UNIX_EPOCH));
    visitor.request(async |s| s.insert("n", 1)).await.unwrap();
    *visitor.rows.lose.lock() = true;
    let outcome =
        visitor.request(async |s| s.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).map(|_| ())).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(visitor.row(), r#"{"n":2}"#, "applied once");
}

#[tokio::test]
async fn a_format_of_several_cookies_sends_reads_and_takes_back_all_of_them() {
    let mut visitor = Visitor::new(|b| b);
    visitor.request(async |s| s.insert("n", 1)).await.unwrap();
    let id = visitor.cookie.clone().unwrap();
    assert_eq!(visitor.answered, [format!("bare={id}; for=86400"), format!("bare.twin={id}; for=86400")]);
    visitor.request(async |s| s.destroy().await).await.unwrap();
    assert_eq!(visitor.answered, ["bare=", "bare.twin="]);
}

#[tokio::test]
async fn a_ticket_that_does_not_verify_is_answered_as_the_format_has_it_and_looked_up_nowhere() {
    let visitor = Visitor::new(|b| b);
    let (method, uri, mut headers) = (Method::GET, Uri::from_static("/"), HeaderMap::new());
    headers.insert(COOKIE, format!("bare={}; bare.twin=x", "A".repeat(43)).parse().unwrap());
    let lazy = visitor.engine.begin(&RequestHead { method: &method, uri: &uri, headers: &headers });
    assert!(lazy.load().await.unwrap().is_new());
    let mut answer = HeaderMap::new();
    visitor.engine.finish(&lazy, StatusCode::OK).unwrap().await.unwrap().apply(&mut answer);
    assert_eq!(answer.get("set-cookie").unwrap(), "bare.twin=");
    assert!(visitor.rows.calls.lock().is_empty());
}

#[tokio::test]
async fn a_format_without_room_for_a_user_says_so() {
    let mut visitor = Visitor::new(|b| b);
    let outcome = visitor.request(async |s| s.bind_user("alice")).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unsupported);
}

/// What cannot be configured together with a format that others share, by field, and a part of the cure.
#[test]
fn what_has_no_place_in_a_shared_format_is_refused_by_name() {
    type Configure = fn(Builder<Engine>) -> Builder<Engine>;
    let mistakes: &[(Configure, &str, &str)] = &[
        (|b| b.keys(Keyring::new([[7_u8; 32]])), "keys", "given twice"),
        #[cfg(feature = "encrypt")]
        (|b| b.encrypt(Keyring::new([[7_u8; 32]])), "encrypt", "could not read"),
        (
            |b| b.expiry(Expiry::default().absolute(std::time::Duration::from_secs(99_999_999))),
            "expiry.absolute",
            "idle",
        ),
        (|b| b.cookie(CookieConfig::new().name("")), "cookie.name", "empty"),
    ];
    for (configure, field, cure) in mistakes {
        // In whichever order they are called.
        let first = configure(Engine::builder(Rows::default()).profile(Profile::of(Bare))).build();
        let last = configure(Engine::builder(Rows::default())).profile(Profile::of(Bare)).build();
        for error in [first.unwrap_err(), last.unwrap_err()] {
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some(*field)));
            assert!(error.to_string().contains(cure), "{error}");
        }
    }
    let error = Engine::builder(NoStore).build().unwrap_err();
    assert_eq!(error.field(), Some("profile"));
    assert!(error.to_string().contains("instead of `NoStore`"), "{error}");
}
