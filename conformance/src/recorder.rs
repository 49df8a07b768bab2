//! A wrapper that notes the keys under which something was created or set.

use std::{collections::BTreeSet, fmt, sync::Arc};

use cloakroom_core::{
    AdminStore, AtomicStore, BoxStream, Bytes, ErrorKind, IndexedStore, Key, Result, StatusStream, Store,
    Swapped, Ttl,
};
use futures_util::{TryStreamExt, stream};
use parking_lot::Mutex;

use crate::operation::{Operation, forward_through_around};

/// Notes the keys that writes were for and hands every call on as it is.
#[derive(Clone)]
pub(crate) struct Recorder<S> {
    inner: Arc<S>,
    keys: Arc<Mutex<BTreeSet<String>>>,
}

impl Recorder<Arc<dyn Store>> {
    pub(crate) fn over(inner: Arc<dyn Store>) -> Self {
        Self { inner: Arc::new(inner), keys: Arc::default() }
    }

    /// The keys that something was created or set under.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.keys.lock().iter().filter_map(|key| Key::new(key).ok()).collect()
    }
}

impl<S: Store> Recorder<S> {
    fn inner(&self) -> &S {
        &self.inner
    }

    fn outer_status(&self) -> StatusStream {
        self.inner.status()
    }

    async fn around<T>(
        &self,
        operation: Operation,
        key: Option<&Key>,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if let (Operation::Create | Operation::Set, Some(key)) = (operation, key) {
            self.keys.lock().insert(key.as_str().to_owned());
        }
        call.await
    }
}

forward_through_around!(Recorder);

impl<S: Store> fmt::Debug for Recorder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("inner", &self.inner).finish_non_exhaustive()
    }
}
