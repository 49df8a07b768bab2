//! What the suite knows about each kind of server: its names, its image, its program, its address.

use crate::server::probe::Wire;

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Redis,
    RedisCluster,
    RedisSentinel,
    Postgres,
    Mysql,
    Mariadb,
    Mongo,
    /// A program that the store author names.
    Command,
}

/// Where an image comes from, and what it is started with.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) tag: String,
    /// The port that the server listens on inside.
    pub(crate) port: u16,
    pub(crate) environment: &'static [(&'static str, &'static str)],
    pub(crate) command: &'static [&'static str],
}

impl Kind {
    /// Every kind that has a name of its own.
    pub(crate) const NAMED: [Self; 7] = [
        Self::Redis,
        Self::RedisCluster,
        Self::RedisSentinel,
        Self::Postgres,
        Self::Mysql,
        Self::Mariadb,
        Self::Mongo,
    ];

    /// As people say it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::RedisCluster => "Redis Cluster",
            Self::RedisSentinel => "Redis Sentinel",
            Self::Postgres => "PostgreSQL",
            Self::Mysql => "MySQL",
            Self::Mariadb => "MariaDB",
            Self::Mongo => "MongoDB",
            Self::Command => "program",
        }
    }

    /// As `./test` and the environment say it, in lower case.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::RedisCluster => "redis_cluster",
            Self::RedisSentinel => "redis_sentinel",
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Mariadb => "mariadb",
            Self::Mongo => "mongo",
            Self::Command => "command",
        }
    }

    /// The variable with the address of a server to use.
    pub(crate) fn variable(self) -> String {
        format!("CLOAKROOM_TEST_{}_URL", self.word().to_uppercase())
    }

    /// The variable through which one process tells another of a server that it has started for both.
    pub(crate) fn shared_variable(self) -> String {
        format!("CLOAKROOM_SHARED_{}", self.word().to_uppercase())
    }

    /// The port that the server listens on unless told otherwise.
    pub(crate) const fn port(self) -> u16 {
        match self {
            Self::Redis | Self::RedisCluster => 6379,
            Self::RedisSentinel => 26379,
            Self::Postgres => 5432,
            Self::Mysql | Self::Mariadb => 3306,
            Self::Mongo => 27017,
            Self::Command => 0,
        }
    }

    /// Whether it is several processes, which tell their clients of one another: no proxy can stand before it.
    pub(crate) const fn has_members(self) -> bool {
        matches!(self, Self::RedisCluster | Self::RedisSentinel)
    }

    /// What is spoken on a connection.
    pub(crate) const fn wire(self) -> Wire {
        match self {
            Self::Redis | Self::RedisCluster | Self::RedisSentinel => Wire::Redis,
            Self::Postgres => Wire::Postgres,
            Self::Mysql | Self::Mariadb => Wire::Mysql,
            Self::Mongo => Wire::Mongo,
            Self::Command => Wire::Unknown,
        }
    }

    /// The address of a server that the suite has started itself.
    pub(crate) fn url(self, host: &str, port: u16) -> String {
        match self {
            Self::Postgres => format!("postgres://postgres:postgres@{host}:{port}/postgres"),
            Self::Mysql | Self::Mariadb => format!("mysql://root@{host}:{port}/test"),
            // What is acknowledged is on disk, as it is by default in a replica set: a server alone would forget what
            // it did in the last tenth of a second when it is killed.
            Self::Mongo => format!("mongodb://{host}:{port}/?journal=true"),
            Self::Redis | Self::RedisCluster | Self::RedisSentinel | Self::Command => {
                format!("redis://{host}:{port}")
            }
        }
    }

    /// The images to try, the first one first.
    ///
    /// Names and tags are those of the modules of `testcontainers`, except for two. Their Redis is 5.0, which has been
    /// without care for years and has none of the newer commands; their PostgreSQL is 11, which is older than what the
    /// store in it supports.
    pub(crate) fn images(self) -> Vec<Image> {
        use testcontainers::Image as _;
        use testcontainers_modules::{mariadb::Mariadb, mongo::Mongo, mysql::Mysql, postgres::Postgres};

        const PASSWORDLESS: &[(&str, &str)] = &[
            ("MARIADB_DATABASE", "test"),
            ("MARIADB_ALLOW_EMPTY_ROOT_PASSWORD", "1"),
            ("MYSQL_DATABASE", "test"),
            ("MYSQL_ALLOW_EMPTY_PASSWORD", "yes"),
        ];
        let image = |name: &str, tag: &str, environment, command| Image {
            name: name.to_owned(),
            tag: tag.to_owned(),
            port: self.port(),
            environment,
            command,
        };
        let mariadb = || {
            let module = Mariadb::default();
            image(module.name(), module.tag(), PASSWORDLESS, &[])
        };
        match self {
            Self::Redis | Self::RedisCluster | Self::RedisSentinel => {
                vec![image("redis", REDIS_TAG, &[], &["redis-server"])]
            }
            Self::Postgres => {
                let module = Postgres::default();
                let environment = &[("POSTGRES_PASSWORD", "postgres")];
                vec![image(module.name(), POSTGRES_TAG, environment, &["-c", "fsync=off"])]
            }
            Self::Mysql => {
                let module = Mysql::default();
                vec![image(module.name(), module.tag(), PASSWORDLESS, &[]), mariadb()]
            }
            Self::Mariadb => vec![mariadb()],
            Self::Mongo => {
                let module = Mongo::default();
                vec![image(module.name(), module.tag(), &[], &[])]
            }
            Self::Command => Vec::new(),
        }
    }
}

/// The image of Redis: the oldest that is still cared for and that Debian has as well.
const REDIS_TAG: &str = "7.0";

/// The image of PostgreSQL: the version that Debian has, which the image is built from where no registry answers. The
/// module's own default knows no `AS MATERIALIZED`.
const POSTGRES_TAG: &str = "15-alpine";

/// What Redis is started with: nothing on disk.
pub(crate) const REDIS_ARGS: [&str; 6] = ["--save", "", "--appendonly", "no", "--protected-mode", "no"];
