//! What operators do: list, count, clear.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

use async_trait::async_trait;
use cloakroom_core::{AdminStore, Error, ErrorKind, Key, Result};
use futures_util::{
    StreamExt, TryStreamExt,
    future::try_join,
    stream::{self, BoxStream},
};

use super::{RedisStore, backend::Node, classify::STORE, reply};

/// How many keys a server looks at in one step of a scan.
const STEP: u32 = 500;

/// How many values are removed together.
const AT_ONCE: usize = 64;

/// Where a scan is.
struct Place<'a> {
    /// Those that are still to come.
    nodes: Vec<Node<'a>>,
    node: Option<Node<'a>>,
    cursor: u64,
    /// The connection on which the scan of this node began.
    connection: Option<u64>,
}

#[async_trait]
impl AdminStore for RedisStore {
    /// A scan ends with an error when its connection is lost, since another server may have taken over, and when it
    /// runs through a pool it cannot tell. In a cluster, keys that move between nodes meanwhile may be missed.
    fn scan(&self) -> BoxStream<'_, Result<Key>> {
        let batches = stream::once(async {
            let nodes = self.backend().nodes()?;
            let place = Place { nodes, node: None, cursor: 0, connection: None };
            Ok::<_, Error>(stream::try_unfold(place, |place| self.step(place)))
        });
        let keys = batches.try_flatten().map_ok(|keys| stream::iter(keys.into_iter().map(Ok))).try_flatten();
        keys.map_err(|error: Error| error.operation("scan")).boxed()
    }

    /// Scans, since a server counts only all of its keys together. A scan may show a key twice: some 16 bytes a key
    /// are kept meanwhile, to count it once.
    async fn len(&self) -> Result<u64> {
        // Of a million keys two share a hash in one count of forty million.
        let hasher = RandomState::new();
        let mut seen = HashSet::new();
        let mut keys = self.scan();
        while let Some(key) = keys.try_next().await.map_err(|error| error.operation("len"))? {
            seen.insert(hasher.hash_one(&key));
        }
        Ok(seen.len() as u64)
    }

    async fn clear(&self) -> Result<u64> {
        let cleared = self.scan().map_ok(|key| self.clear_key(key)).try_buffer_unordered(AT_ONCE);
        let counted = cleared.try_fold(0, async |sum, removed| Ok(sum + u64::from(removed))).await;
        counted.map_err(|error: Error| error.operation("clear"))
    }

    /// The server expires by itself, so there is nothing to do but to see that it is there.
    async fn sweep(&self, _: u32) -> Result<u64> {
        let reached = async {
            for node in self.backend().nodes()? {
                node.send(redis::cmd("PING")).await?;
            }
            Ok(0)
        };
        reached.await.map_err(|error: Error| error.operation("sweep"))
    }
}

impl RedisStore {
    async fn step<'a>(&self, mut place: Place<'a>) -> Result<Option<(Vec<Key>, Place<'a>)>> {
        let begins = place.node.is_none();
        let Some(node) = place.node.take().or_else(|| place.nodes.pop()) else {
            return Ok(None);
        };
        let mut command = redis::cmd("SCAN");
        command.arg(place.cursor).arg("MATCH").arg(self.names().pattern());
        command.arg("COUNT").arg(STEP).arg("TYPE").arg("string");
        let (cursor, names) = reply::scanned(node.send(command).await?)?;
        if begins {
            place.connection = node.connection();
        } else if place.connection != node.connection() {
            let error = Error::new(ErrorKind::Unavailable).store(STORE);
            return Err(error.hint("the connection was lost during the scan; begin again"));
        }
        place.cursor = cursor;
        place.node = (cursor != 0).then_some(node);
        let keys = names.iter().filter_map(|name| self.names().key(name)).collect();
        Ok(Some((keys, place)))
    }

    /// Removes a value and its binding; `true` if the value was live.
    async fn clear_key(&self, key: Key) -> Result<bool> {
        let (value, owner) = (self.names().value(&key), self.names().owner(&key));
        let (removed, _) = try_join(self.unlink(&value), self.unlink(&owner)).await?;
        Ok(removed)
    }
}
