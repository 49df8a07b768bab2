//! A Node program and an axum application on one store, behind one host name as far as a browser can tell.

use std::{
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use cloakroom::{Profile, RedisStore, SessionLayer, Store};
use cloakroom_conformance::{Running, Server};

use crate::{app::App, browser::Browser, program::Program};

/// The secrets of both sides unless a test says otherwise.
pub(crate) const SECRETS: &[&str] = &["keys", "keykeys"];

/// What Node program and profile belong together, and where their rows are.
pub(crate) struct Kind {
    pub(crate) program: &'static str,
    /// What the Node store puts before ids, behind the prefix of the test.
    pub(crate) prefix: &'static str,
    pub(crate) profile: fn(&[&str]) -> Profile,
}

/// A place that both sides keep their sessions in.
pub(crate) struct Place {
    kind: &'static Kind,
    server: Running,
    prefix: String,
}

/// Both sides, under way.
pub(crate) struct Pair {
    pub(crate) node: Program,
    pub(crate) rust: App,
}

impl Place {
    /// Takes a prefix of its own on the Redis server of the tests.
    pub(crate) async fn new(kind: &'static Kind) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = Server::redis().start().await.unwrap();
        let prefix = format!("node-{}-{}:", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { kind, server, prefix }
    }

    /// Starts the Node side with these secrets.
    pub(crate) fn node(&self, secrets: &[&str]) -> Program {
        let prefix = format!("{}{}", self.prefix, self.kind.prefix);
        Program::start(
            self.kind.program,
            &[
                ("REDIS_URL", self.server.url()),
                ("PREFIX", &prefix),
                ("STORE", "redis"),
                ("SECRETS", &secrets.join(",")),
            ],
        )
    }

    /// Starts the Rust side with these secrets.
    pub(crate) async fn rust(&self, secrets: &[&str]) -> App {
        let layer = SessionLayer::new(self.store().await).profile((self.kind.profile)(secrets));
        App::start(layer.build().unwrap()).await
    }

    /// Starts both sides with the usual secrets.
    pub(crate) async fn pair(&self) -> Pair {
        Pair { node: self.node(SECRETS), rust: self.rust(SECRETS).await }
    }

    /// Returns the store as the Rust side sees it.
    pub(crate) async fn store(&self) -> RedisStore {
        RedisStore::builder().prefix(&self.prefix).connect(self.server.url()).await.unwrap()
    }

    /// Returns the key of the only session there is.
    pub(crate) async fn only_key(&self) -> cloakroom::Key {
        use futures_util::TryStreamExt as _;
        let store = self.store().await;
        let keys: Vec<_> = store.as_admin().unwrap().scan().try_collect().await.unwrap();
        assert_eq!(keys.len(), 1, "one session, and nothing else");
        keys[0].clone()
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
