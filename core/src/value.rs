//! Values in and out of JSON, with errors that quote nothing.

use std::{any::type_name, str, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use smallvec::SmallVec;

use crate::{
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

/// Encodes one value.
///
/// # Errors
/// [`ErrorKind::Value`] when it cannot become JSON or is nested too deeply to be read again.
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<Arc<str>> {
    let bad = |hint| {
        Error::new(ErrorKind::Value)
            .operation("insert")
            .hint(format!("a value of type {} {hint}", type_name::<T>()))
    };
    // Small values are encoded on the stack.
    let mut buffer = SmallVec::<[u8; 256]>::new();
    serde_json::to_writer(&mut buffer, value).map_err(|_| bad("cannot be written as JSON"))?;
    if too_deep(&buffer, MAX_VALUE_DEPTH) {
        return Err(bad("is nested too deeply"));
    }
    // serde_json writes nothing but UTF-8; if it ever did not, this would be the same mistake.
    str::from_utf8(&buffer).map(Arc::from).map_err(|_| bad("cannot be written as JSON"))
}

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
        assert_eq!(to_json(&map).unwrap_err().kind(), ErrorKind::Value);
    }

    #[test]
    fn a_value_that_could_not_be_read_back_is_refused() {
        let nested = |levels: usize| (0..levels).fold(serde_json::Value::Null, |inner, _| vec![inner].into());
        assert!(to_json(&nested(120)).is_ok());
        assert_eq!(to_json(&nested(121)).unwrap_err().kind(), ErrorKind::Value);
    }
}
