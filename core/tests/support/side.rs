//! A browser, an engine with a format of Node, and the store that a Node program could use as well.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cloakroom_core::{Builder, Bytes, Engine, Key, NoStore, RequestHead, Result, Session, Store, Ttl};
use hmac::{Hmac, Mac};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use parking_lot::Mutex;
use serde_json::Value;
use sha1::Sha1;

use super::{
    spy::Spy,
    visitor::{cookies, finish},
};

/// The id of every session of the vectors, and of every one that a [`Side`] makes.
pub const ID: &str = "ShAK2lyZHmzqINFmj32LqoG7PkHdtldy";

pub const KEYS: [&str; 2] = ["keys", "keykeys"];
pub const SECRETS: [&str; 2] = ["s3cret", "old"];

const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What the real packages sent and stored.
pub fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/node.json")).unwrap()
}

/// Signs as Keygrip does, with the newest key.
pub fn keygrip(text: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(KEYS[0].as_bytes()).unwrap();
    mac.update(text.as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// Returns the pair of cookies that Koa would have set.
pub fn koa_pair(name: &str, value: &str) -> BTreeMap<String, String> {
    let tag = keygrip(&format!("{name}={value}"));
    [(name.to_owned(), value.to_owned()), (format!("{name}.sig"), tag)].into()
}

/// A browser, an engine, and the store that a Node program could use as well.
pub struct Side {
    pub engine: Engine,
    pub spy: Spy,
    pub now: Arc<Mutex<SystemTime>>,
    pub jar: BTreeMap<String, String>,
}

impl Side {
    pub fn new(configure: impl FnOnce(Builder<Engine>) -> Builder<Engine>) -> Self {
        let spy = Spy::new();
        Self::over(spy.clone(), Engine::builder(spy), configure)
    }

    /// One whose sessions are in the cookie.
    pub fn without_store(configure: impl FnOnce(Builder<Engine>) -> Builder<Engine>) -> Self {
        Self::over(Spy::new(), Engine::builder(NoStore), configure)
    }

    fn over(
        spy: Spy,
        builder: Builder<Engine>,
        configure: impl FnOnce(Builder<Engine>) -> Builder<Engine>,
    ) -> Self {
        let vectors = vectors();
        let start = SystemTime::UNIX_EPOCH + Duration::from_millis(vectors["now"].as_u64().unwrap());
        let (now, id) = (Arc::new(Mutex::new(start)), vectors["id"].as_str().unwrap().to_owned());
        let clock = Arc::clone(&now);
        let builder = builder.clock(move || *clock.lock()).generate_id(ALPHABET, 32, move || {
            let id = id.clone();
            async move { Ok(id) }
        });
        Self { engine: configure(builder).build().unwrap(), spy, now, jar: BTreeMap::new() }
    }

    /// Comes with the cookies that a Node program has set.
    pub fn take(&mut self, lines: &[String]) {
        for line in lines {
            let (name, rest) = line.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            if value.is_empty() {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// One request; returns its Set-Cookie lines.
    pub async fn visit(&mut self, work: impl AsyncFnOnce(&Session) -> Result<()>) -> Result<Vec<String>> {
        let pairs: Vec<_> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (uri, mut headers) = (Uri::from_static("/"), HeaderMap::new());
        if !pairs.is_empty() {
            headers.insert(header::COOKIE, pairs.join("; ").parse().unwrap());
        }
        let lazy = self.engine.begin(&RequestHead { method: &Method::GET, uri: &uri, headers: &headers });
        let outcome = work(&lazy.load().await?).await;
        let headers = finish(&self.engine, &lazy, StatusCode::OK).await?;
        let set = cookies(&headers);
        self.take(&set);
        outcome.map(|()| set)
    }

    pub async fn path(&mut self, path: &str) -> Vec<String> {
        let outcome = match path {
            "/inc" => {
                self.visit(async |s| s.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).map(|_| ())).await
            }
            "/read" => self.visit(async |s| s.get::<u64>("n").map(|_| ())).await,
            "/logout" => self.visit(async |s| s.destroy().await).await,
            other => panic!("no such path: {other}"),
        };
        outcome.unwrap()
    }

    pub async fn n(&mut self) -> Option<u64> {
        let mut n = None;
        self.visit(async |s| {
            n = s.get("n")?;
            Ok(())
        })
        .await
        .unwrap();
        n
    }

    pub async fn row(&self, key: &str) -> Option<String> {
        let found = self.spy.store().get(&Key::new(key).unwrap()).await.unwrap();
        found.map(|row| String::from_utf8(row.to_vec()).unwrap())
    }

    pub async fn put(&self, key: &str, row: &str) {
        let value = Bytes::copy_from_slice(row.as_bytes());
        self.spy.store().set(&Key::new(key).unwrap(), value, Ttl::from_secs(3600)).await.unwrap();
    }
}
