//! Stores that move sessions the obvious ways, each of which is wrong: what the tests of races must catch.

use cloakroom::{
    AtomicStore, Bytes, Error, ErrorKind, IndexedStore, Key, Result, Store, Swapped, Ttl, async_trait,
};

use crate::steps::Steps;

/// How a naive store goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Removes the value from the old store, then creates it in the new one.
    RemoveThenCreate,
    /// Creates it in the new store, then removes it from the old one.
    CreateThenRemove,
    /// As `RemoveThenCreate`, and destroys in the new store first.
    DestroyNewBefore,
}

#[derive(Clone, Debug)]
pub(crate) struct Naive {
    pub(crate) from: Steps,
    pub(crate) to: Steps,
    pub(crate) way: Way,
}

impl Naive {
    async fn take_over(&self, key: &Key, ttl: Ttl) -> Result<()> {
        let Some(value) = self.from.get(key).await? else { return Ok(()) };
        if self.way == Way::CreateThenRemove {
            self.to.create(key, value.clone(), ttl).await?;
            self.from.remove(key, &value).await?;
        } else if self.from.remove(key, &value).await? == Swapped::Done {
            self.to.create(key, value, ttl).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Naive {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        match self.to.get(key).await? {
            Some(value) => Ok(Some(value)),
            None => self.from.get(key).await,
        }
    }
    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.take_over(key, ttl).await?;
        self.to.set(key, value, ttl).await
    }
    async fn destroy(&self, key: &Key) -> Result<bool> {
        if self.way == Way::DestroyNewBefore {
            return Ok(self.to.destroy(key).await? | self.from.destroy(key).await?);
        }
        Ok(self.from.destroy(key).await? | self.to.destroy(key).await?)
    }
    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }
    fn as_indexed(&self) -> Option<&dyn IndexedStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for Naive {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        self.take_over(key, ttl).await?;
        self.to.create(key, value, ttl).await
    }
    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        self.take_over(key, ttl).await?;
        self.to.replace(key, expected, value, ttl).await
    }
    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        self.take_over(key, Ttl::from_secs(60)).await?;
        self.to.remove(key, expected).await
    }
    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        self.take_over(key, ttl).await?;
        self.to.touch(key, ttl).await
    }
}

#[async_trait]
impl IndexedStore for Naive {
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        self.to.bind(key, user, ttl).await
    }
    async fn keys_of(&self, _: &str) -> Result<Vec<Key>> {
        Err(Error::new(ErrorKind::Unsupported))
    }
    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        Ok(self.from.destroy_user(user, except).await? + self.to.destroy_user(user, except).await?)
    }
}
