//! No id, key, value, user or cookie shows in any event, error or `Debug`, whatever happens.

#![allow(clippy::unwrap_used, clippy::panic)] // What helps a test is a test.
mod support;

use std::{fmt::Debug, time::Duration};

use cloakroom_core::{
    Bytes, CookieConfig, Data, Engine, Error, ErrorKind, Expiry, Keyring, OwnedHead, Session, Store, Ttl,
};
use http::{HeaderMap, StatusCode, header};
use support::{
    COOKIE, Clock,
    logs::Logs,
    shape::SHAPES,
    spy::{Act, Spy},
    visitor::{Visitor, begin, cookies, finish},
};

const SECRET: [u8; 32] = *b"canary-signing-key-0123456789abc";

/// Everything said so far, and everything that must not be in it.
struct Ear {
    logs: Logs,
    said: String,
    secrets: Vec<String>,
}

impl Ear {
    fn hear(&mut self, what: impl Debug) {
        self.said.push_str(&format!("{what:?}\n{what:#?}\n"));
    }

    fn hear_error(&mut self, error: &Error) {
        self.said.push_str(&format!("{error}\n{error:?}\n{error:#?}\n"));
    }

    /// Notes a ticket and its key as secret.
    fn keep(&mut self, visitor: &Visitor) {
        if let Some(ticket) = &visitor.ticket {
            self.secrets.push(ticket[..43].to_owned());
            self.secrets.push(support::key_of(ticket).as_str().to_owned());
            self.secrets.extend(ticket.get(44..).map(str::to_owned));
        }
    }

    fn check(&self) {
        let said = self.said.clone() + &self.logs.text();
        assert!(said.contains("session created") && said.contains("Session("), "it listens");
        assert!(!said.contains("canary"), "{}", line_with(&said, "canary"));
        for secret in &self.secrets {
            // Neither the whole nor a part that would help.
            for part in [&secret[..12], &secret[secret.len() - 12..]] {
                assert!(!said.contains(part), "{}", line_with(&said, part));
            }
        }
    }
}

fn line_with<'a>(said: &'a str, part: &str) -> &'a str {
    said.lines().find(|line| line.contains(part)).unwrap_or_default()
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Visit {
    views: u64,
}

fn engine(spy: &Spy, clock: &Clock) -> Engine {
    Engine::builder(spy.clone())
        .cookie(CookieConfig::new())
        .keys(Keyring::new([SECRET]))
        .expiry(Expiry::idle(Duration::from_secs(1000)).absolute(Duration::from_secs(5000)))
        .clock(clock.reader())
        .max_record(4096)
        .build()
        .unwrap()
}

/// Uses everything that can fail, and hears every error.
async fn misuse(ear: &mut Ear, session: &Session) {
    ear.hear(session);
    let outcomes: Vec<Result<(), Error>> = vec![
        session.insert("canary-key", "canary-value"),
        session.get::<u64>("canary-key").map(|_| ()),
        session.take::<Vec<u8>>("canary-key").map(|_| ()),
        session.update("canary-key", |n: Option<u64>| n.unwrap_or(0)).map(|_| ()),
        session.update_now("canary-key", |n: Option<u64>| n.unwrap_or(0)).await.map(|_| ()),
        session.insert("canary-key", std::collections::BTreeMap::from([((1, 2), "canary")])),
        session.bind_user("canary-user"),
        session.bind_user(&"canary".repeat(100)),
        session.set_ttl(Duration::ZERO),
        session.save().await,
        session.destroy_others().await.map(|_| ()),
        session.cycle_id().await.map(|_| ()),
        session.save().await,
        session.reload().await,
        session.insert("canary-large", "canary".repeat(1000)),
        session.save().await,
        session.remove("canary-large").map(|_| ()),
        session.insert("views", "canary"),
        Data::<Visit>::of(session.clone()).map(|data| drop(format!("{data:?}"))),
        session.remove("views").map(|_| ()),
        session.save().await,
    ];
    for outcome in outcomes {
        if let Err(error) = outcome {
            ear.hear_error(&error);
        }
    }
    if let Ok(data) = Data::<Visit>::of(session.clone()) {
        ear.hear(&data);
        if let Ok(guard) = data.write() {
            ear.hear(&guard);
        }
    }
    ear.hear(session.id());
    ear.hear(session.fingerprint());
    ear.hear(session);
}

#[tokio::test(start_paused = true)]
async fn nothing_secret_is_said_in_any_kind_of_request_under_any_fault() {
    let (logs, _guard) = Logs::listen();
    let mut ear = Ear { logs, said: String::new(), secrets: Vec::new() };
    let kinds = [ErrorKind::Unavailable, ErrorKind::Rejected, ErrorKind::Backend, ErrorKind::TooLarge];
    let mut acts: Vec<Option<(usize, Act)>> = vec![None];
    for call in 1..8 {
        acts.extend(kinds.map(|kind| Some((call, Act::Fail(kind)))));
        acts.extend([Act::LoseReply(ErrorKind::Timeout), Act::Hang].map(|act| Some((call, act))));
    }
    for act in acts {
        let (spy, clock) = (Spy::new(), Clock::new());
        let engine = engine(&spy, &clock);
        ear.hear(&engine);
        let mut visitor = Visitor::new();
        visitor.visit(&engine, async |s| s.insert("canary-key", "canary-value")).await.outcome.unwrap();
        ear.keep(&visitor);
        clock.advance(Duration::from_secs(600));
        let other = visitor.clone();
        if let Some((call, act)) = act {
            spy.on_calls(call, 2, act);
        }
        let lazy = visitor.begin(&engine);
        ear.hear(&lazy);
        match lazy.load().await {
            Ok(session) => misuse(&mut ear, &session).await,
            Err(error) => ear.hear_error(&error),
        }
        if let Some(commit) = engine.finish(&lazy, StatusCode::OK) {
            ear.hear(&commit);
            match commit.await {
                Ok(edits) => {
                    ear.hear(&edits);
                    let mut headers = HeaderMap::new();
                    edits.apply(&mut headers);
                    // Marked as sensitive: `Debug` of the headers does not show it.
                    ear.hear(&headers);
                    visitor.take(&cookies(&headers));
                    ear.keep(&visitor);
                }
                Err(error) => ear.hear_error(&error),
            }
        }
        ear.hear(&lazy);
        spy.heal();
        // With the old cookie, after a logout, and with a record that cannot be read.
        for ticket in [&other, &visitor] {
            let answer = ticket.peek(&engine, async |s| s.insert("canary-key", 1)).await;
            answer.outcome.as_ref().err().inspect(|error| ear.hear_error(error));
            let answer = ticket.peek(&engine, async |s| s.destroy().await).await;
            answer.outcome.as_ref().err().inspect(|error| ear.hear_error(error));
            let key = ticket.key();
            spy.store().set(&key, Bytes::from_static(b"canary"), Ttl::from_secs(9)).await.unwrap();
            let lazy = ticket.begin(&engine);
            misuse(&mut ear, &lazy.load().await.unwrap()).await;
            ear.hear(&lazy);
            finish(&engine, &lazy, StatusCode::OK).await.unwrap();
        }
    }
    ear.check();
}

#[tokio::test(start_paused = true)]
async fn nothing_secret_is_said_of_the_shapes_and_of_hostile_cookies() {
    let (logs, _guard) = Logs::listen();
    let mut ear = Ear { logs, said: String::new(), secrets: Vec::new() };
    for shape in SHAPES {
        let mut stage = support::shape::Stage::set(shape).await;
        ear.keep(&stage.visitor);
        let engine = stage.engine.clone();
        let answer = stage.visitor.visit(&engine, async |s| (shape.work)(s.clone()).await).await;
        ear.hear(&answer.headers);
        ear.keep(&stage.visitor);
        ear.hear(stage.visitor.begin(&engine).load().await.unwrap());
    }
    let (spy, clock) = (Spy::new(), Clock::new());
    let engine = engine(&spy, &clock);
    for value in [
        "canary",
        &format!("canary-{}", "x".repeat(36)),
        &format!("canary-{}.{}", "x".repeat(36), "y".repeat(43)),
    ] {
        let lazy = begin(&engine, Some(value));
        lazy.load().await.unwrap();
        ear.hear(&lazy);
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, format!("{COOKIE}={value}; canary=canary").parse().unwrap());
        let mut head = OwnedHead::default();
        (head.uri, head.headers) = ("/canary?canary=1".parse().unwrap(), headers);
        ear.hear(head);
    }
    assert!(ear.logs.text().contains("malformed or forged"));
    ear.check();
}

#[test]
fn builders_layers_and_configurations_show_no_secret() {
    let builder = || {
        Engine::builder(Spy::new()).keys(Keyring::new([SECRET])).generate_id(
            "0123456789abcdef",
            32,
            || async { Ok("canary".to_owned()) },
        )
    };
    let engine = builder().build().unwrap();
    let mut shown =
        format!("{:?}{:#?}{engine:?}{engine:#?}{:?}", builder(), builder(), Keyring::new([SECRET]));
    #[cfg(feature = "tower-service-0_3")]
    {
        let layer = cloakroom_core::SessionLayer::from(engine);
        let service = tower::Layer::layer(&layer, ());
        shown.push_str(&format!("{layer:?}{layer:#?}{service:?}"));
    }
    assert!(shown.contains("Spy") && !shown.contains("canary"), "{shown}");
    let bytes = format!("{:?}", &SECRET[..6]);
    assert!(!shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
}
