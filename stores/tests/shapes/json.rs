//! A wrapper that puts any bytes into JSON, so that a table of JSON alone can be held to the whole contract.

use cloakroom::{AtomicStore, Bytes, Key, Result, StatusStream, Store, Swapped, Ttl, async_trait};

/// Stores `{"hex":".."}` in place of a value. Two values are equal exactly when their JSON is.
#[derive(Clone, Debug)]
pub(crate) struct InJson<S>(pub(crate) S);

impl<S: Store> InJson<S> {
    fn atomic(&self) -> &dyn AtomicStore {
        self.0.as_atomic().unwrap()
    }
}

fn to_json(value: &[u8]) -> Bytes {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(value.len() * 2 + 10);
    text.push_str("{\"hex\":\"");
    value.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
    text.push_str("\"}");
    text.into()
}

fn from_json(text: &[u8]) -> Bytes {
    let hex = text.strip_prefix(b"{\"hex\":\"").and_then(|rest| rest.strip_suffix(b"\"}")).unwrap();
    let digits: Vec<u8> = hex.iter().map(|&c| char::from(c).to_digit(16).unwrap() as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<_>>().into()
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
