//! What is asked of a server when a connection is made: who it is, whether it can serve, and to forget the last one.

use cloakroom_core::{Error, ErrorKind, Result};
use redis::{Value, aio::MultiplexedConnection};

use super::{
    classify::{STORE, classify},
    reply::unexpected,
    script,
};

/// The oldest Redis that is supported. Every Valkey is newer.
const OLDEST: (u32, u32) = (6, 2);

/// A server, as it introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) valkey: bool,
    pub(super) version: (u32, u32),
    pub(super) is_master: bool,
    pub(super) in_cluster: bool,
}

impl Server {
    /// Refuses what is of no use as the one server of a store.
    pub(super) fn check_single(&self) -> Result<()> {
        let error = if self.in_cluster {
            Error::new(ErrorKind::Rejected)
                .hint("the server is a node of a cluster; use `RedisStore::cluster`")
        } else if !self.is_master {
            Error::new(ErrorKind::Unavailable).hint("the server is a replica; the store needs the master")
        } else {
            return Ok(());
        };
        Err(error.store(STORE))
    }

    /// Whether `SET` takes `IFEQ`, which compares and swaps without a script.
    pub(super) const fn has_ifeq(&self) -> bool {
        let (major, minor) = self.version;
        if self.valkey {
            major > 8 || major == 8 && minor >= 1
        } else {
            major > 8 || major == 8 && minor >= 4
        }
    }
}

/// A connection as the server knows it.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    id: Vec<u8>,
    address: Vec<u8>,
}

/// Introduces us on a new connection, which is of use only when this succeeds.
///
/// `last` is the connection that this one replaces. The server drops it, with what it has not read of it yet: a write
/// that failed on it must not be applied after what is written from now on.
pub(super) async fn greet(
    connection: &mut MultiplexedConnection,
    last: Option<&Identity>,
) -> Result<(Server, Option<Identity>)> {
    let mut pipe = redis::pipe();
    pipe.cmd("HELLO").cmd("PING").cmd("CLIENT").arg("INFO");
    for script in script::ALL {
        pipe.cmd("SCRIPT").arg("LOAD").arg(script.code());
    }
    let mut commands = 3 + script::ALL.len();
    if let Some(last) = last {
        // All conditions must hold, so a server that started anew and counts from 1 again drops nobody else.
        pipe.cmd("CLIENT").arg("KILL").arg("ID").arg(&last.id).arg("ADDR").arg(&last.address);
        commands += 1;
    }
    let mut replies =
        connection.send_packed_commands(&pipe, 0, commands).await.map_err(classify)?.into_iter();
    let mut next = || replies.next().unwrap_or_default().extract_error().map_err(classify);
    let server = introduced(next()?)?;
    // Refused while the server loads its data.
    next()?;
    // A user may not be allowed the rest, and can do without.
    Ok((server, next().ok().and_then(|info| identity(&info))))
}

/// Reads and judges what `HELLO` answers: a map, or with the older protocol a flat list.
pub(super) fn introduced(reply: Value) -> Result<Server> {
    let pairs = match reply {
        Value::Map(pairs) => pairs,
        Value::Array(items) => {
            let mut items = items.into_iter();
            std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect()
        }
        _ => return Err(unexpected()),
    };
    let field = |name: &str| {
        let found = pairs.iter().find(|(key, _)| text(key) == Some(name));
        found.and_then(|(_, value)| text(value))
    };
    let valkey = field("server") == Some("valkey");
    let version = field("version").and_then(parse_version).ok_or_else(unexpected)?;
    if !valkey && version < OLDEST {
        return Err(too_old(&format!("redis {}.{}", version.0, version.1)));
    }
    Ok(Server {
        valkey,
        version,
        is_master: field("role") == Some("master"),
        in_cluster: field("mode") == Some("cluster"),
    })
}

/// The error for a server that lacks what the store needs.
pub(super) fn too_old(server: &str) -> Error {
    Error::new(ErrorKind::Unsupported)
        .store(STORE)
        .hint(format!("{server} is too old; the store needs redis 6.2 or later, or valkey"))
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn identity(info: &Value) -> Option<Identity> {
    let info = match info {
        Value::VerbatimString { text, .. } => text,
        other => text(other)?,
    };
    let field = |name: &str| {
        let found = info.split_ascii_whitespace().find_map(|pair| pair.strip_prefix(name));
        found.map(|value| value.as_bytes().to_vec())
    };
    Some(Identity { id: field("id=")?, address: field("addr=")? })
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn hello(server: &str, version: &str) -> Value {
        let fields = [("server", server), ("version", version), ("mode", "standalone"), ("role", "master")];
        Value::Map(fields.map(|(name, value)| (bulk(name), bulk(value))).into())
    }

    #[test]
    fn the_oldest_server_is_redis_6_2_and_any_valkey() {
        for (server, version) in
            [("redis", "6.2.0"), ("redis", "7.0.15"), ("redis", "10.0"), ("valkey", "7.2.4")]
        {
            assert!(introduced(hello(server, version)).is_ok(), "{server} {version}");
        }
        for version in ["6.0.16", "5.0.3", "4.0"] {
            let error = introduced(hello("redis", version)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("needs redis 6.2 or later"), "{error}");
        }
    }

    #[test]
    fn compare_and_swap_without_a_script_is_known_by_the_version() {
        for (server, version, has) in [
            ("redis", "7.0.15", false),
            ("redis", "8.2.1", false),
            ("redis", "8.4.0", true),
            ("redis", "9.0.0", true),
            ("valkey", "8.0.1", false),
            ("valkey", "8.1.0", true),
            ("valkey", "9.0.0", true),
        ] {
            assert_eq!(introduced(hello(server, version)).unwrap().has_ifeq(), has, "{server} {version}");
        }
    }

    #[test]
    fn what_is_no_introduction_is_an_error() {
        for reply in
            [Value::Nil, Value::Okay, Value::Array(vec![]), hello("redis", ""), hello("redis", "seven")]
        {
            assert_eq!(introduced(reply).unwrap_err().kind(), ErrorKind::Backend);
        }
    }

    #[test]
    fn the_older_protocol_introduces_itself_in_a_list() {
        let items = ["server", "redis", "version", "7.2.1", "mode", "cluster", "role", "replica"];
        let server = introduced(Value::Array(items.map(bulk).into())).unwrap();
        assert_eq!(server, Server { valkey: false, version: (7, 2), is_master: false, in_cluster: true });
    }

    #[test]
    fn a_connection_is_known_by_its_number_and_its_address() {
        let info = identity(&bulk("id=7 addr=127.0.0.1:5000 laddr=127.0.0.1:6379 fd=8 name= age=0")).unwrap();
        assert_eq!((&*info.id, &*info.address), (&b"7"[..], &b"127.0.0.1:5000"[..]));
        assert!(identity(&bulk("nothing of the kind")).is_none());
    }
}
