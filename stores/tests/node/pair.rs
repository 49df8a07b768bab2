//! A Node program and an axum application on one store, behind one host name as far as a browser can tell.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use cloakroom::{Expiry, Express, Key, Koa, Profile, SessionLayer, Store};

use crate::{
    app::App,
    browser::Browser,
    home::{Home, Later},
    program::Program,
};

/// The secrets of both sides unless a test says otherwise.
pub(crate) const SECRETS: &[&str] = &["keys", "keykeys"];

/// What Node program and profile belong together, and where their rows are.
pub(crate) struct Kind {
    pub(crate) format: Format,
    /// What the Node program calls the store.
    pub(crate) store: &'static str,
    /// What stands before ids there.
    pub(crate) prefix: &'static str,
    /// Takes a place of this name on the tests' server.
    pub(crate) home: fn(String) -> Later<Home>,
}

/// What the two sides agree on beside the store.
#[derive(Clone, Copy)]
pub(crate) enum Format {
    Koa,
    Express,
}

/// A place that both sides keep their sessions in.
pub(crate) struct Place {
    kind: &'static Kind,
    home: Home,
}

/// Both sides, under way.
pub(crate) struct Pair {
    pub(crate) node: Program,
    pub(crate) rust: App,
}

impl Format {
    /// Returns the name of the program.
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Koa => "koa",
            Self::Express => "express",
        }
    }

    /// Returns a layer that is configured as the program is.
    fn layer(self, store: impl Store, prefix: &str, secrets: &[&str]) -> SessionLayer {
        let layer = SessionLayer::new(store);
        let layer = match self {
            // A day, which is the default of both.
            Self::Koa => layer.profile(Koa::new(secrets).prefix(prefix).into()),
            Self::Express => {
                let profile: Profile = Express::new(secrets).prefix(prefix).into();
                let cookie = profile.default_cookie().lasting();
                layer.profile(profile).cookie(cookie).expiry(Expiry::idle(Duration::from_secs(3600)))
            }
        };
        layer.build().unwrap()
    }

    /// Returns the same cookies with one character of the signature changed.
    fn forged(self, cookies: &str) -> String {
        let mark = match self {
            Self::Koa => "koa.sid.sig=",
            Self::Express => ".",
        };
        let mut at = cookies.rfind(mark).expect("a signature") + mark.len();
        // What is written as `%2B` is one character.
        while cookies[at..].starts_with('%') {
            at += 3;
        }
        let other = if cookies[at..].starts_with('A') { "B" } else { "A" };
        format!("{}{other}{}", &cookies[..at], &cookies[at + 1..])
    }

    /// Returns the id in a header with cookies.
    fn id(self, cookies: &str) -> &str {
        let (before, after) = match self {
            Self::Koa => ("koa.sid=", ';'),
            Self::Express => ("connect.sid=s%3A", '.'),
        };
        cookies.split_once(before).and_then(|(_, rest)| rest.split(after).next()).expect("a session cookie")
    }
}

impl Place {
    /// Takes a place of its own on the server of the tests.
    pub(crate) async fn new(kind: &'static Kind) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // With the time, for a server may outlive the process, and numbers of processes come again.
        let (now, next) = (UNIX_EPOCH.elapsed().unwrap().as_micros(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = format!("node_{now:x}_{}_{next}", process::id());
        Self { kind, home: (kind.home)(name).await }
    }

    /// Starts the Node side with these secrets. It makes the table, if there is one to make, before it listens.
    pub(crate) fn node(&self, secrets: &[&str]) -> Program {
        let (prefix, secrets) = (format!("{}{}", self.home.prefix, self.kind.prefix), secrets.join(","));
        let mut environment = vec![("STORE", self.kind.store), ("PREFIX", &prefix), ("SECRETS", &secrets)];
        environment.extend(self.home.environment.iter().map(|(name, value)| (*name, value.as_str())));
        Program::start(self.kind.format.program(), &environment)
    }

    /// Starts the Rust side with these secrets.
    pub(crate) async fn rust(&self, secrets: &[&str]) -> App {
        App::start(self.kind.format.layer(self.store().await, self.kind.prefix, secrets)).await
    }

    /// Starts both sides with the usual secrets.
    pub(crate) async fn pair(&self) -> Pair {
        Pair { node: self.node(SECRETS), rust: self.rust(SECRETS).await }
    }

    /// Returns the store as the Rust side sees it.
    pub(crate) async fn store(&self) -> Arc<dyn Store> {
        self.home.open().await
    }

    /// Opens a browser with the cookies of another, and a signature that is wrong.
    pub(crate) fn forger(&self, browser: &Browser) -> Browser {
        let forger = Browser::new();
        forger.plant(&self.kind.format.forged(&browser.cookies()));
        forger
    }

    /// Returns the key of a browser's session in that store.
    pub(crate) fn key(&self, browser: &Browser) -> Key {
        let cookies = browser.cookies();
        Key::new(format!("{}{}", self.kind.prefix, self.kind.format.id(&cookies))).unwrap()
    }
}

impl Pair {
    /// Returns the sites, each with the other: what is done at the first is to be seen at the second.
    pub(crate) fn both_ways(&self) -> [(&str, &str); 2] {
        [(self.node.site(), self.rust.site()), (self.rust.site(), self.node.site())]
    }
}

/// Returns a browser that has logged in at `site`.
pub(crate) async fn logged_in(site: &str) -> Browser {
    let browser = Browser::new();
    assert_eq!(browser.get(site, "/login?user=ada").await, "ada");
    browser
}
