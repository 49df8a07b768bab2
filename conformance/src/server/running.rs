//! A server that runs: where it is, what it is, and how to take it away.

use std::{fmt, sync::Arc, time::Duration};

use cloakroom_core::async_trait;

use crate::{
    background,
    failure::{Failure, Verdict},
    fault_proxy::FaultProxy,
    machine::Machine,
    port::Port,
    report::ServerReport,
    server::{
        address::Parts,
        container::Container,
        kind::Kind,
        members,
        probe::{Product, Question, Wire},
        process::Process,
        shared,
    },
};

/// Debian's programs of PostgreSQL are not where others look for them.
const VERSION: &str = "postgres --version || /usr/lib/postgresql/*/bin/postgres --version";

/// How long a server may take to answer once it was started.
const READY: Duration = Duration::from_secs(60);

/// How long a server may go on answering once it was stopped.
const GONE: Duration = Duration::from_secs(10);

/// A server that answers, and ends with the last clone of this value.
///
/// It keeps its address when it is stopped and started again.
#[derive(Clone)]
pub struct Running(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) kind: Kind,
    pub(crate) url: String,
    pub(crate) way: String,
    pub(crate) product: Product,
    pub(crate) nodes: Vec<Node>,
    pub(crate) sharing: Sharing,
    /// Whether its author says that it keeps what it has answered.
    pub(crate) is_durable: bool,
}

/// Whether others use the same server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    Own,
    Shared,
}

impl Running {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Returns the address, as the store's driver takes it; several, separated by commas, of a server of many nodes.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Returns how the server came to run: `container redis:7.0`, `program /usr/bin/redis-server` or
    /// `address from CLOAKROOM_TEST_REDIS_URL`.
    #[must_use]
    pub fn way(&self) -> &str {
        &self.0.way
    }

    /// Returns what the server says it is, `Redis` or `Valkey`, `MySQL` or `MariaDB`; else the name of its kind.
    #[must_use]
    pub fn product(&self) -> &str {
        if self.0.product.name.is_empty() { self.0.kind.name() } else { &self.0.product.name }
    }

    /// Returns the server's version, or an empty text if it does not tell.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.0.product.version
    }

    /// Returns the processes that the server is made of, each of which can be stopped by itself.
    ///
    /// None, if others use the server too.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        match self.0.sharing {
            Sharing::Own => &self.0.nodes,
            Sharing::Shared => &[],
        }
    }

    /// Stops the server in peace, as an operator does, and returns when it no longer answers.
    ///
    /// # Errors
    /// When the engine or the system does not do it, or others use the server.
    pub async fn stop(&self) -> Result<(), Failure> {
        self.all(Deed::Stop).await
    }

    /// Starts the server again after [`stop`](Self::stop) or [`kill`](Self::kill), at the same address, and returns
    /// when it answers.
    ///
    /// # Errors
    /// As [`stop`](Self::stop), and when it does not answer within a minute.
    pub async fn start(&self) -> Result<(), Failure> {
        self.all(Deed::Start).await
    }

    /// Ends the server at once, as a `kill -9` or a power cut does.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub async fn kill(&self) -> Result<(), Failure> {
        self.all(Deed::Kill).await
    }

    /// Lets the server stand still: connections stay open, are even accepted, and nothing is answered.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub async fn pause(&self) -> Result<(), Failure> {
        self.all(Deed::Pause).await
    }

    /// Lets the server go on after [`pause`](Self::pause).
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub async fn resume(&self) -> Result<(), Failure> {
        self.all(Deed::Resume).await
    }

    /// Puts a proxy in front of the server, and returns it with the address that leads through it.
    ///
    /// # Errors
    /// When the server has several addresses: its clients would be told of them, and go around the proxy.
    pub async fn proxied(&self) -> Result<(FaultProxy, String), Failure> {
        let url = self.url();
        let address = Parts::of(url).and_then(|parts| Some((parts, parts.host(self.0.kind.port())?)));
        let Some((parts, (host, port))) = address else {
            return Err(Failure::new(
                "a proxy stands before a server of one address",
                format!("this {} has several, or none", self.0.kind.name()),
            ));
        };
        let proxy = FaultProxy::before(host, port).await?;
        let through = parts.through("127.0.0.1", proxy.port());
        Ok((proxy, through))
    }

    /// Returns an environment variable and the value with which a process started by this one finds this server:
    /// [`Server::shared`](crate::Server::shared) then returns it instead of starting one.
    ///
    /// The value holds the address, and so the password, if there is one.
    #[must_use]
    pub fn hand_over(&self) -> (String, String) {
        shared::hand_over(self.0.kind, self)
    }

    /// The same server, for all.
    pub(crate) fn into_shared(self) -> Self {
        let (kind, url, way) = (self.0.kind, self.0.url.clone(), self.0.way.clone());
        let (product, nodes) = (self.0.product.clone(), self.0.nodes.clone());
        let is_durable = self.0.is_durable;
        Self::new(Inner { kind, url, way, product, nodes, sharing: Sharing::Shared, is_durable })
    }

    async fn all(&self, deed: Deed) -> Verdict {
        if self.0.sharing == Sharing::Shared {
            let seen = format!("this {} was asked for with `shared`", self.0.kind.name());
            return Err(Failure::new(
                "a server that others use is left running; `start` one of your own",
                seen,
            ));
        }
        if self.0.nodes.is_empty() {
            let seen = format!("{} comes from the environment and has several addresses", self.0.kind.name());
            return Err(Failure::new("only a server that the suite can reach can be stopped", seen));
        }
        let deeds = self.0.nodes.iter().map(|node| node.act(deed));
        for done in futures_util::future::join_all(deeds).await {
            done?;
        }
        let (kind, ports) = (self.0.kind, self.0.nodes.iter().map(Node::port).collect::<Vec<_>>());
        match deed {
            Deed::Start | Deed::Resume => {
                background::run(async move { members::settle(kind, &ports).await }).await
            }
            Deed::Stop | Deed::Kill | Deed::Pause => Ok(()),
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the address: it may hold a password.
        f.debug_struct("Running")
            .field("product", &self.product())
            .field("version", &self.version())
            .field("way", &self.way())
            .finish_non_exhaustive()
    }
}

/// One process of a server: all of it, but for a cluster.
#[derive(Clone)]
pub struct Node(Arc<NodeInner>);

struct NodeInner {
    body: Body,
    question: Question,
    url: String,
    /// Let go of after the body has ended; a proxy holds its own.
    _port: Option<Port>,
}

pub(crate) enum Body {
    Container(Container),
    Process(Process),
    /// The server itself is nobody's to stop.
    Proxy(FaultProxy),
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Stop,
    Start,
    Kill,
    Pause,
    Resume,
}

impl Node {
    pub(crate) fn new(body: Body, question: Question, url: String, port: Option<Port>) -> Self {
        Self(Arc::new(NodeInner { body, question, url, _port: port }))
    }

    /// Returns the address of this node alone.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Returns the port that this node listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.question.port
    }

    /// As [`Running::stop`], of this node.
    ///
    /// # Errors
    /// As [`Running::stop`].
    pub async fn stop(&self) -> Result<(), Failure> {
        self.act(Deed::Stop).await
    }

    /// As [`Running::start`], of this node.
    ///
    /// # Errors
    /// As [`Running::start`].
    pub async fn start(&self) -> Result<(), Failure> {
        self.act(Deed::Start).await
    }

    /// As [`Running::kill`], of this node.
    ///
    /// # Errors
    /// As [`Running::stop`].
    pub async fn kill(&self) -> Result<(), Failure> {
        self.act(Deed::Kill).await
    }

    /// As [`Running::pause`], of this node.
    ///
    /// # Errors
    /// As [`Running::stop`].
    pub async fn pause(&self) -> Result<(), Failure> {
        self.act(Deed::Pause).await
    }

    /// As [`Running::resume`], of this node.
    ///
    /// # Errors
    /// As [`Running::stop`].
    pub async fn resume(&self) -> Result<(), Failure> {
        self.act(Deed::Resume).await
    }

    async fn act(&self, deed: Deed) -> Verdict {
        let node = Arc::clone(&self.0);
        background::run(async move { node.act(deed).await }).await
    }

    /// Asks the program itself for its version, where the wire does not tell.
    pub(crate) async fn version(&self) -> String {
        let node = Arc::clone(&self.0);
        let asked = background::run(async move {
            Ok(match &node.body {
                Body::Container(container) => container.output(&["sh", "-c", VERSION]).await,
                Body::Process(process) => process.version(),
                Body::Proxy(_) => String::new(),
            })
        });
        // `postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)`
        let text = asked.await.unwrap_or_default();
        let is_number = |word: &&str| word.starts_with(|letter: char| letter.is_ascii_digit());
        text.split_whitespace().find(is_number).unwrap_or_default().to_owned()
    }

    pub(crate) async fn ready(&self) -> Verdict<Product> {
        let node = Arc::clone(&self.0);
        background::run(async move { node.ready().await }).await
    }
}

impl NodeInner {
    async fn act(&self, deed: Deed) -> Verdict {
        match (&self.body, deed) {
            (Body::Container(container), Deed::Stop) => container.stop().await?,
            (Body::Container(container), Deed::Start) => container.start().await?,
            (Body::Container(container), Deed::Kill) => container.kill().await?,
            (Body::Container(container), Deed::Pause) => container.pause().await?,
            (Body::Container(container), Deed::Resume) => container.resume().await?,
            (Body::Process(process), Deed::Stop) => process.stop().await?,
            (Body::Process(process), Deed::Start) => process.start().await?,
            (Body::Process(process), Deed::Kill) => process.kill().await?,
            (Body::Process(process), Deed::Pause) => process.pause().await?,
            (Body::Process(process), Deed::Resume) => process.resume()?,
            (Body::Proxy(proxy), Deed::Stop | Deed::Kill) => proxy.refuse().await,
            (Body::Proxy(proxy), Deed::Start | Deed::Resume) => proxy.heal().await,
            (Body::Proxy(proxy), Deed::Pause) => proxy.stall(),
        }
        match deed {
            Deed::Stop | Deed::Kill => self.question.wait_gone(GONE).await,
            Deed::Start | Deed::Resume => self.ready().await.map(drop),
            Deed::Pause => Ok(()),
        }
    }

    /// Waits until the node answers, or has ended instead.
    async fn ready(&self) -> Verdict<Product> {
        let answer = match &self.body {
            Body::Process(process) => tokio::select! {
                answer = self.question.wait(READY) => answer,
                () = process.ended() => {
                    Err(Failure::new("a server answers once it has been started", "it has ended instead"))
                }
            },
            Body::Container(_) | Body::Proxy(_) => self.question.wait(READY).await,
        };
        let Err(failure) = answer else {
            return answer;
        };
        let log = match &self.body {
            Body::Process(process) => process.log(),
            Body::Container(container) => container.log().await,
            Body::Proxy(_) => String::new(),
        };
        Err(Failure::new(failure.rule(), format!("{}; its log ends:\n{log}", failure.seen())))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("port", &self.port()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Machine for Running {
    fn url(&self) -> &str {
        Self::url(self)
    }

    fn describe(&self) -> ServerReport {
        ServerReport {
            product: self.product().to_owned(),
            version: self.version().to_owned(),
            way: self.way().to_owned(),
        }
    }

    fn keeps_data(&self) -> bool {
        // Redis is started with nothing on disk, and of a program only its author knows. Behind a proxy it goes on
        // running.
        let by_address = self.0.nodes.iter().any(|node| matches!(node.0.body, Body::Proxy(_)));
        by_address || self.0.is_durable || !matches!(self.0.kind.wire(), Wire::Redis | Wire::Unknown)
    }

    async fn proxied(&self) -> Verdict<(FaultProxy, String)> {
        Self::proxied(self).await
    }

    async fn stop(&self) -> Verdict {
        Self::stop(self).await
    }

    async fn start(&self) -> Verdict {
        Self::start(self).await
    }

    async fn kill(&self) -> Verdict {
        Self::kill(self).await
    }

    async fn pause(&self) -> Verdict {
        Self::pause(self).await
    }

    async fn resume(&self) -> Verdict {
        Self::resume(self).await
    }
}
