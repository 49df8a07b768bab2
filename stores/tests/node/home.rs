//! Where the two sides of one test keep their sessions: a place of its own in one of the tests' databases.

use std::{pin::Pin, sync::Arc};

use cloakroom::{RedisStore, Result, Store};
use cloakroom_conformance::{Running, Server};

/// The zone of the Node programs' connections to PostgreSQL: not the one of this driver's, nor of the server.
pub(crate) const ZONE: &str = "Asia/Tokyo";

/// A future of whatever type, that a task can be made of.
pub(crate) type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A place, as Node is told of it, and how it is opened from here.
pub(crate) struct Home {
    pub(crate) environment: Vec<(&'static str, String)>,
    /// What the store here puts before keys by itself, and Node must be told to.
    pub(crate) prefix: String,
    open: Box<dyn Fn() -> Later<Arc<dyn Store>> + Send + Sync>,
}

impl Home {
    /// Describes a place. What `open` holds lives as long as it does.
    pub(crate) fn new<F, S>(
        environment: &[(&'static str, &str)],
        open: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<S>> + Send + 'static,
        S: Store,
    {
        let open = move || -> Later<Arc<dyn Store>> {
            let store = open();
            Box::pin(async { Arc::new(store.await.unwrap()) as Arc<dyn Store> })
        };
        let environment = environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self { environment, prefix: String::new(), open: Box::new(open) }
    }

    /// Opens the place, which Node has made.
    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        (self.open)().await
    }

    /// Takes a prefix in Redis.
    pub(crate) fn redis(name: String) -> Later<Self> {
        Box::pin(async move {
            let server = Server::redis().shared().await.unwrap();
            let url = server.url().to_owned();
            Self::in_redis(server, url, format!("{name}:"))
        })
    }

    /// Takes a whole database of Redis, one of sixteen, and no prefix: what the documentation says to do.
    pub(crate) fn bare_redis(number: u8) -> Later<Self> {
        Box::pin(async move {
            let server = Server::redis().shared().await.unwrap();
            let url = with_path(server.url(), &number.to_string());
            Self::in_redis(server, url, String::new())
        })
    }

    fn in_redis(server: Running, url: String, prefix: String) -> Self {
        let (told, before) = (url.clone(), prefix.clone());
        let home = Self::new(&[("REDIS_URL", &told)], move || {
            let (server, url, prefix) = (server.clone(), url.clone(), prefix.clone());
            async move {
                let store = RedisStore::builder().prefix(&prefix).connect(&url).await;
                drop(server);
                store
            }
        });
        Self { prefix: before, ..home }
    }
}

/// Returns an address with another path, which names a database.
pub(crate) fn with_path(url: &str, path: &str) -> String {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?']).map_or(url.len(), |at| host + at);
    format!("{}/{path}", &url[..end])
}

/// Returns the address of a PostgreSQL server for connections in [`ZONE`].
pub(crate) fn in_zone(url: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options=-c%20TimeZone%3D{ZONE}")
}
