//! The forwarding that wrappers share: every operation of the store within, through one function.

/// Writes the four store traits for a wrapper of a `Store` called `inner`, with the functions
///
/// - `async fn around(&self, operation: &'static str, call) -> Result<T>`, through which every call goes, and
/// - `fn around_scan(&self, keys: BoxStream) -> BoxStream`.
///
/// An ability is handed out exactly when the inner store has it. Called without it all the same, an operation is
/// `Unsupported`.
macro_rules! forward_around {
    ($wrapper:ident, $name:literal) => {
        #[cloakroom_core::async_trait]
        impl<S: cloakroom_core::Store> cloakroom_core::Store for $wrapper<S> {
            async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
                self.around("get", self.inner.get(key)).await
            }

            async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
                self.around("set", self.inner.set(key, value, ttl)).await
            }

            async fn destroy(&self, key: &Key) -> Result<bool> {
                self.around("destroy", self.inner.destroy(key)).await
            }

            fn status(&self) -> cloakroom_core::StatusStream {
                self.inner_status()
            }

            fn guarantee(&self) -> cloakroom_core::Guarantee {
                self.inner.guarantee()
            }

            fn as_atomic(&self) -> Option<&dyn AtomicStore> {
                self.inner.as_atomic().map(|_| self as &dyn AtomicStore)
            }

            fn as_indexed(&self) -> Option<&dyn IndexedStore> {
                self.inner.as_indexed().map(|_| self as &dyn IndexedStore)
            }

            fn as_admin(&self) -> Option<&dyn AdminStore> {
                self.inner.as_admin().map(|_| self as &dyn AdminStore)
            }
        }

        #[cloakroom_core::async_trait]
        impl<S: cloakroom_core::Store> AtomicStore for $wrapper<S> {
            async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
                self.around("create", self.atomic()?.create(key, value, ttl)).await
            }

            async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
                self.around("replace", self.atomic()?.replace(key, expected, value, ttl)).await
            }

            async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
                self.around("remove", self.atomic()?.remove(key, expected)).await
            }

            async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
                self.around("touch", self.atomic()?.touch(key, ttl)).await
            }
        }

        #[cloakroom_core::async_trait]
        impl<S: cloakroom_core::Store> IndexedStore for $wrapper<S> {
            async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
                self.around("bind", self.indexed()?.bind(key, user, ttl)).await
            }

            async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
                self.around("keys_of", self.indexed()?.keys_of(user)).await
            }

            async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
                self.around("destroy_user", self.indexed()?.destroy_user(user, except)).await
            }
        }

        #[cloakroom_core::async_trait]
        impl<S: cloakroom_core::Store> AdminStore for $wrapper<S> {
            fn scan(&self) -> BoxStream<'_, Result<Key>> {
                match self.admin() {
                    Ok(admin) => self.around_scan(admin.scan()),
                    Err(error) => Box::pin(futures_util::stream::iter([Err(error)])),
                }
            }

            async fn len(&self) -> Result<u64> {
                self.around("len", self.admin()?.len()).await
            }

            async fn clear(&self) -> Result<u64> {
                self.around("clear", self.admin()?.clear()).await
            }

            async fn sweep(&self, limit: u32) -> Result<u64> {
                self.around("sweep", self.admin()?.sweep(limit)).await
            }
        }

        impl<S: cloakroom_core::Store> $wrapper<S> {
            /// Returns the store within.
            #[must_use]
            pub const fn inner(&self) -> &S {
                &self.inner
            }

            fn atomic(&self) -> Result<&dyn AtomicStore> {
                let hint = "the inner store cannot compare and swap";
                self.inner.as_atomic().ok_or_else(|| Self::unsupported(hint))
            }

            fn indexed(&self) -> Result<&dyn IndexedStore> {
                let hint = "the inner store has no index of users";
                self.inner.as_indexed().ok_or_else(|| Self::unsupported(hint))
            }

            fn admin(&self) -> Result<&dyn AdminStore> {
                let hint = "the inner store cannot list its keys";
                self.inner.as_admin().ok_or_else(|| Self::unsupported(hint))
            }

            fn unsupported(hint: &'static str) -> Error {
                Error::new(ErrorKind::Unsupported).store($name).hint(hint)
            }
        }
    };
}

pub(crate) use forward_around;
