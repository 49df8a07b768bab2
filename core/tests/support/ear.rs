//! Listens to every test of these suites, at every level: a line that shows an id, a key, a record or a canary ends the
//! process.

use std::{
    fmt::{self, Write as _},
    io::Write as _,
    process,
    sync::Once,
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::Interest,
};

/// What values, users and secrets of the suites are called where a test wants them to be known again.
const CANARY: &str = "canary";

/// The shortest part of an id or a key that counts as one. Eight characters are what a fingerprint has.
const PART: usize = 16;

/// Begins to listen, in all threads that have no subscriber of their own; does nothing the second time.
///
/// Everything here that makes a store, a clock, a visitor or a layer calls it, so that no test runs unheard.
pub fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING
        .call_once(|| tracing::subscriber::set_global_default(Ear).expect("nothing else listens to all"));
}

/// Ends the process if a line shows what it must not. A panic would not do: it may happen in a task whose end nobody
/// looks at.
pub fn check(line: &str) {
    if let Some(what) = secret_in(line) {
        // Past the harness, which keeps what a test prints and loses it with the process.
        let _ = writeln!(std::io::stderr().lock(), "a log line shows {what}: {line}");
        process::abort();
    }
}

/// Tells what a line shows that no line may: known by its shape, so that no id of the whole process is forgotten.
pub fn secret_in(line: &str) -> Option<&'static str> {
    if line.contains(CANARY) {
        return Some("a canary");
    }
    if ["\"nonce\"", "\\\"nonce\\\"", "{\"v\":", "\"data\":{"].iter().any(|part| line.contains(part)) {
        return Some("a record");
    }
    // Ids, keys and signatures are 43 characters of base64url of random bytes or hashes: all but one in a thousand have
    // capitals, small letters and digits among them, most parts of them too, and nothing else that is logged has.
    let random = |run: &&str| {
        run.len() >= PART
            && run.bytes().any(|byte| byte.is_ascii_uppercase())
            && run.bytes().any(|byte| byte.is_ascii_lowercase())
            && run.bytes().any(|byte| byte.is_ascii_digit())
    };
    let mut runs = line.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
    runs.find(random).map(|_| "an id, a key or a signature")
}

struct Ear;

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl Subscriber for Ear {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = String::from(span.metadata().name());
        span.record(&mut Line(&mut line));
        check(&line);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = String::new();
        values.record(&mut Line(&mut line));
        check(&line);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = String::from(event.metadata().target());
        event.record(&mut Line(&mut line));
        check(&line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn this_suite_is_listened_to_and_a_secret_would_be_known() {
    listen();
    assert!(tracing::dispatcher::has_been_set() && tracing::enabled!(tracing::Level::TRACE));
    // Fixed, since one random id in many has a part without digits.
    let id = cloakroom_core::SessionId::parse(b"0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT-uV_wX0yZ1aB2").unwrap();
    let key = id.key();
    for secret in [id.expose(), key.as_str()] {
        assert!(secret_in(secret).is_some(), "a whole one");
        // One or the other end of it, however it is set.
        for line in
            [format!("get {}", &secret[..24]), format!("key=\"{}\"", &secret[19..]), format!("({secret})")]
        {
            assert!(secret_in(&line).is_some(), "{line}");
        }
    }
    for line in ["{\"v\":1,\"nonce\":\"0\"}", "value=\"{\\\"nonce\\\":\\\"0\\\"}\"", "user canary-alice"] {
        assert!(secret_in(line).is_some(), "{line}");
    }
    let usual = format!(
        "cloakroom session={} conflicts=1 error=get on switch: unavailable: session store is unavailable",
        key.fingerprint()
    );
    assert_eq!(secret_in(&usual), None);
}
