//! The operations of a store by name, and the forwarding that wrappers share.

use std::fmt;

use crate::subject::Ability;

/// An operation of a store, of any ability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Operation {
    /// `Store::get`
    Get,
    /// `Store::set`
    Set,
    /// `Store::destroy`
    Destroy,
    /// `AtomicStore::create`
    Create,
    /// `AtomicStore::replace`
    Replace,
    /// `AtomicStore::remove`
    Remove,
    /// `AtomicStore::touch`
    Touch,
    /// `IndexedStore::bind`
    Bind,
    /// `IndexedStore::keys_of`
    KeysOf,
    /// `IndexedStore::destroy_user`
    DestroyUser,
    /// `AdminStore::scan`
    Scan,
    /// `AdminStore::len`
    Len,
    /// `AdminStore::clear`
    Clear,
    /// `AdminStore::sweep`
    Sweep,
}

impl Operation {
    /// Every operation there is, in the order of the contract.
    pub const ALL: [Self; 14] = [
        Self::Get,
        Self::Set,
        Self::Destroy,
        Self::Create,
        Self::Replace,
        Self::Remove,
        Self::Touch,
        Self::Bind,
        Self::KeysOf,
        Self::DestroyUser,
        Self::Scan,
        Self::Len,
        Self::Clear,
        Self::Sweep,
    ];

    /// Returns the name of the method.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Destroy => "destroy",
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Remove => "remove",
            Self::Touch => "touch",
            Self::Bind => "bind",
            Self::KeysOf => "keys_of",
            Self::DestroyUser => "destroy_user",
            Self::Scan => "scan",
            Self::Len => "len",
            Self::Clear => "clear",
            Self::Sweep => "sweep",
        }
    }

    /// Returns the ability that the operation belongs to, or `None` if every store has it.
    #[must_use]
    pub const fn ability(self) -> Option<Ability> {
        match self {
            Self::Get | Self::Set | Self::Destroy => None,
            Self::Create | Self::Replace | Self::Remove | Self::Touch => Some(Ability::Atomic),
            Self::Bind | Self::KeysOf | Self::DestroyUser => Some(Ability::Indexed),
            Self::Scan | Self::Len | Self::Clear | Self::Sweep => Some(Ability::Admin),
        }
    }

    /// Returns whether the operation may change what is stored.
    #[must_use]
    pub const fn is_write(self) -> bool {
        !matches!(self, Self::Get | Self::KeysOf | Self::Scan | Self::Len)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Writes the four store traits for a wrapper that has `inner(&self) -> &S`, and
/// `around(&self, Operation, Option<&Key>, call) -> Result<T>`, through which every call goes.
///
/// An ability is handed out exactly when the inner store has it. Called without it all the same, an operation is
/// `Unsupported`.
macro_rules! forward_through_around {
    ($wrapper:ident) => {
        #[cloakroom_core::async_trait]
        impl<S: Store> Store for $wrapper<S> {
            async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
                self.around(Operation::Get, Some(key), self.inner().get(key)).await
            }

            async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
                let call = self.inner().set(key, value, ttl);
                self.around(Operation::Set, Some(key), call).await
            }

            async fn destroy(&self, key: &Key) -> Result<bool> {
                let call = self.inner().destroy(key);
                self.around(Operation::Destroy, Some(key), call).await
            }

            fn status(&self) -> StatusStream {
                self.outer_status()
            }

            fn guarantee(&self) -> cloakroom_core::Guarantee {
                self.inner().guarantee()
            }

            fn as_atomic(&self) -> Option<&dyn AtomicStore> {
                self.inner().as_atomic().map(|_| self as &dyn AtomicStore)
            }

            fn as_indexed(&self) -> Option<&dyn IndexedStore> {
                self.inner().as_indexed().map(|_| self as &dyn IndexedStore)
            }

            fn as_admin(&self) -> Option<&dyn AdminStore> {
                self.inner().as_admin().map(|_| self as &dyn AdminStore)
            }
        }

        #[cloakroom_core::async_trait]
        impl<S: Store> AtomicStore for $wrapper<S> {
            async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
                let inner = self.inner().as_atomic().ok_or(ErrorKind::Unsupported)?;
                let call = inner.create(key, value, ttl);
                self.around(Operation::Create, Some(key), call).await
            }

            async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
                let inner = self.inner().as_atomic().ok_or(ErrorKind::Unsupported)?;
                let call = inner.replace(key, expected, value, ttl);
                self.around(Operation::Replace, Some(key), call).await
            }

            async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
                let inner = self.inner().as_atomic().ok_or(ErrorKind::Unsupported)?;
                let call = inner.remove(key, expected);
                self.around(Operation::Remove, Some(key), call).await
            }

            async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
                let inner = self.inner().as_atomic().ok_or(ErrorKind::Unsupported)?;
                let call = inner.touch(key, ttl);
                self.around(Operation::Touch, Some(key), call).await
            }
        }

        #[cloakroom_core::async_trait]
        impl<S: Store> IndexedStore for $wrapper<S> {
            async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
                let inner = self.inner().as_indexed().ok_or(ErrorKind::Unsupported)?;
                let call = inner.bind(key, user, ttl);
                self.around(Operation::Bind, Some(key), call).await
            }

            async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
                let inner = self.inner().as_indexed().ok_or(ErrorKind::Unsupported)?;
                self.around(Operation::KeysOf, None, inner.keys_of(user)).await
            }

            async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
                let inner = self.inner().as_indexed().ok_or(ErrorKind::Unsupported)?;
                let call = inner.destroy_user(user, except);
                self.around(Operation::DestroyUser, None, call).await
            }
        }

        #[cloakroom_core::async_trait]
        impl<S: Store> AdminStore for $wrapper<S> {
            fn scan(&self) -> BoxStream<'_, Result<Key>> {
                let opening = self.around(Operation::Scan, None, async {
                    let inner = self.inner().as_admin().ok_or(ErrorKind::Unsupported)?;
                    Ok(inner.scan())
                });
                Box::pin(stream::once(opening).try_flatten())
            }

            async fn len(&self) -> Result<u64> {
                let inner = self.inner().as_admin().ok_or(ErrorKind::Unsupported)?;
                self.around(Operation::Len, None, inner.len()).await
            }

            async fn clear(&self) -> Result<u64> {
                let inner = self.inner().as_admin().ok_or(ErrorKind::Unsupported)?;
                self.around(Operation::Clear, None, inner.clear()).await
            }

            async fn sweep(&self, limit: u32) -> Result<u64> {
                let inner = self.inner().as_admin().ok_or(ErrorKind::Unsupported)?;
                self.around(Operation::Sweep, None, inner.sweep(limit)).await
            }
        }
    };
}

pub(crate) use forward_through_around;
