//! Sessions in the files of a folder: they outlive the process, and several processes of one machine may share them.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use cloakroom_core::{AtomicStore, Bytes, Error, ErrorKind, Key, Result, Store, Swapped, Ttl, async_trait};

/// A store that keeps each session in a file, and its time of expiry in the first eight bytes.
///
/// A file is written beside its place and then moved there, so nobody sees half of one. Whoever writes holds a lock on
/// the folder, so conditions hold until they are acted on, whichever process asks.
#[derive(Clone, Debug)]
pub struct FolderStore {
    folder: PathBuf,
}

impl FolderStore {
    /// Opens a folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] when it cannot be made.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let store = Self { folder: folder.into() };
        fs::create_dir_all(&store.folder).map_err(|error| classify(error).operation("open"))?;
        Ok(store)
    }

    /// Deletes the files of sessions that have expired and returns how many; run it now and then.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] when the folder cannot be read or written.
    pub async fn sweep(&self) -> Result<u64> {
        self.locked("sweep", |store| {
            let mut swept = 0;
            // The files lie in folders of their own, since a key may be longer than a file's name.
            let mut folders = vec![store.folder.clone()];
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(folder)? {
                    let path = entry?.path();
                    if path.is_dir() {
                        folders.push(path);
                    } else if path.extension().is_some_and(|end| end == "session") && live(&path)?.is_none() {
                        fs::remove_file(path)?;
                        swept += 1;
                    }
                }
            }
            Ok(swept)
        })
        .await
    }

    /// Returns where the session under `key` is: in hexadecimal, for some file systems know no capitals.
    fn path(&self, key: &Key) -> PathBuf {
        let mut path = self.folder.clone();
        for part in key.as_bytes().chunks(100) {
            path.push(part.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        }
        path.with_extension("session")
    }

    /// Does blocking work where it holds up nobody. Dropped, the work goes on to its end.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|error| classify(error).operation(operation))
    }

    /// As `blocking`, while nobody else writes.
    async fn locked<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.blocking(operation, |store| {
            let lock = File::create(store.folder.join("lock"))?;
            lock.lock()?;
            work(store)
        })
        .await
    }

    /// Puts a session in its place in one step.
    fn put(&self, key: &Key, value: &[u8], ttl: Ttl) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let beside = self.folder.join(format!("{}-{number}.new", std::process::id()));
        // The millisecond under way is not over yet: without the 1 a value would end a moment early.
        let expires = now().saturating_add(1).saturating_add(ttl.millis());
        fs::write(&beside, [&expires.to_le_bytes(), value].concat())?;
        let path = self.path(key);
        fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        fs::rename(beside, path)
    }

    /// Compares what is there with what is expected; `None` if they are equal.
    fn mismatch(&self, key: &Key, expected: &[u8]) -> io::Result<Option<Swapped>> {
        Ok(match live(&self.path(key))? {
            None => Some(Swapped::Gone),
            Some(current) if current == expected => None,
            Some(current) => Some(Swapped::Conflict(current)),
        })
    }
}

#[async_trait]
impl Store for FolderStore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let key = key.clone();
        self.blocking("get", move |store| live(&store.path(&key))).await
    }

    async fn set(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<()> {
        let key = key.clone();
        self.locked("set", move |store| store.put(&key, &value, ttl)).await
    }

    async fn destroy(&self, key: &Key) -> Result<bool> {
        let key = key.clone();
        self.locked("destroy", move |store| remove(&store.path(&key))).await
    }

    fn as_atomic(&self) -> Option<&dyn AtomicStore> {
        Some(self)
    }
}

#[async_trait]
impl AtomicStore for FolderStore {
    async fn create(&self, key: &Key, value: Bytes, ttl: Ttl) -> Result<bool> {
        let key = key.clone();
        let create = move |store: &Self| {
            let is_free = live(&store.path(&key))?.is_none();
            if is_free {
                store.put(&key, &value, ttl)?;
            }
            Ok(is_free)
        };
        self.locked("create", create).await
    }

    async fn replace(&self, key: &Key, expected: &[u8], value: Bytes, ttl: Ttl) -> Result<Swapped> {
        let (key, expected) = (key.clone(), expected.to_vec());
        let replace = move |store: &Self| match store.mismatch(&key, &expected)? {
            Some(mismatch) => Ok(mismatch),
            None => store.put(&key, &value, ttl).map(|()| Swapped::Done),
        };
        self.locked("replace", replace).await
    }

    async fn remove(&self, key: &Key, expected: &[u8]) -> Result<Swapped> {
        let (key, expected) = (key.clone(), expected.to_vec());
        let remove = move |store: &Self| match store.mismatch(&key, &expected)? {
            Some(mismatch) => Ok(mismatch),
            None => remove(&store.path(&key)).map(|_| Swapped::Done),
        };
        self.locked("remove", remove).await
    }

    async fn touch(&self, key: &Key, ttl: Ttl) -> Result<bool> {
        let key = key.clone();
        let touch = move |store: &Self| match live(&store.path(&key))? {
            Some(value) => store.put(&key, &value, ttl).map(|()| true),
            None => Ok(false),
        };
        self.locked("touch", touch).await
    }
}

/// Reads the value of a file, if it is there and has not expired.
fn live(path: &std::path::Path) -> io::Result<Option<Bytes>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => Bytes::from(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some((expires, value)) = bytes.split_first_chunk() else {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    };
    Ok((u64::from_le_bytes(*expires) > now()).then(|| bytes.slice_ref(value)))
}

/// Deletes a file; `true` if its session was live.
fn remove(path: &std::path::Path) -> io::Result<bool> {
    let was_live = live(path)?.is_some();
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(was_live),
    }
}

/// Returns the time in milliseconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The one place where errors become Cloakroom's: they name no path, for a path holds a key.
fn classify(error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Rejected,
        io::ErrorKind::FileTooLarge => ErrorKind::TooLarge,
        io::ErrorKind::InvalidData => ErrorKind::Corrupt,
        _ => ErrorKind::Backend,
    };
    Error::new(kind).store("folder").with_source(error)
}
