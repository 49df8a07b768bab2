//! What a reply says, if it is one that the command can have.

use bytes::Bytes;
use cloakroom_core::{Error, ErrorKind, Result, Swapped};
use redis::Value;

use super::classify::STORE;

/// The error for a reply that no such command has. The reply is not quoted: it may hold a value.
pub(super) fn unexpected() -> Error {
    Error::new(ErrorKind::Backend)
        .store(STORE)
        .hint("the server answered with something that this command never returns; is it a redis server?")
}

/// Reads a value, or none.
pub(super) fn bytes(reply: Value) -> Result<Option<Bytes>> {
    match reply {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
        Value::SimpleString(text) => Ok(Some(Bytes::from(text))),
        _ => Err(unexpected()),
    }
}

/// Reads `OK`.
pub(super) fn okay(reply: &Value) -> Result<()> {
    if is_okay(reply) { Ok(()) } else { Err(unexpected()) }
}

/// Reads `OK`, or nil where a condition was not met.
pub(super) fn okay_or_nil(reply: &Value) -> Result<bool> {
    match reply {
        Value::Nil => Ok(false),
        reply if is_okay(reply) => Ok(true),
        _ => Err(unexpected()),
    }
}

/// Reads how many keys a command changed, of at most one.
pub(super) fn one_or_none(reply: &Value) -> Result<bool> {
    match reply {
        Value::Int(0) => Ok(false),
        Value::Int(1) => Ok(true),
        _ => Err(unexpected()),
    }
}

/// Reads a count.
pub(super) fn count(reply: &Value) -> Result<u64> {
    match reply {
        Value::Int(number) => u64::try_from(*number).map_err(|_| unexpected()),
        _ => Err(unexpected()),
    }
}

/// Reads a yes or a no for each of some keys.
pub(super) fn flags(reply: Value, keys: usize) -> Result<Vec<bool>> {
    match reply {
        Value::Array(flags) if flags.len() == keys => flags.iter().map(one_or_none).collect(),
        _ => Err(unexpected()),
    }
}

/// Reads what our scripts answer: 1 for done, nil for gone, and the value that is there for a conflict.
pub(super) fn swapped(reply: Value) -> Result<Swapped> {
    match reply {
        Value::Int(1) => Ok(Swapped::Done),
        Value::Nil => Ok(Swapped::Gone),
        Value::BulkString(current) => Ok(Swapped::Conflict(Bytes::from(current))),
        _ => Err(unexpected()),
    }
}

/// Reads what `SET … IFEQ … GET` answers: the value that was there, equal to the expected one or not.
pub(super) fn swapped_from(reply: Value, expected: &[u8]) -> Result<Swapped> {
    Ok(match bytes(reply)? {
        None => Swapped::Gone,
        Some(before) if before == expected => Swapped::Done,
        Some(current) => Swapped::Conflict(current),
    })
}

/// Reads a list of byte strings.
pub(super) fn list(reply: Value) -> Result<Vec<Vec<u8>>> {
    let (Value::Array(items) | Value::Set(items)) = reply else {
        return Err(unexpected());
    };
    items
        .into_iter()
        .map(|item| match item {
            Value::BulkString(bytes) => Ok(bytes),
            Value::SimpleString(text) => Ok(text.into_bytes()),
            _ => Err(unexpected()),
        })
        .collect()
}

/// Reads what `SCAN` answers: where to go on, and some names.
pub(super) fn scanned(reply: Value) -> Result<(u64, Vec<Vec<u8>>)> {
    let Value::Array(parts) = reply else {
        return Err(unexpected());
    };
    let [cursor, names] = <[Value; 2]>::try_from(parts).map_err(|_| unexpected())?;
    let cursor = match &cursor {
        Value::BulkString(digits) => std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()),
        Value::SimpleString(digits) => digits.parse().ok(),
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    Ok((cursor.ok_or_else(unexpected)?, list(names)?))
}

fn is_okay(reply: &Value) -> bool {
    matches!(reply, Value::Okay) || matches!(reply, Value::SimpleString(text) if text == "OK")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn a_reply_of_another_kind_is_an_error_that_does_not_quote_it() {
        let odd = || Value::Array(vec![bulk("secret")]);
        for error in [
            bytes(odd()).unwrap_err(),
            bytes(Value::Int(1)).unwrap_err(),
            okay(&Value::Nil).unwrap_err(),
            okay(&bulk("secret")).unwrap_err(),
            okay_or_nil(&Value::Int(1)).unwrap_err(),
            one_or_none(&Value::Int(2)).unwrap_err(),
            one_or_none(&Value::Okay).unwrap_err(),
            count(&Value::Int(-1)).unwrap_err(),
            flags(odd(), 1).map(drop).unwrap_err(),
            flags(Value::Array(vec![Value::Int(1)]), 2).map(drop).unwrap_err(),
            swapped(Value::Int(0)).unwrap_err(),
            swapped(odd()).unwrap_err(),
            swapped_from(odd(), b"").unwrap_err(),
            list(Value::Nil).unwrap_err(),
            list(Value::Array(vec![Value::Int(1)])).unwrap_err(),
            scanned(Value::Nil).unwrap_err(),
            scanned(Value::Array(vec![bulk("0")])).unwrap_err(),
            scanned(Value::Array(vec![bulk("secret"), Value::Array(vec![])])).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Backend);
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
    }

    #[test]
    fn a_conditional_write_is_done_gone_or_a_conflict() {
        assert_eq!(swapped(Value::Int(1)).unwrap(), Swapped::Done);
        assert_eq!(swapped(Value::Nil).unwrap(), Swapped::Gone);
        assert_eq!(swapped(bulk("1")).unwrap(), Swapped::Conflict("1".into()));
        assert_eq!(swapped_from(bulk("old"), b"old").unwrap(), Swapped::Done);
        assert_eq!(swapped_from(Value::Nil, b"old").unwrap(), Swapped::Gone);
        assert_eq!(swapped_from(bulk("new"), b"old").unwrap(), Swapped::Conflict("new".into()));
    }
}
