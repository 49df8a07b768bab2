//! The store that an address names, chosen at run time.

mod address;
mod open;

use std::{fmt, sync::Arc};

use cloakroom_core::{Error, Result, Store};
use futures_util::future::BoxFuture;

use self::address::Address;

/// Connects to the store that `url` names: by its scheme, with its options.
///
/// | address | feature | store |
/// |---|---|---|
/// | `memory:` | `memory` | [`MemoryStore`](crate::MemoryStore) |
/// | `redis://host/0`, `rediss://…` | `redis` | [`RedisStore`](crate::RedisStore) |
/// | `redis+cluster://host1,host2:7000`, `rediss+cluster://…` | `redis` | a cluster; some of its nodes are enough |
/// | `redis+sentinel://host1,host2/master/0`, `rediss+sentinel://…` | `redis` | what the sentinels call `master` |
/// | `sqlite://file.db`, `sqlite:///full/path.db` | `sqlite` | [`SqliteStore`](crate::SqliteStore) |
/// | `postgres://host/database`, `postgresql://…` | `postgres` | [`PostgresStore`](crate::PostgresStore) |
/// | `mysql://host/database`, `mariadb://…` | `mysql` | [`MySqlStore`](crate::MySqlStore) |
/// | `mongodb://host/database`, `mongodb+srv://…` | `mongo` | [`MongoStore`](crate::MongoStore) |
///
/// User and password stand before the host, percent-encoded: `redis://user:p%40ss@host`. Those of `redis+sentinel` are
/// the master's.
///
/// These options of the query are Cloakroom's; those of the driver are handed to it, and others are an error:
///
/// | option | of | |
/// |---|---|---|
/// | `prefix` | all | keeps keys under it: `prefix=shop`. No prefix is a part of another, as in [`Prefixed`](crate::Prefixed) |
/// | `table` | SQL, `mongo` | the table or collection |
/// | `schema` | `postgres` | the schema of the table |
/// | `prepare` | `postgres` | `each_time` behind an old pooler, see [`Prepare`](crate::Prepare); else `once` |
/// | `timeout` | all but `memory` | the deadline of each operation: `500ms`, `2s` |
/// | `max_connections` | SQL | the most connections |
/// | `sweep_every` | SQL | how often expired rows are deleted: `5m`, or `never` |
/// | `migrate` | SQL, `mongo` | `false`: creates no table or index |
/// | `max_entries`, `max_bytes` | `memory` | its bounds |
///
/// ```
/// # #[cfg(feature = "memory")]
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = cloakroom::connect("memory:?max_entries=100000").await?;
/// # let _ = store;
/// # Ok::<(), cloakroom::Error>(()) }).unwrap();
/// ```
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) naming `url` for a scheme that is unknown or whose feature is off,
/// which it says how to enable; naming an option that cannot be used. Else what connecting to that store answers. No
/// error quotes the address: it may hold a password.
pub async fn connect(url: impl AsRef<str>) -> Result<Arc<dyn Store>> {
    let address = Address::parse(url.as_ref())?;
    let (backend, open) = find(BACKENDS, address.scheme())?;
    address.refuse_others(backend.options, backend.driver, backend.feature)?;
    if let Some(prefix) = address.text("prefix") {
        // Some stores would look at it only once they are connected, and their tables made.
        crate::prefixed::written(prefix)?;
    }
    open(address).await
}

/// Finds the kind of store that has a scheme, and what opens it.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) naming `url`: the scheme is unknown, or its feature off.
fn find<'a>(backends: &'a [Backend], scheme: &str) -> Result<(&'a Backend, Open)> {
    let Some(backend) = backends.iter().find(|backend| backend.schemes.contains(&scheme)) else {
        let cure = format!("its scheme is none of those that are known: {}", known().join(", "));
        return Err(Error::config("url", cure));
    };
    let feature = backend.feature;
    let off = || {
        let cure = format!("needs the feature `{feature}`: cloakroom = {{ features = [\"{feature}\"] }}");
        Error::config("url", cure)
    };
    Ok((backend, backend.open.ok_or_else(off)?))
}

/// A kind of store, by the schemes of its addresses.
#[derive(Clone, Copy)]
struct Backend {
    schemes: &'static [&'static str],
    feature: &'static str,
    /// The options it knows.
    options: &'static [&'static str],
    /// The options its driver knows; `None` if that refuses others itself.
    driver: Option<&'static [&'static str]>,
    open: Option<Open>,
}

type Open = fn(Address) -> BoxFuture<'static, Result<Arc<dyn Store>>>;

macro_rules! backend {
    ($feature:literal, $schemes:expr, $options:expr, $driver:expr, $open:ident) => {
        Backend {
            schemes: &$schemes,
            feature: $feature,
            options: &$options,
            driver: $driver,
            #[cfg(feature = $feature)]
            open: Some(|address| Box::pin(open::$open(address))),
            #[cfg(not(feature = $feature))]
            open: None,
        }
    };
}

const SQL: [&str; 6] = ["prefix", "table", "timeout", "max_connections", "sweep_every", "migrate"];

/// What `redis` reads of an address.
const REDIS_DRIVER: Option<&[&str]> = Some(&["protocol"]);

/// What `sqlx` reads of the address of a PostgreSQL; it would write the value of another to the log.
const POSTGRES_DRIVER: Option<&[&str]> = Some(&[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
]);

/// What `sqlx` reads of the address of a MySQL or MariaDB.
const MYSQL_DRIVER: Option<&[&str]> = Some(&[
    "sslmode",
    "ssl-mode",
    "sslca",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "charset",
    "collation",
    "statement-cache-capacity",
    "socket",
    "timezone",
    "time-zone",
]);

/// Every kind of store there is: a new one is a line here, and a function in `open.rs`.
static BACKENDS: &[Backend] = &[
    backend!("memory", ["memory"], ["prefix", "max_entries", "max_bytes"], Some(&[]), memory),
    backend!("redis", ["redis", "rediss"], ["prefix", "timeout"], REDIS_DRIVER, redis),
    backend!(
        "redis",
        ["redis+cluster", "rediss+cluster"],
        ["prefix", "timeout"],
        REDIS_DRIVER,
        redis_cluster
    ),
    backend!(
        "redis",
        ["redis+sentinel", "rediss+sentinel"],
        ["prefix", "timeout"],
        REDIS_DRIVER,
        redis_sentinel
    ),
    backend!("sqlite", ["sqlite"], SQL, None, sqlite),
    backend!(
        "postgres",
        ["postgres", "postgresql"],
        ["prefix", "table", "timeout", "max_connections", "sweep_every", "migrate", "schema", "prepare"],
        POSTGRES_DRIVER,
        postgres
    ),
    backend!("mysql", ["mysql", "mariadb"], SQL, MYSQL_DRIVER, mysql),
    backend!("mongo", ["mongodb", "mongodb+srv"], ["prefix", "table", "timeout", "migrate"], None, mongo),
];

fn known() -> Vec<&'static str> {
    BACKENDS.iter().flat_map(|backend| backend.schemes).copied().collect()
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("feature", &self.feature).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn error(url: &str) -> Error {
        // Deadlines are set where there is a runtime; nobody waits for them.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("the system has room for it");
        let _here = runtime.enter();
        connect(url)
            .now_or_never()
            .expect("it is found before anything is connected")
            .expect_err("it is wrong")
    }

    #[test]
    fn an_unknown_scheme_names_the_known_ones_and_quotes_nothing() {
        for url in [
            "memcached://user:canary@host",
            "canary",
            "",
            "://canary",
            "canary:canary@host",
            "Redis://canary",
        ] {
            let error = error(url);
            assert_eq!(error.field(), Some("url"), "{url}");
            assert!(error.to_string().contains("mongodb+srv"), "{error}");
            assert!(!format!("{error:?} {error}").contains("canary"), "{error}");
        }
    }

    #[test]
    fn every_scheme_whose_feature_is_off_names_it() {
        // As if none were on, and as it is.
        let off: Vec<Backend> = BACKENDS.iter().map(|on| Backend { open: None, ..*on }).collect();
        for (scheme, feature) in [
            ("memory", "memory"),
            ("redis", "redis"),
            ("rediss", "redis"),
            ("redis+cluster", "redis"),
            ("rediss+cluster", "redis"),
            ("redis+sentinel", "redis"),
            ("rediss+sentinel", "redis"),
            ("sqlite", "sqlite"),
            ("postgres", "postgres"),
            ("postgresql", "postgres"),
            ("mysql", "mysql"),
            ("mariadb", "mysql"),
            ("mongodb", "mongo"),
            ("mongodb+srv", "mongo"),
        ] {
            assert!(known().contains(&scheme));
            let mut errors = vec![find(&off, scheme).expect_err("its feature is off")];
            if find(BACKENDS, scheme).is_err() {
                errors.push(error(&format!("{scheme}://user:canary@host/database")));
            }
            for error in errors {
                assert_eq!(error.field(), Some("url"));
                assert!(error.to_string().contains(&format!("features = [\"{feature}\"]")), "{error}");
                assert!(!format!("{error:?} {error}").contains("canary"));
            }
        }
        assert_eq!(known().len(), 14);
    }

    #[test]
    fn no_scheme_is_that_of_two_stores() {
        let mut schemes = known();
        schemes.sort_unstable();
        schemes.dedup();
        assert_eq!(schemes.len(), known().len());
    }

    #[cfg(feature = "memory")]
    #[test]
    fn an_option_that_the_store_does_not_have_is_refused_by_name() {
        for (url, field) in [
            ("memory:?table=canary", "table"),
            ("memory:?timeout=2s", "timeout"),
            ("memory:?max_entries=canary", "max_entries"),
            ("memory:?max_entries=0", "max_entries"),
            ("memory:?prefix=", "prefix"),
            ("memory:?prefix=a&prefix=b", "prefix"),
            ("memory:?canary=1", "url"),
            ("memory://user:canary@host", "url"),
        ] {
            let error = error(url);
            assert_eq!(error.field(), Some(field), "{url}: {error}");
            assert!(!format!("{error:?} {error}").contains("canary"), "{error}");
        }
    }

    #[cfg(all(feature = "mysql", feature = "postgres"))]
    #[test]
    fn how_statements_are_prepared_is_one_of_two_words_and_postgresqls_alone() {
        for url in ["postgres://host/database?prepare=canary", "mysql://host/database?prepare=each_time"] {
            let error = error(url);
            assert_eq!(error.field(), Some("prepare"), "{url}: {error}");
            assert!(!format!("{error:?} {error}").contains("canary"), "{error}");
        }
    }

    #[test]
    fn a_prefix_that_cannot_be_used_is_found_before_anything_is_connected() {
        let addresses =
            BACKENDS.iter().filter(|backend| backend.open.is_some()).flat_map(|backend| backend.schemes);
        for scheme in addresses.filter(|scheme| **scheme != "memory") {
            for prefix in ["", "a%20b", "%C3%A4", &"p".repeat(127)] {
                let error = error(&format!("{scheme}://host/main?prefix={prefix}"));
                assert_eq!(error.field(), Some("prefix"), "{scheme}: {error}");
            }
        }
    }

    #[cfg(feature = "redis")]
    #[test]
    fn a_timeout_of_redis_is_called_as_in_the_address() {
        for url in ["redis://h", "redis+cluster://h", "redis+sentinel://h/main"] {
            for timeout in ["5s", "0s", "soon"] {
                let error = error(&format!("{url}?timeout={timeout}"));
                assert_eq!(error.field(), Some("timeout"), "{error}");
            }
        }
    }

    #[cfg(feature = "mongo")]
    #[test]
    fn a_collection_of_mongodb_is_called_as_in_the_address() {
        for table in ["a$b", "", "system.views", "a%00"] {
            assert_eq!(error(&format!("mongodb://h/?table={table}")).field(), Some("table"));
        }
        assert_eq!(error("mongodb://h/?timeout=0s").field(), Some("timeout"));
    }

    #[test]
    fn an_option_that_nobody_knows_is_refused_and_not_shown() {
        for url in [
            "redis://host/0?canary=1",
            "redis://host/0?protocol=resp3&canary=1",
            "redis+cluster://host?canary=1",
            "redis+sentinel://host/main?canary=1",
            "postgres://host/database?sslmode=disable&pasword=canary",
            "mysql://host/database?canary=1",
            "sqlite://none.db?canary=1",
            "mongodb://host/database?canary=1",
            "mongodb://host/database?serverSelectionTimoutMS=1&canary=1",
        ] {
            // Without the feature it is an error, too.
            let error = error(url);
            assert_eq!(error.field(), Some("url"), "{url}: {error}");
            assert!(!format!("{error:?} {error}").contains("canary"), "{error}");
        }
    }

    #[cfg(feature = "memory")]
    #[test]
    fn a_store_in_memory_has_its_bounds_and_its_prefix() {
        let store = connect("memory:?prefix=a%3Ab&max_entries=10&max_bytes=1000000").now_or_never();
        let shown = format!("{:?}", store.expect("nothing is connected").expect("it opens"));
        assert!(shown.contains("Prefixed") && shown.contains("MemoryStore"), "{shown}");
        assert!(connect("memory:").now_or_never().expect("nothing is connected").is_ok());
    }
}
