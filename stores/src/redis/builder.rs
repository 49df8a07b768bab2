//! How a store is connected: one server, a cluster, sentinels, or what the application has already.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use cloakroom_core::{Error, Result, StatusSender};
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    TlsCertificates,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{
    RedisStore,
    backend::Backend,
    classify::{STORE, classify},
    cluster::Cluster,
    link::{Link, Timeouts},
    names::Names,
    pool::Pooled,
    sentinel::{Sentinels, Target},
    slots::Address,
};

/// What a value may have at most, in bytes: a server that is sent more closes the connection.
const MOST: usize = (512 << 20) - 1024;

/// What a value has at most unless told otherwise: while one is on its way, everybody waits for the connection.
const USUAL: usize = 16 << 20;

/// How a [`RedisStore`] is connected and how it names things.
///
/// ```no_run
/// use std::time::Duration;
/// use cloakroom::RedisStore;
/// # async fn connect() -> Result<(), cloakroom::Error> {
/// let store = RedisStore::builder()
///     .prefix("shop:")
///     .response_timeout(Duration::from_millis(500))
///     .connect("rediss://shop:password@redis.example.com:6379/0")
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use]
pub struct RedisStoreBuilder {
    prefix: String,
    timeouts: Timeouts,
    max_value_bytes: usize,
    certificates: TlsCertificates,
}

impl RedisStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            prefix: "cloakroom:".to_owned(),
            timeouts: Timeouts { connect: Duration::from_secs(2), response: Duration::from_millis(1500) },
            max_value_bytes: USUAL,
            certificates: TlsCertificates { client_tls: None, root_cert: None },
        }
    }

    /// Puts this before every key; `cloakroom:` by default.
    ///
    /// At most 255 printable ASCII bytes without spaces. Of two stores in one database neither prefix may be the
    /// beginning of the other: end it with a colon.
    ///
    /// # Risk
    /// With an empty prefix [`scan`](crate::AdminStore::scan), [`len`](crate::AdminStore::len) and
    /// [`clear`](crate::AdminStore::clear) concern every text value of the database, whoever wrote it.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Waits this long for a connection; 2 seconds by default, at most 4.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.connect = timeout;
        self
    }

    /// Waits this long for the reply to one command; 1.5 seconds by default, at most 4.
    ///
    /// A reply that does not come makes the store look whether the server is still there. So this is better shorter
    /// than the engine's [`operation_timeout`](crate::Builder::operation_timeout), after which nobody waits any more.
    /// In a cluster all tries of a command that no node could carry out take this long together, and the wait for a node
    /// that is new is part of it.
    pub const fn response_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.response = timeout;
        self
    }

    /// Refuses larger values with [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge); 16 MiB by default.
    ///
    /// At most a little less than 512 MiB, which is what servers take unless `proto-max-bulk-len` says otherwise. While
    /// a value is on its way, everybody else waits for the connection.
    pub const fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// Trusts these certificate authorities and no others, for `rediss://`: one or more certificates in PEM.
    ///
    /// Without it those are trusted that browsers trust.
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates.root_cert = Some(pem.into());
        self
    }

    /// Shows the server this certificate, for `rediss://`: the chain and the private key, both in PEM.
    pub fn client_certificate(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.certificates.client_tls =
            Some(ClientTlsConfig { client_cert: chain.into(), client_key: key.into() });
        self
    }

    /// Connects to one server: `redis://user:password@host:6379/0`, with `rediss` for TLS.
    ///
    /// # Errors
    /// See [`RedisStore::connect`].
    pub async fn connect(self, url: &str) -> Result<RedisStore> {
        let client = self.client(url)?;
        self.at_server(client).await
    }

    /// Connects to the server of this client, over a connection of the store's own.
    ///
    /// Everything the client knows is used but its protocol: the store speaks RESP3.
    ///
    /// # Errors
    /// See [`RedisStore::connect`].
    pub async fn from_client(self, client: Client) -> Result<RedisStore> {
        let info = client.get_connection_info().clone();
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            prepare_tls();
        }
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(redis)).map_err(classify)?;
        self.at_server(client).await
    }

    /// Takes the connections from a pool.
    ///
    /// # Errors
    /// See [`RedisStore::from_pool`].
    pub async fn from_pool(self, pool: deadpool_redis::Pool) -> Result<RedisStore> {
        self.check()?;
        let status = Arc::new(StatusSender::connecting());
        let (pool, server) = Pooled::open(pool, self.timeouts, Arc::clone(&status)).await?;
        self.finish(Backend::Pool(pool), status, server.has_ifeq())
    }

    /// Connects to a cluster; some of its nodes are enough.
    ///
    /// # Errors
    /// See [`RedisStore::cluster`].
    pub async fn cluster(self, urls: impl IntoIterator<Item = impl AsRef<str>>) -> Result<RedisStore> {
        self.check()?;
        let clients = self.clients(urls)?;
        let seeds = clients.iter().map(address).collect::<Result<_>>()?;
        let Some(like) = clients.into_iter().next() else {
            return Err(Error::config("url", "at least one node of the cluster must be named").store(STORE));
        };
        let status = Arc::new(StatusSender::connecting());
        let (cluster, server) = Cluster::open(seeds, like, self.timeouts, Arc::clone(&status)).await?;
        self.finish(Backend::Cluster(cluster), status, server.has_ifeq())
    }

    /// Connects to the server that the sentinels call the master of this name, and follows when it is another one.
    ///
    /// # Errors
    /// See [`RedisStore::sentinel`].
    pub async fn sentinel(
        self,
        urls: impl IntoIterator<Item = impl AsRef<str>>,
        master: &str,
    ) -> Result<RedisStore> {
        self.check()?;
        let sentinels = self.clients(urls)?;
        if sentinels.is_empty() {
            return Err(Error::config("url", "at least one sentinel must be named").store(STORE));
        }
        let like = match master.contains("://") {
            true => self.client(master)?,
            false => self.client(&format!("redis://{master}"))?,
        };
        let (ConnectionAddr::Tcp(name, _) | ConnectionAddr::TcpTls { host: name, .. }) =
            like.get_connection_info().addr().clone()
        else {
            return Err(Error::config("master", "must be a name, or `redis://user:password@name/0`"));
        };
        let target = Target::Master(Sentinels { sentinels, name, like, next: AtomicUsize::new(0) });
        self.to(target).await
    }

    async fn at_server(self, client: Client) -> Result<RedisStore> {
        self.to(Target::Server(client)).await
    }

    async fn to(self, target: Target) -> Result<RedisStore> {
        self.check()?;
        let status = Arc::new(StatusSender::connecting());
        let link = Link::open(target, self.timeouts, Arc::clone(&status) as Arc<_>);
        let server = link.server().await?;
        self.finish(Backend::Link(link), status, server.has_ifeq())
    }

    fn finish(self, backend: Backend, status: Arc<StatusSender>, has_ifeq: bool) -> Result<RedisStore> {
        let names = Names::new(&self.prefix)?;
        Ok(RedisStore::new(backend, names, status, has_ifeq, self.max_value_bytes))
    }

    /// Finds every mistake before anything is connected.
    fn check(&self) -> Result<()> {
        Names::new(&self.prefix)?;
        for (field, timeout) in
            [("connect_timeout", self.timeouts.connect), ("response_timeout", self.timeouts.response)]
        {
            check_timeout(field, timeout)?;
        }
        if self.max_value_bytes == 0 || self.max_value_bytes > MOST {
            return Err(Error::config("max_value_bytes", format!("must be from 1 to {MOST}")));
        }
        Ok(())
    }

    fn clients(&self, urls: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Vec<Client>> {
        urls.into_iter().map(|url| self.client(url.as_ref())).collect()
    }

    /// Reads a url. Whatever is wrong with it, it is not quoted: it may hold a password.
    fn client(&self, url: &str) -> Result<Client> {
        let info = url.into_connection_info().map_err(classify)?;
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(Duration::from_secs(5));
        let info: ConnectionInfo = info.set_redis_settings(redis).set_tcp_settings(tcp);
        if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Client::open(info).map_err(classify);
        }
        prepare_tls();
        let TlsCertificates { client_tls, root_cert } = &self.certificates;
        if client_tls.is_none() && root_cert.is_none() {
            return Client::open(info).map_err(classify);
        }
        // The driver takes a text without any certificate for trust in nobody.
        let is_empty = |pem: &Vec<u8>| CertificateDer::pem_slice_iter(pem).next().is_none();
        let made = match root_cert.as_ref().is_some_and(is_empty) {
            true => None,
            false => Client::build_with_tls(info, self.certificates.clone()).ok(),
        };
        made.ok_or_else(|| {
            let cure = "must be certificates in pem, and so must a client's certificate and key";
            Error::config("root_certificates", cure).store(STORE)
        })
    }
}

/// Checks a deadline, under the name that the caller knows it by.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) naming `field`.
pub(crate) fn check_timeout(field: &'static str, timeout: Duration) -> Result<()> {
    if timeout.is_zero() || timeout > Duration::from_secs(4) {
        return Err(Error::config(field, "must be longer than zero and at most 4 seconds"));
    }
    Ok(())
}

/// Shows neither keys nor certificates.
impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder")
            .field("prefix", &self.prefix)
            .field("timeouts", &self.timeouts)
            .field("max_value_bytes", &self.max_value_bytes)
            .finish_non_exhaustive()
    }
}

/// The driver takes the process's cryptography, and panics if there is none or a choice of two. If the application
/// has chosen, its choice stays.
fn prepare_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Whoever was quicker has chosen.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

fn address(client: &Client) -> Result<Address> {
    match client.get_connection_info().addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Ok(Address { host: host.clone(), port: *port })
        }
        _ => Err(Error::config("url", "a node of a cluster is named by host and port").store(STORE)),
    }
}
