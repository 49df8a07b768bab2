//! A visitor whom Koa knows, and an engine that takes over from Koa.

use std::collections::BTreeMap;

use cloakroom_core::{AdminStore, Engine, LazySession, Profile, RequestHead, Result, Session, Store};
use futures_util::StreamExt;
use http::{HeaderMap, Method, StatusCode, Uri, header};

use super::{
    side::KEYS,
    spy::Spy,
    visitor::{cookies, finish},
};

/// A browser with all its cookies.
#[derive(Clone, Default)]
pub struct Jar(pub BTreeMap<String, String>);

impl Jar {
    pub fn take(&mut self, set: &[String]) {
        for line in set {
            let (name, rest) = line.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            if line.contains("01 Jan 1970") {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    pub fn begin(&self, engine: &Engine) -> LazySession {
        let pairs: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (uri, mut headers) = (Uri::from_static("/"), HeaderMap::new());
        if !pairs.is_empty() {
            headers.insert(header::COOKIE, pairs.join("; ").parse().unwrap());
        }
        engine.begin(&RequestHead { method: &Method::GET, uri: &uri, headers: &headers })
    }

    /// One request; returns its Set-Cookie lines, which are kept.
    pub async fn visit(
        &mut self,
        engine: &Engine,
        work: impl AsyncFnOnce(&Session) -> Result<()>,
    ) -> Result<Vec<String>> {
        let lazy = self.begin(engine);
        let outcome = work(&lazy.load().await?).await;
        let headers = finish(engine, &lazy, StatusCode::OK).await?;
        let set = cookies(&headers);
        self.take(&set);
        outcome.map(|()| set)
    }

    pub async fn n(&mut self, engine: &Engine) -> Result<Option<u64>> {
        let mut n = None;
        self.visit(engine, async |s| {
            n = s.get("n")?;
            Ok(())
        })
        .await
        .map(|_| n)
    }

    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

pub fn add(session: &Session) -> Result<()> {
    session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).map(|_| ())
}

/// An engine that takes over from Koa, both stores, and a visitor whom Koa knows, with `n` = 1.
pub struct House {
    pub own: Spy,
    pub old: Spy,
    pub engine: Engine,
    pub jar: Jar,
}

impl House {
    pub async fn new() -> Self {
        let (own, old) = (Spy::new(), Spy::new());
        let koa = Engine::builder(old.clone()).profile(Profile::koa(KEYS)).build().unwrap();
        let mut jar = Jar::default();
        jar.visit(&koa, async |s| add(s)).await.unwrap();
        let builder = Engine::builder(own.clone()).migrate_from(Profile::koa(KEYS), old.clone());
        old.take_calls();
        Self { own, old, engine: builder.build().unwrap(), jar }
    }

    /// Counts the sessions: a note that one has moved is none.
    pub async fn records(spy: &Spy) -> usize {
        let store = spy.store();
        let mut sessions = 0;
        for key in store.scan().collect::<Vec<_>>().await {
            let value = store.get(&key.unwrap()).await.unwrap().unwrap();
            sessions += usize::from(!String::from_utf8_lossy(&value).contains(r#""moved":"#));
        }
        sessions
    }

    pub async fn both(&self) -> (usize, usize) {
        (Self::records(&self.own).await, Self::records(&self.old).await)
    }
}
