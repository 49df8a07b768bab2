//! The one place where the driver's errors become ours.

use std::io;

use cloakroom_core::{Error, ErrorKind};
use redis::{ErrorKind as DriverKind, RedisError};

/// The name of the store in errors.
pub(super) const STORE: &str = "redis";

/// What a server means by an error code, and what to do about it.
///
/// Older servers wrap what happened inside a script into `ERR Error running script …`, so the codes are looked for in
/// the text as well.
const CODES: [(&str, ErrorKind, &str); 20] = [
    ("WRONGPASS", ErrorKind::Rejected, "the server refused the user name or the password"),
    ("NOAUTH", ErrorKind::Rejected, "the server asks for a password; put it into the url"),
    ("NOPERM", ErrorKind::Rejected, "the server's access list does not allow this user a command or a key"),
    (
        "DENIED",
        ErrorKind::Rejected,
        "the server runs in protected mode; set a password or bind it to its network",
    ),
    ("READONLY", ErrorKind::Unavailable, "the server is a read-only replica; the store needs the master"),
    ("LOADING", ErrorKind::Unavailable, "the server is still loading its data"),
    ("MASTERDOWN", ErrorKind::Unavailable, "the replica has lost its master"),
    ("NOREPLICAS", ErrorKind::Unavailable, "the master has fewer replicas than it wants for a write"),
    ("MOVED", ErrorKind::Unavailable, "the key is on another node; for a cluster use `RedisStore::cluster`"),
    (
        "ASK",
        ErrorKind::Unavailable,
        "the key is moving to another node; for a cluster use `RedisStore::cluster`",
    ),
    ("TRYAGAIN", ErrorKind::Unavailable, "the key is moving between nodes"),
    ("CLUSTERDOWN", ErrorKind::Unavailable, "the cluster cannot serve this key for now"),
    ("BUSY", ErrorKind::Unavailable, "the server is busy with somebody's script"),
    ("UNBLOCKED", ErrorKind::Unavailable, "the server changed its role"),
    (
        "OOM",
        ErrorKind::Backend,
        "the server is out of memory: raise maxmemory, or let it evict keys with a ttl",
    ),
    ("MISCONF", ErrorKind::Backend, "the server refuses writes since it cannot save its data to disk"),
    ("WRONGTYPE", ErrorKind::Backend, "the key holds another type; does something else use this prefix?"),
    ("CROSSSLOT", ErrorKind::Backend, "the server is a node of a cluster; use `RedisStore::cluster`"),
    ("NOSCRIPT", ErrorKind::Backend, "the server lost a script; is its script cache flushed all the time?"),
    ("EXECABORT", ErrorKind::Backend, "the server refused a part of a transaction"),
];

/// Turns a driver's error into ours.
///
/// Only errors of the connection itself are attached: what a server says may quote a key or a value.
pub(super) fn classify(error: RedisError) -> Error {
    let made = match error.kind() {
        DriverKind::Io if error.is_timeout() => Error::new(ErrorKind::Timeout).with_source(error),
        DriverKind::Io => Error::new(ErrorKind::Unavailable).with_source(error),
        DriverKind::AuthenticationFailed => {
            Error::new(ErrorKind::Rejected).hint("the server refused the user name or the password")
        }
        DriverKind::InvalidClientConfig => Error::config(
            "url",
            "cannot be used; try `redis://user:password@host:6379/0`, or `rediss://` for tls",
        ),
        DriverKind::RESP3NotSupported => super::server::too_old("this server"),
        DriverKind::Server(_) | DriverKind::Extension => of_server(error.code(), error.detail()),
        DriverKind::Parse | DriverKind::UnexpectedReturnType => super::reply::unexpected(),
        _ => Error::new(ErrorKind::Backend).hint("the driver could not carry out the command"),
    };
    made.store(STORE)
}

/// The driver's error for a reply that does not come, for those who wait with a clock of their own.
pub(super) fn timed_out() -> RedisError {
    RedisError::from(io::Error::from(io::ErrorKind::TimedOut))
}

/// Whether a server answered with this code, be it from inside a script.
pub(super) fn has_code(error: &RedisError, code: &str) -> bool {
    error.code() == Some(code)
        || matches!(error.kind(), DriverKind::Server(redis::ServerErrorKind::ResponseError))
            && error.detail().is_some_and(|detail| mentions(detail, code))
}

fn of_server(code: Option<&str>, detail: Option<&str>) -> Error {
    let (code, detail) = (code.unwrap_or_default(), detail.unwrap_or_default());
    let known = CODES.iter().find(|(known, ..)| *known == code).or_else(|| {
        let wrapped = code == "ERR" && detail.contains("script");
        CODES.iter().find(|(known, ..)| wrapped && mentions(detail, known))
    });
    if let Some((_, kind, hint)) = known {
        return Error::new(*kind).hint(*hint);
    }
    if detail.contains("max number of clients") {
        return Error::new(ErrorKind::Unavailable).hint("the server has as many clients as it allows");
    }
    if detail.contains("DB index is out of range") || detail.contains("invalid DB index") {
        return Error::config("url", "names a database that the server does not have");
    }
    if detail.contains("AUTH") || detail.contains("password") {
        return Error::new(ErrorKind::Rejected).hint("the server refused the user name or the password");
    }
    Error::new(ErrorKind::Backend).hint("the server answered with an error that is not known here")
}

/// Whether a text has `code` as a word of its own.
fn mentions(text: &str, code: &str) -> bool {
    text.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|word| word == code)
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    /// Makes the error that the driver makes of what a server says.
    fn said(line: &str) -> RedisError {
        let reply = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        reply.extract_error().unwrap_err()
    }

    #[test]
    fn what_a_server_says_is_told_apart() {
        use ErrorKind::{Backend, Config, Rejected, Unavailable};
        for (line, kind) in [
            ("WRONGPASS invalid username-password pair or user is disabled.", Rejected),
            ("NOAUTH Authentication required.", Rejected),
            ("NOAUTH HELLO must be called with the client already authenticated", Rejected),
            ("NOPERM this user has no permissions to run the 'set' command", Rejected),
            ("DENIED Redis is running in protected mode", Rejected),
            ("ERR AUTH <password> called without any password configured", Rejected),
            ("READONLY You can't write against a read only replica.", Unavailable),
            (
                "ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write",
                Unavailable,
            ),
            ("LOADING Redis is loading the dataset in memory", Unavailable),
            ("MASTERDOWN Link with MASTER is down", Unavailable),
            ("NOREPLICAS Not enough good replicas to write.", Unavailable),
            ("MOVED 3999 127.0.0.1:6381", Unavailable),
            ("ASK 3999 127.0.0.1:6381", Unavailable),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Unavailable),
            ("CLUSTERDOWN Hash slot not served", Unavailable),
            ("BUSY Redis is busy running a script.", Unavailable),
            ("ERR max number of clients reached", Unavailable),
            ("OOM command not allowed when used memory > 'maxmemory'.", Backend),
            ("ERR Error running script (call to f_1): @user_script: 1: -OOM command not allowed", Backend),
            ("MISCONF Redis is configured to save RDB snapshots", Backend),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Backend),
            ("ERR Error running script: WRONGTYPE Operation against a key", Backend),
            ("CROSSSLOT Keys in request don't hash to the same slot", Backend),
            ("NOSCRIPT No matching script.", Backend),
            ("ERR unknown command 'FOO', with args beginning with: 'secret'", Backend),
            ("WEIRD", Backend),
            ("ERR DB index is out of range", Config),
        ] {
            let error = classify(said(line));
            assert_eq!(error.kind(), kind, "{line}");
            assert_eq!(error.failed_store(), Some("redis"));
            assert!(error.source().is_none(), "{line} is not to be quoted");
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn an_error_of_the_connection_is_retryable_and_attached() {
        for (kind, ours) in [
            (io::ErrorKind::ConnectionRefused, ErrorKind::Unavailable),
            (io::ErrorKind::ConnectionReset, ErrorKind::Unavailable),
            (io::ErrorKind::BrokenPipe, ErrorKind::Unavailable),
            (io::ErrorKind::UnexpectedEof, ErrorKind::Unavailable),
            (io::ErrorKind::TimedOut, ErrorKind::Timeout),
        ] {
            let error = classify(RedisError::from(io::Error::from(kind)));
            assert_eq!(error.kind(), ours);
            assert!(error.is_retryable() && error.source().is_some());
        }
    }

    #[test]
    fn what_the_driver_refuses_is_told_apart() {
        for (kind, ours) in [
            (DriverKind::AuthenticationFailed, ErrorKind::Rejected),
            (DriverKind::InvalidClientConfig, ErrorKind::Config),
            (DriverKind::RESP3NotSupported, ErrorKind::Unsupported),
            (DriverKind::Parse, ErrorKind::Backend),
            (DriverKind::UnexpectedReturnType, ErrorKind::Backend),
            (DriverKind::Client, ErrorKind::Backend),
        ] {
            let error = classify(RedisError::from((kind, "quoting a secret", "a secret".to_owned())));
            assert_eq!(error.kind(), ours);
            assert!(!format!("{error} {error:?}").contains("secret") && !error.is_retryable());
        }
    }

    #[test]
    fn a_code_is_found_inside_a_script_and_not_inside_a_word() {
        assert!(has_code(&said("NOSCRIPT No matching script."), "NOSCRIPT"));
        assert!(has_code(&said("ERR Error running script: -READONLY You can't"), "READONLY"));
        assert!(!has_code(&said("ERR ASKING for more"), "ASK"));
    }
}
