//! Values in and out of JSON, with errors that quote nothing.

mod text;

use std::{any::type_name, cell::Cell};

use serde::{Serialize, de::DeserializeOwned};

use self::text::write_json;
use crate::{
    document::Pair,
    error::{Error, ErrorKind, Result},
    record::too_deep,
};

/// Decodes the JSON of one value.
///
/// # Errors
/// [`ErrorKind::Value`]. `serde_json`'s own message may quote the value, so it is not kept.
pub(crate) fn from_json<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|_| {
        Error::new(ErrorKind::Value)
            .operation("get")
            .hint(format!("the stored value is not of type {}", type_name::<T>()))
    })
}

/// Encodes one value, to be stored under `key`.
///
/// # Errors
/// [`ErrorKind::Value`] when it cannot become JSON, is nested too deeply to be read again, or is as large as 4 GiB.
pub(crate) fn to_pair<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<Pair> {
    let bad = |hint| {
        Error::new(ErrorKind::Value)
            .operation("insert")
            .hint(format!("a value of type {} {hint}", type_name::<T>()))
    };
    // Taken and given back, so that a value whose `Serialize` uses a session finds another one.
    let mut text = BUFFER.try_with(Cell::take).unwrap_or_default();
    text.clear();
    let pending = Pair::begin(key, &mut text);
    write_json(value, &mut text).map_err(|_| bad("cannot be written as JSON"))?;
    if u32::try_from(text.len()).is_err() {
        return Err(bad("is too large"));
    }
    let json = pending.value(&text);
    if matches!(json.first(), Some(b'[' | b'{')) && too_deep(json, MAX_VALUE_DEPTH) {
        return Err(bad("is nested too deeply"));
    }
    let pair = pending.end(&text);
    if text.capacity() <= KEPT_BUFFER {
        // A thread that is ending needs it no more.
        let _ = BUFFER.try_with(|buffer| buffer.set(text));
    }
    Ok(pair)
}

thread_local! {
    /// Where values are encoded before their size is known.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The largest buffer that a thread keeps, in bytes.
const KEPT_BUFFER: usize = 16 * 1024;

/// Leaves room for the record around the value.
const MAX_VALUE_DEPTH: usize = 120;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_value_of_another_type_is_an_error_that_quotes_nothing() {
        let error = from_json::<u64>("\"canary\"").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(error.to_string().contains("u64") && !format!("{error:?}{error}").contains("canary"));
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        let map = HashMap::from([(vec![1_u8], 1)]);
        assert_eq!(to_pair("key", &map).unwrap_err().kind(), ErrorKind::Value);
    }

    #[test]
    fn a_value_that_could_not_be_read_back_is_refused() {
        let nested = |levels: usize| (0..levels).fold(serde_json::Value::Null, |inner, _| vec![inner].into());
        assert!(to_pair("key", &nested(120)).is_ok());
        assert_eq!(to_pair("key", &nested(121)).unwrap_err().kind(), ErrorKind::Value);
    }
}
