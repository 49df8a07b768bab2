//! A wrapper that puts any bytes into JSON, so that a table of JSON alone can be held to the whole contract.

use cloakroom::{AtomicStore, Bytes, Key, Result, StatusStream, Store, Swapped, Ttl, async_trait};

/// Stores `{"text":".."}` or `{"hex":".."}` in place of a value. Two values are equal exactly when their JSON is.
#[derive(Clone, Debug)]
pub(crate) struct InJson<S>(pub(crate) S);

impl<S: Store> InJson<S> {
    fn atomic(&self) -> &dyn AtomicStore {
        self.0.as_atomic().unwrap()
    }
}

/// Letters and digits stay as they are where a value is text: the suite looks for its marks on the wire.
fn to_json(value: &[u8]) -> Bytes {
    use std::fmt::Write as _;
    let mut json = String::with_capacity(value.len() * 2 + 12);
    let is_text = value.is_ascii();
    json.push_str(if is_text { "{\"text\":\"" } else { "{\"hex\":\"" });
    for &byte in value {
        if !is_text {
            write!(json, "{byte:02x}").unwrap();
        } else if byte.is_ascii_alphanumeric() || byte == b'-' {
            json.push(char::from(byte));
        } else {
            write!(json, "%{byte:02x}").unwrap();
        }
    }
    json.push_str("\"}");
    json.into()
}

fn from_json(json: &[u8]) -> Bytes {
    let json = json.strip_suffix(b"\"}").unwrap();
    if let Some(hex) = json.strip_prefix(b"{\"hex\":\"") {
        return hex.chunks_exact(2).map(byte).collect::<Vec<_>>().into();
    }
    let mut text = json.strip_prefix(b"{\"text\":\"").unwrap();
    let mut value = Vec::with_capacity(text.len());
    while let Some((&first, rest)) = text.split_first() {
        if first == b'%' {
            value.push(byte(&rest[..2]));
            text = &rest[2..];
        } else {
            value.push(first);
            text = rest;
        }
    }
    value.into()
}

fn byte(digits: &[u8]) -> u8 {
    let digit = |c: u8| char::from(c).to_digit(16).unwrap() as u8;
    digit(digits[0]) << 4 | digit(digits[1])
}

fn swapped(swapped: Swapped) -> Swapped {
    match swapped {
        Swapped::Conflict(current) => Swapped::Conflict(from_json(&current)),
        other => other,
    }
}

#[async_trait]
impl<S: Store> Store for InJson<S> {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        Ok(self.0.get(key).await?.map(|text| from_json(&text)))
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.0.set(key, to_json(&value), ttl).await
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.0.destroy(key).await
    }

    fn status(&self) -> StatusStream {
        self.0.status()
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }
}

#[async_trait]
impl<S: Store> AtomicStore for InJson<S> {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        self.atomic().create(key, to_json(&value), ttl).await
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        self.atomic().replace(key, &to_json(expected), to_json(&value), ttl).await.map(swapped)
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        self.atomic().remove(key, &to_json(expected)).await.map(swapped)
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        self.atomic().touch(key, ttl).await
    }
}
