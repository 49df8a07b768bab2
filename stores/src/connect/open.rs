//! One function for each kind of store: from its address to the store, with our options applied.

use std::sync::Arc;

use cloakroom_core::{Result, Store};

use super::address::Address;
use crate::Prefixed;

/// Puts a store under the prefix of the address, if there is one.
#[allow(dead_code)]
fn under_prefix(store: impl Store, address: &Address) -> Result<Arc<dyn Store>> {
    Ok(match address.text("prefix") {
        Some(prefix) => Arc::new(Prefixed::new(store, prefix)?),
        None => Arc::new(store),
    })
}

#[cfg(feature = "memory")]
pub(super) async fn memory(address: Address) -> Result<Arc<dyn Store>> {
    if !matches!(address.rest(), "memory:" | "memory://") {
        let cure = "must be `memory:`, and after a `?` options that it has";
        return Err(cloakroom_core::Error::config("url", cure));
    }
    let mut builder = crate::MemoryStore::builder();
    if let Some(entries) = address.number("max_entries")? {
        builder = builder.max_entries(entries);
    }
    if let Some(bytes) = address.number("max_bytes")? {
        builder = builder.max_bytes(bytes);
    }
    under_prefix(builder.build()?, &address)
}

#[cfg(feature = "redis")]
fn redis_builder(address: &Address) -> Result<crate::RedisStoreBuilder> {
    let mut builder = crate::RedisStore::builder();
    if let Some(prefix) = address.text("prefix") {
        // As `Prefixed` does it, so that no prefix begins with another.
        builder = builder.prefix(crate::prefixed::written(prefix)?);
    }
    if let Some(timeout) = address.duration("timeout")? {
        // The builder has two, of other names.
        crate::redis::check_timeout("timeout", timeout)?;
        builder = builder.connect_timeout(timeout).response_timeout(timeout);
    }
    Ok(builder)
}

#[cfg(feature = "redis")]
pub(super) async fn redis(address: Address) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(redis_builder(&address)?.connect(address.rest()).await?))
}

/// The scheme of a single server, with TLS or without.
#[cfg(feature = "redis")]
fn plain_scheme(address: &Address) -> &'static str {
    if address.scheme().starts_with("rediss") { "rediss" } else { "redis" }
}

/// Returns the addresses of the nodes of a cluster, each with the user, the path and the driver's options.
#[cfg(feature = "redis")]
fn cluster_nodes(address: &Address) -> Result<Vec<String>> {
    let scheme = plain_scheme(address);
    let parts = address.parts()?;
    let user = parts.user.map(|user| format!("{user}@")).unwrap_or_default();
    let query = parts.query.map(|query| format!("?{query}")).unwrap_or_default();
    let node = |host: &&str| format!("{scheme}://{user}{host}/{}{query}", parts.path);
    Ok(parts.hosts.iter().map(node).collect())
}

#[cfg(feature = "redis")]
pub(super) async fn redis_cluster(address: Address) -> Result<Arc<dyn Store>> {
    let nodes = cluster_nodes(&address)?;
    Ok(Arc::new(redis_builder(&address)?.cluster(nodes).await?))
}

/// Returns the addresses of the sentinels, and that of the master with the user, the database and the driver's options.
#[cfg(feature = "redis")]
fn sentinels_and_master(address: &Address) -> Result<(Vec<String>, String)> {
    let scheme = plain_scheme(address);
    let parts = address.parts()?;
    if parts.path.is_empty() || parts.path.starts_with('/') {
        let cure = "must name the master after the sentinels: redis+sentinel://host1,host2/mymaster/0";
        return Err(cloakroom_core::Error::config("url", cure));
    }
    // The name stands where a host does, so that the user and the database may stand with it.
    let user = parts.user.map(|user| format!("{user}@")).unwrap_or_default();
    let query = parts.query.map(|query| format!("?{query}")).unwrap_or_default();
    let master = format!("{scheme}://{user}{}{query}", parts.path);
    let sentinels: Vec<String> = parts
        .hosts
        .iter()
        .map(|host| match host.rsplit_once(':') {
            Some((_, port)) if !port.ends_with(']') => format!("{scheme}://{host}"),
            _ => format!("{scheme}://{host}:26379"),
        })
        .collect();
    Ok((sentinels, master))
}

#[cfg(feature = "redis")]
pub(super) async fn redis_sentinel(address: Address) -> Result<Arc<dyn Store>> {
    let (sentinels, master) = sentinels_and_master(&address)?;
    Ok(Arc::new(redis_builder(&address)?.sentinel(sentinels, &master).await?))
}

/// Applies the options that the SQL stores have in common.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
macro_rules! sql {
    ($address:ident, $builder:expr, $url:expr) => {{
        let mut builder = $builder;
        if let Some(table) = $address.text("table") {
            builder = builder.table(table);
        }
        if let Some(timeout) = $address.duration("timeout")? {
            builder = builder.timeout(timeout);
        }
        if let Some(connections) = $address.number("max_connections")? {
            builder = builder.max_connections(connections);
        }
        builder = match $address.text("sweep_every") {
            None => builder,
            Some("never") => builder.sweep_every(None),
            Some(_) => builder.sweep_every($address.duration("sweep_every")?),
        };
        let migrate = $address.unless_false("migrate")?;
        let store = builder.connect($url).await?;
        if migrate {
            store.migrate().await?;
        }
        under_prefix(store, &$address)
    }};
}

#[cfg(feature = "sqlite")]
pub(super) async fn sqlite(address: Address) -> Result<Arc<dyn Store>> {
    sql!(address, crate::SqliteStore::builder(), address.rest())
}

#[cfg(feature = "postgres")]
pub(super) async fn postgres(address: Address) -> Result<Arc<dyn Store>> {
    let mut builder = crate::PostgresStore::builder();
    if let Some(schema) = address.text("schema") {
        builder = builder.schema(schema);
    }
    builder = match address.text("prepare") {
        None | Some("once") => builder,
        Some("each_time") => builder.prepare(crate::Prepare::EachTime),
        Some(_) => return Err(cloakroom_core::Error::config("prepare", "must be once or each_time")),
    };
    sql!(address, builder, address.rest())
}

#[cfg(feature = "mysql")]
pub(super) async fn mysql(address: Address) -> Result<Arc<dyn Store>> {
    sql!(address, crate::MySqlStore::builder(), &address.rest_as("mysql"))
}

#[cfg(feature = "mongo")]
pub(super) async fn mongo(address: Address) -> Result<Arc<dyn Store>> {
    let mut builder = crate::MongoStore::builder();
    if let Some(collection) = address.text("table") {
        crate::mongo::check_collection("table", collection)?;
        builder = builder.collection(collection);
    }
    if let Some(timeout) = address.duration("timeout")? {
        builder = builder.timeout(timeout);
    }
    if !address.unless_false("migrate")? {
        builder = builder.leave_indexes();
    }
    under_prefix(builder.connect(address.rest()).await?, &address)
}

#[cfg(all(test, feature = "redis"))]
mod tests {
    use super::*;

    fn address(url: &str) -> Address {
        Address::parse(url).expect("it can be taken apart")
    }

    #[test]
    fn each_node_of_a_cluster_has_the_user_and_the_options_of_the_address() {
        for (url, nodes) in [
            ("redis+cluster://a", vec!["redis://a/"]),
            ("redis+cluster://a:1,b?timeout=2s", vec!["redis://a:1/", "redis://b/"]),
            (
                "rediss+cluster://u:p%40@a,[::1]:7/0?protocol=resp3&prefix=shop",
                vec!["rediss://u:p%40@a/0?protocol=resp3", "rediss://u:p%40@[::1]:7/0?protocol=resp3"],
            ),
        ] {
            assert_eq!(cluster_nodes(&address(url)).expect("it has hosts"), nodes);
        }
    }

    #[test]
    fn the_user_and_the_database_of_sentinels_are_those_of_the_master() {
        for (url, sentinels, master) in [
            ("redis+sentinel://a/main", vec!["redis://a:26379"], "redis://main"),
            (
                "redis+sentinel://u:p@a:1,[::1],[::1]:2/main/3?prefix=shop&protocol=resp3",
                vec!["redis://a:1", "redis://[::1]:26379", "redis://[::1]:2"],
                "redis://u:p@main/3?protocol=resp3",
            ),
            (
                "rediss+sentinel://u:p@a,b/main",
                vec!["rediss://a:26379", "rediss://b:26379"],
                "rediss://u:p@main",
            ),
        ] {
            let (found, found_master) = sentinels_and_master(&address(url)).expect("it names a master");
            assert_eq!((found, &*found_master), (sentinels.into_iter().map(str::to_owned).collect(), master));
        }
        for url in ["redis+sentinel://a", "redis+sentinel://a/", "redis+sentinel://a//0"] {
            assert_eq!(sentinels_and_master(&address(url)).expect_err("no master").field(), Some("url"));
        }
    }

    #[test]
    fn tls_of_a_single_server_is_left_to_the_driver() {
        let address = address("rediss://u:p@h:1/2?prefix=shop&timeout=2s&protocol=resp3");
        assert_eq!(address.rest(), "rediss://u:p@h:1/2?protocol=resp3");
        assert_eq!(plain_scheme(&address), "rediss");
    }
}
