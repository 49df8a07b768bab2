//! The three ways to a server: one link, a cluster, a pool.

use std::sync::Arc;

use cloakroom_core::{Error, Result};
use redis::{Cmd, Value};

use super::{
    classify::has_code,
    cluster::Cluster,
    link::{Failure, Link},
    pool::Pooled,
    script::Script,
};

/// Where commands go.
#[derive(Debug)]
pub(super) enum Backend {
    Link(Link),
    Cluster(Cluster),
    Pool(Pooled),
}

/// One server that keys can be listed on.
pub(super) enum Node<'a> {
    /// The only one.
    Only(&'a Backend),
    /// A master of a cluster.
    Master(Arc<Link>),
}

impl Backend {
    /// Sends a command once to where the key of this name lives.
    pub(super) async fn send(&self, name: &[u8], command: Cmd) -> Result<Value> {
        self.try_send(name, command).await.map_err(Error::from)
    }

    /// Runs a script on `keys`, by its hash; whole, if the server has lost it.
    pub(super) async fn run(&self, script: &Script, keys: &[&[u8]], args: &[&[u8]]) -> Result<Value> {
        let name = keys.first().copied().unwrap_or_default();
        match self.try_send(name, script.by_hash(keys, args)).await {
            Err(Failure::Sent(error)) if has_code(&error, "NOSCRIPT") => {
                Box::pin(async { self.send(name, script.whole(keys, args)).await }).await
            }
            reply => reply.map_err(Error::from),
        }
    }

    /// Returns every server that has keys.
    pub(super) fn nodes(&self) -> Result<Vec<Node<'_>>> {
        match self {
            Self::Cluster(cluster) => Ok(cluster.masters()?.into_iter().map(Node::Master).collect()),
            Self::Link(_) | Self::Pool(_) => Ok(vec![Node::Only(self)]),
        }
    }

    /// Whether keys that belong together may be on different servers.
    pub(super) const fn is_spread(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// Tells connections apart, where one server has one at a time.
    fn connection(&self) -> Option<u64> {
        match self {
            Self::Link(link) => link.connection(),
            Self::Cluster(_) | Self::Pool(_) => None,
        }
    }

    /// As [`send`](Self::send), with the driver's own error.
    pub(super) async fn try_send(&self, name: &[u8], command: Cmd) -> Result<Value, Failure> {
        match self {
            Self::Link(link) => link.send(command).await,
            // Boxed, so that a command over a link does not carry the room for these: kilobytes with every operation.
            Self::Cluster(cluster) => Box::pin(cluster.send(name, &command)).await,
            Self::Pool(pool) => Box::pin(pool.send(&command)).await,
        }
    }
}

impl Node<'_> {
    /// Sends a command to this server, whatever its key.
    pub(super) async fn send(&self, command: Cmd) -> Result<Value> {
        match self {
            Self::Only(backend) => backend.send(b"", command).await,
            Self::Master(link) => link.send(command).await.map_err(Error::from),
        }
    }

    /// Tells connections to this server apart: after another one was made it may be another server, or have forgotten
    /// where a scan was.
    pub(super) fn connection(&self) -> Option<u64> {
        match self {
            Self::Only(backend) => backend.connection(),
            Self::Master(link) => link.connection(),
        }
    }
}
