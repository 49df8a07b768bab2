//! Where to connect to: one address, or whichever server the sentinels call the master.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

use cloakroom_core::{Error, ErrorKind, Result};
use redis::{AsyncConnectionConfig, Client, ConnectionAddr};
use tokio::time::timeout;

use super::{
    classify::{STORE, classify},
    link::Timeouts,
    reply,
    server::Server,
};

/// What a link connects to.
pub(super) enum Target {
    /// One server that takes writes.
    Server(Client),
    /// One node of a cluster. It may be demoted at any time.
    Node(Client),
    /// The master of this name.
    Master(Sentinels),
}

/// Some servers that know who the master is.
pub(super) struct Sentinels {
    pub(super) sentinels: Vec<Client>,
    pub(super) name: String,
    /// How to connect to the master, but for its address.
    pub(super) like: Client,
    /// Who is asked first: the next one after each try, since one that is cut off goes on to name the old master.
    pub(super) next: AtomicUsize,
}

impl Target {
    /// Whether the server is to be a master, and another one is to be looked for when it no longer is.
    pub(super) const fn has_one_master(&self) -> bool {
        !matches!(self, Self::Node(_))
    }

    /// Returns what to connect to now.
    pub(super) async fn resolve(&self, timeouts: Timeouts) -> Result<Client> {
        match self {
            Self::Server(client) | Self::Node(client) => Ok(client.clone()),
            Self::Master(sentinels) => sentinels.master(timeouts).await,
        }
    }

    /// Refuses a server that has introduced itself as one of no use here.
    pub(super) fn admit(&self, server: &Server) -> Result<()> {
        let error = match self {
            Self::Server(_) => return server.check_single(),
            Self::Node(_) if !server.in_cluster => Error::new(ErrorKind::Rejected)
                .hint("the server is not part of a cluster; use `RedisStore::connect`"),
            Self::Master(_) if !server.is_master => {
                Error::new(ErrorKind::Unavailable).hint("the server is a replica; the store needs the master")
            }
            _ => return Ok(()),
        };
        Err(error.store(STORE))
    }
}

impl Sentinels {
    /// Asks one sentinel after the other, until one knows the master.
    async fn master(&self, timeouts: Timeouts) -> Result<Client> {
        // Two may be silent, and a third still gets to answer.
        let each = timeouts.connect / 4;
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut last = None;
        for turn in 0..self.sentinels.len() {
            let sentinel = &self.sentinels[first.wrapping_add(turn) % self.sentinels.len()];
            match timeout(each, self.ask(sentinel, timeouts)).await {
                Ok(Ok(master)) => return Ok(master),
                Ok(Err(error)) => last = Some(error),
                Err(_) => {}
            }
        }
        let silent = || Error::new(ErrorKind::Unavailable).store(STORE).hint("no sentinel answered");
        Err(last.unwrap_or_else(silent))
    }

    async fn ask(&self, sentinel: &Client, timeouts: Timeouts) -> Result<Client> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(timeouts.connect));
        let mut connection =
            sentinel.get_multiplexed_async_connection_with_config(&config).await.map_err(classify)?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        let reply = connection.send_packed_command(&command).await.and_then(redis::Value::extract_error);
        let reply = reply.map_err(classify)?;
        if reply == redis::Value::Nil {
            return Err(Error::config("master", "names no master that the sentinels watch").store(STORE));
        }
        let [host, port] = <[Vec<u8>; 2]>::try_from(reply::list(reply)?).map_err(|_| reply::unexpected())?;
        let host = String::from_utf8(host).map_err(|_| reply::unexpected())?;
        let port = std::str::from_utf8(&port).ok().and_then(|port| port.parse().ok());
        at(&self.like, host, port.ok_or_else(reply::unexpected)?)
    }
}

/// Returns a client like this one for another address.
pub(super) fn at(like: &Client, new_host: String, new_port: u16) -> Result<Client> {
    let info = like.get_connection_info().clone();
    let address = match info.addr().clone() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host: new_host, port: new_port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(new_host, new_port),
    };
    Client::open(info.set_addr(address)).map_err(classify)
}

/// Shows addresses, never a user name or a password.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(client) | Self::Node(client) => {
                write!(f, "{}", client.get_connection_info().addr())
            }
            Self::Master(sentinels) => write!(f, "master {:?}", sentinels.name),
        }
    }
}
