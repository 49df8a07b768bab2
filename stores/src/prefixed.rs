//! A part of another store: every key and every user under a prefix of its own.

use std::{
    collections::HashSet,
    fmt::Write,
    hash::{BuildHasher, RandomState},
};

use async_trait::async_trait;
use bytes::Bytes;
use cloakroom_core::{
    AdminStore, AtomicStore, Error, ErrorKind, Guarantee, IndexedStore, Key, Result, StatusStream, Store,
    Swapped, Ttl,
};
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};

use crate::user::{MAX_USER_LEN, check_user};

const STORE: &str = "prefixed";

/// Ends the prefix in a key. It does not occur in the prefix as it is written there.
const END: char = ':';

/// The longest prefix with its end, in bytes.
const MAX_LEN: usize = Key::MAX_LEN - 128;

/// Keys that are removed between two scans: memory for a few megabytes of them, and few scans.
const CLEAR_AT_ONCE: usize = 65_536;

/// A store that keeps its values in another one, under a prefix.
///
/// Several of them, for several applications or tenants, share one store and never see each other's keys or users,
/// whatever their prefixes: `a` and `ab` are as separate as `x` and `y`. It has the abilities the inner store has,
/// and passes on its status.
///
/// The inner key is the prefix, a `:` and the key: `shop:` and then the key, for `shop`. A `:` or `%` inside the prefix
/// is written `%3A` or `%25`. The inner user is made likewise; one too long for that is replaced by 168 bits of its SHA-256.
///
/// ```
/// # #[cfg(feature = "memory")] {
/// use cloakroom::{Key, MemoryStore, Prefixed, Store, Ttl};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = MemoryStore::new();
/// let shop = Prefixed::new(store.clone(), "shop")?;
/// let blog = Prefixed::new(store.clone(), "blog")?;
/// let key = Key::new("a-key")?;
/// shop.set(&key, "value".into(), Ttl::from_secs(60)).await?;
/// assert_eq!(blog.get(&key).await?, None);
/// assert!(store.get(&Key::new("shop:a-key")?).await?.is_some());
/// # Ok::<(), cloakroom::Error>(()) }).unwrap(); }
/// ```
///
/// Keys may have 255 bytes less those of the prefix and its `:`. Every method answers [`ErrorKind::Value`] for a longer
/// one, and the methods of an ability that the inner store has not answer [`ErrorKind::Unsupported`].
#[derive(Clone, Debug)]
pub struct Prefixed<S> {
    inner: S,
    /// As it is written in keys, with its end.
    prefix: Box<str>,
}

impl<S: Store> Prefixed<S> {
    /// The longest prefix with its end, in bytes, as it is written in keys: it leaves 128 bytes for a key, the least
    /// that every store takes.
    pub const MAX_LEN: usize = MAX_LEN;

    /// Creates a view of `store` that holds only what is under `prefix`: 1 to 126 printable ASCII bytes without
    /// spaces, of which each `:` and `%` counts three times.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming `prefix` when it is empty, too long, or not printable ASCII.
    pub fn new(store: S, prefix: impl AsRef<str>) -> Result<Self> {
        Ok(Self { inner: store, prefix: written(prefix.as_ref())?.into() })
    }

    /// Returns the store that holds the values.
    #[must_use]
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// Returns the store that holds the values.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn atomic(&self) -> Result<&dyn AtomicStore> {
        self.inner.as_atomic().ok_or_else(|| unsupported("the inner store cannot compare and swap"))
    }

    fn indexed(&self) -> Result<&dyn IndexedStore> {
        self.inner.as_indexed().ok_or_else(|| unsupported("the inner store has no index of users"))
    }

    fn admin(&self) -> Result<&dyn AdminStore> {
        self.inner.as_admin().ok_or_else(|| unsupported("the inner store cannot list its keys"))
    }

    /// Puts the prefix before a key.
    fn inner_key(&self, key: &Key) -> Result<Key> {
        if self.prefix.len() + key.as_bytes().len() > Key::MAX_LEN {
            return Err(Error::new(ErrorKind::Value)
                .store(STORE)
                .hint("the key is longer than 255 bytes with the prefix"));
        }
        // On the stack: a key is at most that long, and this runs with every operation.
        let mut text = [0_u8; Key::MAX_LEN];
        let (before, rest) = text.split_at_mut(self.prefix.len());
        before.copy_from_slice(self.prefix.as_bytes());
        rest[..key.as_bytes().len()].copy_from_slice(key.as_bytes());
        let text = &text[..self.prefix.len() + key.as_bytes().len()];
        Key::new(std::str::from_utf8(text).unwrap_or_default())
    }

    /// Takes the prefix off a key, or returns `None` if the key has another or is nothing but the prefix.
    fn outer_key(&self, key: &Key) -> Option<Key> {
        let rest = key.as_str().strip_prefix(&*self.prefix)?;
        Key::new(rest).ok()
    }

    /// Removes a value and then the binding of its key: the other way round, an error in between would leave a session
    /// that nobody finds.
    async fn clear_key(&self, key: &Key) -> Result<bool> {
        let key = self.inner_key(key)?;
        let removed = self.inner.destroy(&key).await?;
        if let Some(indexed) = self.inner.as_indexed() {
            // A binding ends when the key is bound to somebody else, here to a name that no user has.
            indexed.bind(&key, &format!("{}-", self.prefix), Ttl::MIN).await?;
        }
        Ok(removed)
    }

    /// Returns the name of a user in the inner store: `=` and the name, or `#` and its hash where that is too long.
    fn inner_user(&self, user: &str) -> String {
        if self.prefix.len() + 1 + user.len() <= MAX_USER_LEN {
            return format!("{}={user}", self.prefix);
        }
        let mut name = format!("{}#", self.prefix);
        // 42 hexadecimal digits: what always fits, and more than anybody can make two names collide in.
        for byte in &Sha256::digest(user)[..21] {
            // Writing to a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        name
    }

    /// Yields the keys under the prefix, without it.
    fn outer_keys<'a>(&'a self, admin: &'a dyn AdminStore) -> BoxStream<'a, Result<Key>> {
        admin.scan().try_filter_map(move |key| std::future::ready(Ok(self.outer_key(&key)))).boxed()
    }
}

#[async_trait]
impl<S: Store> Store for Prefixed<S> {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.inner.get(&self.inner_key(key)?).await
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        self.inner.set(&self.inner_key(key)?, value, ttl).await
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        self.inner.destroy(&self.inner_key(key)?).await
    }

    fn status(&self) -> StatusStream {
        self.inner.status()
    }

    fn guarantee(&self) -> Guarantee {
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

#[async_trait]
impl<S: Store> AtomicStore for Prefixed<S> {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        self.atomic()?.create(&self.inner_key(key)?, value, ttl).await
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        let key = self.inner_key(key)?;
        self.atomic()?.replace(&key, expected, value, ttl).await
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        self.atomic()?.remove(&self.inner_key(key)?, expected).await
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        self.atomic()?.touch(&self.inner_key(key)?, ttl).await
    }
}

#[async_trait]
impl<S: Store> IndexedStore for Prefixed<S> {
    async fn bind(&self, key: &Key, user: &str, ttl: Ttl) -> Result<()> {
        let indexed = self.indexed()?;
        check_user(STORE, user)?;
        let key = self.inner_key(key)?;
        indexed.bind(&key, &self.inner_user(user), ttl).await
    }

    async fn keys_of(&self, user: &str) -> Result<Vec<Key>> {
        let keys = self.indexed()?.keys_of(&self.inner_user(user)).await?;
        Ok(keys.iter().filter_map(|key| self.outer_key(key)).collect())
    }

    async fn destroy_user(&self, user: &str, except: Option<&Key>) -> Result<u64> {
        let except = except.map(|key| self.inner_key(key)).transpose()?;
        let user = self.inner_user(user);
        self.indexed()?.destroy_user(&user, except.as_ref()).await
    }
}

/// Lists, counts and clears only what is under the prefix, but has to scan the whole inner store for it.
#[async_trait]
impl<S: Store> AdminStore for Prefixed<S> {
    fn scan(&self) -> BoxStream<'_, Result<Key>> {
        match self.admin() {
            Ok(admin) => self.outer_keys(admin),
            Err(error) => futures_util::stream::iter([Err(error)]).boxed(),
        }
    }

    /// Scans the inner store, which may show a key twice: some 16 bytes a key are kept meanwhile, to count it once.
    async fn len(&self) -> Result<u64> {
        // Of a million keys two share a hash in one count of forty million.
        let hasher = RandomState::new();
        let mut seen = HashSet::new();
        let mut keys = self.outer_keys(self.admin()?);
        while let Some(key) = keys.try_next().await? {
            seen.insert(hasher.hash_one(&key));
        }
        Ok(seen.len() as u64)
    }

    /// Removes what is under the prefix, key by key: two calls of the inner store for each where it has an index.
    async fn clear(&self) -> Result<u64> {
        let admin = self.admin()?;
        let mut cleared = 0;
        loop {
            // The scan is over before the first removal, so that it cannot meet the keys it made room for.
            let keys: Vec<Key> = self.outer_keys(admin).take(CLEAR_AT_ONCE).try_collect().await?;
            for key in &keys {
                cleared += u64::from(self.clear_key(key).await?);
            }
            if keys.len() < CLEAR_AT_ONCE {
                return Ok(cleared);
            }
        }
    }

    /// Sweeps the inner store, whatever the prefix: what is expired is nobody's.
    async fn sweep(&self, limit: u32) -> Result<u64> {
        self.admin()?.sweep(limit).await
    }
}

/// Writes a prefix as it stands in keys, with its end.
///
/// # Errors
/// As [`Prefixed::new`].
pub(crate) fn written(prefix: &str) -> Result<String> {
    if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::config("prefix", "must be printable ASCII without spaces, and not empty"));
    }
    let mut written = prefix.replace('%', "%25").replace(END, "%3A");
    written.push(END);
    if written.len() > MAX_LEN {
        let cure = format!("must be at most {} bytes, with `:` and `%` counted three times", MAX_LEN - 1);
        return Err(Error::config("prefix", cure));
    }
    Ok(written)
}

fn unsupported(hint: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported).store(STORE).hint(hint)
}

#[cfg(feature = "memory")]
#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::MemoryStore;

    const HOUR: Ttl = Ttl::from_secs(3600);

    /// Has the three methods and no ability.
    #[derive(Debug)]
    struct Plain(MemoryStore);

    #[async_trait]
    impl Store for Plain {
        async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
            self.0.get(key).await
        }
        async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
            self.0.set(key, value, ttl).await
        }
        async fn destroy(&self, key: &Key) -> Result<bool> {
            self.0.destroy(key).await
        }
        fn status(&self) -> StatusStream {
            cloakroom_core::StatusSender::connecting().subscribe()
        }
    }

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().unwrap()
    }

    fn blocking<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(future)
    }

    fn under(store: &MemoryStore, prefix: &str) -> Prefixed<MemoryStore> {
        Prefixed::new(store.clone(), prefix).unwrap()
    }

    #[test]
    fn no_two_prefixes_share_a_key() {
        let prefixes = ["a", "ab", "a:", "a:b", "a%3A", "a%", ":", "*", "a*"];
        let keys = ["k", "bk", ":k", "b:k", "3A:k", "%3A:k", "*", "a:k"];
        let store = MemoryStore::new();
        let views: Vec<_> = prefixes.iter().map(|prefix| under(&store, prefix)).collect();
        let mut inner = HashSet::new();
        for view in &views {
            for text in keys {
                assert!(inner.insert(view.inner_key(&key(text)).unwrap()));
                assert!(now(view.create(&key(text), text.into(), HOUR)).unwrap());
            }
        }
        for (cleared, view) in views.iter().enumerate() {
            let seen: HashSet<Key> = blocking(view.scan().try_collect()).unwrap();
            assert_eq!(seen, keys.iter().map(|text| key(text)).collect());
            assert_eq!(blocking(view.len()).unwrap(), keys.len() as u64);
            assert_eq!(blocking(view.clear()).unwrap(), keys.len() as u64);
            let left = (views.len() - 1 - cleared) * keys.len();
            assert_eq!(blocking(store.len()).unwrap(), left as u64);
        }
    }

    #[test]
    fn no_two_prefixes_share_a_user_however_long() {
        let store = MemoryStore::new();
        let long = "u".repeat(255);
        let users = ["x", "bx", "=x", "#x", ":=x", &long, &long[1..], &long[100..]];
        let long_prefix = "p".repeat(126);
        let mut names = HashSet::new();
        for prefix in ["a", "ab", "a:", "a:=", &long_prefix] {
            for user in users {
                let name = under(&store, prefix).inner_user(user);
                assert!(name.len() <= 255 && names.insert(name));
            }
        }
    }

    #[test]
    fn a_user_is_logged_out_under_one_prefix_only() {
        let store = MemoryStore::new();
        let (shop, blog) = (under(&store, "a"), under(&store, "ab"));
        let long = "u".repeat(255);
        for user in ["ann", &long] {
            for view in [&shop, &blog] {
                for text in ["k1", "k2"] {
                    now(view.set(&key(text), "v".into(), HOUR)).unwrap();
                    now(view.bind(&key(text), user, HOUR)).unwrap();
                }
            }
            assert_eq!(now(shop.keys_of(user)).unwrap(), [key("k1"), key("k2")]);
            assert_eq!(now(shop.destroy_user(user, Some(&key("k2")))).unwrap(), 1);
            assert_eq!(now(shop.keys_of(user)).unwrap(), [key("k2")]);
            assert_eq!(now(blog.keys_of(user)).unwrap().len(), 2);
        }
        for user in ["", &"u".repeat(256)] {
            let error = now(shop.bind(&key("k"), user, HOUR)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Value);
        }
    }

    #[test]
    fn a_key_that_grows_too_long_is_a_bad_value_everywhere() {
        let view = under(&MemoryStore::new(), &"p".repeat(126));
        now(view.set(&key(&"k".repeat(128)), "v".into(), HOUR)).unwrap();
        let long = key(&"k".repeat(129));
        for error in [
            now(view.get(&long)).map(drop).unwrap_err(),
            now(view.set(&long, "v".into(), HOUR)).unwrap_err(),
            now(view.destroy(&long)).map(drop).unwrap_err(),
            now(view.create(&long, "v".into(), HOUR)).map(drop).unwrap_err(),
            now(view.touch(&long, HOUR)).map(drop).unwrap_err(),
            now(view.bind(&long, "ann", HOUR)).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Value);
        }
    }

    #[test]
    fn a_bad_prefix_is_an_error_that_names_the_field() {
        let long = "p".repeat(127);
        let longer_as_written = ":".repeat(43);
        for prefix in ["", "a b", "a\n", "ä", &long, &longer_as_written] {
            let error = Prefixed::new(MemoryStore::new(), prefix).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("prefix")));
        }
    }

    #[test]
    fn abilities_and_status_are_those_of_the_inner_store() {
        let able = under(&MemoryStore::new(), "a");
        assert!(able.as_atomic().is_some() && able.as_indexed().is_some() && able.as_admin().is_some());
        let plain = Prefixed::new(Plain(MemoryStore::new()), "a").unwrap();
        assert!(plain.as_atomic().is_none() && plain.as_indexed().is_none() && plain.as_admin().is_none());
        assert_eq!(plain.status().current(), cloakroom_core::Status::Connecting);
        now(plain.set(&key("k"), "v".into(), HOUR)).unwrap();
        for error in [
            now(plain.touch(&key("k"), HOUR)).map(drop).unwrap_err(),
            now(plain.keys_of("ann")).map(drop).unwrap_err(),
            now(plain.len()).map(drop).unwrap_err(),
            blocking(plain.scan().try_collect::<Vec<_>>()).map(drop).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn sweeping_reaches_the_inner_store_and_removes_nothing_live() {
        let store = MemoryStore::new();
        let view = under(&store, "a");
        now(view.set(&key("k"), "v".into(), HOUR)).unwrap();
        assert_eq!(blocking(view.sweep(10)).unwrap(), 0);
        assert!(now(view.get(&key("k"))).unwrap().is_some());
    }
}
