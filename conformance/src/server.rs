//! Servers for the cases: an address, a container or a program of this machine, whatever there is.

use std::{fmt, sync::Arc};

use cloakroom_core::async_trait;

use crate::{
    background,
    failure::Verdict,
    machine::{Machine, Source},
    server::{kind::Kind, running::Running},
};

mod address;
mod container;
mod family;
mod kind;
mod lifeline;
mod local;
mod members;
mod owner;
mod probe;
mod process;
pub(crate) mod running;
mod shared;
mod start;

/// A kind of server that a store needs, and how to get one.
///
/// ```no_run
/// use cloakroom_conformance::Server;
///
/// # async fn example() -> Result<(), cloakroom_conformance::Failure> {
/// let redis = Server::redis().start().await?;
/// println!("{} at {}", redis.way(), redis.url());
/// redis.kill().await?;      // kill -9
/// redis.start().await?;     // at the same address; back when it answers
/// # Ok(()) }
/// ```
///
/// # Where it comes from
///
/// The first of these that leads to one; which it was is printed, and stands in the report:
///
/// 1. **The environment** has the address of one: `CLOAKROOM_TEST_REDIS_URL`, and for the other kinds
///    `.._POSTGRES_URL`, `.._MYSQL_URL`, `.._MARIADB_URL` and `.._MONGO_URL`. Such a server is nobody's to stop: what
///    stops, starts or pauses is a proxy in front of it. Clusters and sentinels are always started: no proxy can stand
///    before them. Nor is it taken for one that is to be [`private`](Self::private).
/// 2. **A container**, where there is an engine: through `testcontainers`, with the images of its modules.
/// 3. **A program** of this machine, `redis-server` and its like, in a temporary folder.
///
/// If none does, the error names the ways to mend that.
///
/// # When it ends
///
/// With the last clone of the [`Running`] that was handed out, also after a panic; and with the process, however that
/// ends. What is left of a container after all is removed by the next run that starts one.
#[derive(Clone)]
pub struct Server {
    pub(crate) kind: Kind,
    pub(crate) arguments: Vec<String>,
    pub(crate) files: Vec<(String, Arc<[u8]>)>,
    pub(crate) image: Option<(String, String)>,
    pub(crate) scheme: Option<String>,
    pub(crate) program: String,
    pub(crate) url: String,
    /// Whether the environment's is out of the question.
    pub(crate) is_private: bool,
    /// Whether what it has answered outlives it, as far as the author says.
    pub(crate) is_durable: bool,
}

impl Server {
    /// Describes a Redis server, or a Valkey one, that keeps nothing on disk: stopped, it forgets.
    #[must_use]
    pub const fn redis() -> Self {
        Self::of(Kind::Redis)
    }

    /// Describes a Redis cluster of six nodes, three of them masters.
    ///
    /// [`Running::url`] has all of them, separated by commas. The first three of [`Running::nodes`] are masters.
    #[must_use]
    pub const fn redis_cluster() -> Self {
        Self::of(Kind::RedisCluster)
    }

    /// Describes a Redis server called `mymaster` with two replicas, and three sentinels that watch it.
    ///
    /// [`Running::url`] has the sentinels, separated by commas. The first three of [`Running::nodes`] are the server
    /// and its replicas, the others the sentinels.
    #[must_use]
    pub const fn redis_sentinel() -> Self {
        Self::of(Kind::RedisSentinel)
    }

    /// Describes a PostgreSQL server: user, password and database are `postgres`.
    #[must_use]
    pub const fn postgres() -> Self {
        Self::of(Kind::Postgres)
    }

    /// Describes a MySQL server: user `root` without a password, database `test`.
    ///
    /// Where there is no MySQL, in a container or on this machine, it is MariaDB; the report says which.
    #[must_use]
    pub const fn mysql() -> Self {
        Self::of(Kind::Mysql)
    }

    /// Describes a MariaDB server: user `root` without a password, database `test`.
    #[must_use]
    pub const fn mariadb() -> Self {
        Self::of(Kind::Mariadb)
    }

    /// Describes a MongoDB server on its own, without a user.
    #[must_use]
    pub const fn mongo() -> Self {
        Self::of(Kind::Mongo)
    }

    /// Describes a server of any kind: a program that listens on a port and can be found under `url`.
    ///
    /// In the arguments, `{port}` stands for a free port and `{dir}` for a temporary folder of its own, in `url` the
    /// first of the two. It is ready when it accepts a connection, and is ended by a TERM.
    ///
    /// ```
    /// use cloakroom_conformance::Server;
    ///
    /// let server = Server::command("river-server", "river://127.0.0.1:{port}")
    ///     .arg("--listen=127.0.0.1:{port}")
    ///     .arg("--data={dir}");
    /// # let _ = server;
    /// ```
    #[must_use]
    pub fn command(program: impl Into<String>, url: impl Into<String>) -> Self {
        Self { program: program.into(), url: url.into(), ..Self::of(Kind::Command) }
    }

    const fn of(kind: Kind) -> Self {
        Self {
            kind,
            arguments: Vec::new(),
            files: Vec::new(),
            image: None,
            scheme: None,
            program: String::new(),
            url: String::new(),
            is_private: false,
            is_durable: false,
        }
    }

    /// Adds an argument to the server's command line, in a container as well as without.
    ///
    /// `{port}` stands for the port that the server listens on, `{dir}` for the folder of its [`file`](Self::file)s.
    /// A server with arguments is never one from the environment: that one was started without them.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Gives the server a file, such as a certificate: `{dir}/name` in its arguments.
    #[must_use]
    pub fn file(mut self, name: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.into(), content.into().into()));
        self
    }

    /// Sets the image of the container instead of the usual one: `.image("valkey/valkey", "8.1")`.
    #[must_use]
    pub fn image(mut self, name: impl Into<String>, tag: impl Into<String>) -> Self {
        self.image = Some((name.into(), tag.into()));
        self
    }

    /// Sets the scheme of the address: `rediss`, for a server whose arguments make it speak TLS.
    ///
    /// Such a server counts as ready when it accepts a connection and does not end it at once.
    #[must_use]
    pub fn scheme(mut self, scheme: impl Into<String>) -> Self {
        self.scheme = Some(scheme.into());
        self
    }

    /// Never takes the server that the environment has the address of, nor one that was handed over: it is started, in a
    /// container or as a program, for nobody else.
    ///
    /// For tests that do to a server what would harm somebody's: empty it, change its settings or its users, or look at
    /// everything that is in it.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), cloakroom_conformance::Failure> {
    /// let redis = cloakroom_conformance::Server::redis().private().start().await?;    // may be sent a FLUSHALL
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub const fn private(mut self) -> Self {
        self.is_private = true;
        self
    }

    /// Says of a [`command`](Self::command) that what it has answered is there again after a kill and a start.
    ///
    /// The cases then hold it to that. Of the other servers the suite knows it.
    #[must_use]
    pub const fn durable(mut self) -> Self {
        self.is_durable = true;
        self
    }

    /// Starts a server of the caller's own, and returns when it answers.
    ///
    /// Where the environment has the address of one, it is that one behind a proxy of the caller's own, unless it is to
    /// be [`private`](Self::private).
    ///
    /// # Errors
    /// What could not be done in each of the ways, and how to mend it.
    pub async fn start(&self) -> Result<Running, crate::Failure> {
        let server = self.clone();
        background::run(async move { start::own(&server).await }).await
    }

    /// Returns the one server of this description that all in this process share, and starts it for the first.
    ///
    /// Where a process that started this one has handed over a server for all of its children, as `./test` does, it is
    /// that one. It cannot be stopped, paused or killed: others use it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn shared(&self) -> Result<Running, crate::Failure> {
        let server = self.clone();
        background::run(async move { shared::get(&server).await }).await
    }

    /// Describes the server with this name: `redis`, `redis_cluster`, `redis_sentinel`, `postgres`, `mysql`, `mariadb`
    /// or `mongo`.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Kind::NAMED.into_iter().find(|kind| kind.word() == word).map(Self::of)
    }

    /// Returns whether the environment has the address of such a server.
    #[must_use]
    pub fn is_given(&self) -> bool {
        start::from_environment(self).is_some()
    }

    /// Whether it is of the kind's usual making, and may be anybody's.
    pub(crate) fn is_usual(&self) -> bool {
        self.kind != Kind::Command
            && self.arguments.is_empty()
            && self.files.is_empty()
            && self.image.is_none()
            && self.scheme.is_none()
            && !self.is_private
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the arguments, of which one may be a password.
        f.debug_tuple("Server").field(&self.kind.name()).finish()
    }
}

#[async_trait]
impl Source for Server {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    async fn own(&self) -> Verdict<Arc<dyn Machine>> {
        Ok(Arc::new(self.start().await?))
    }

    async fn shared(&self) -> Verdict<Arc<dyn Machine>> {
        Ok(Arc::new(Self::shared(self).await?))
    }
}
