//! What a case gives the store author to open a store with: an address, a namespace, a slot to share.

use std::{
    any::{Any, TypeId},
    collections::{HashMap, hash_map::RandomState},
    fmt,
    hash::{BuildHasher, Hash, Hasher},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use parking_lot::Mutex;

/// The place one case works in. Every case gets its own.
///
/// The `open` closure may be called several times with clones of one `Env`: each call makes an independent handle
/// onto the **same** data. A store that talks to a server connects anew to [`url`](Self::url) with the same
/// [`namespace`](Self::namespace). A store inside the process has nothing to connect to: its handles are clones of
/// one instance, which [`shared`](Self::shared) keeps:
///
/// ```
/// use cloakroom_conformance::{Env, Reference};
///
/// let open = |env: Env| env.shared(Reference::new);   // two calls with one `Env`: two clones of one store
/// ```
#[derive(Clone)]
pub struct Env(Arc<Inner>);

struct Inner {
    url: String,
    namespace: String,
    slots: Slots,
    /// Those of this place and the ones beside it.
    common: Arc<Slots>,
}

/// One instance of each type.
type Slots = Mutex<HashMap<TypeId, Box<dyn Any + Send>>>;

impl Env {
    /// Creates a place with a fresh namespace on the server at `url`; empty for a store inside the process.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self::in_namespace(url.into(), fresh_namespace(), Arc::default())
    }

    fn in_namespace(url: String, namespace: String, common: Arc<Slots>) -> Self {
        Self(Arc::new(Inner { url, namespace, slots: Mutex::default(), common }))
    }

    /// Returns the address of the server, or an empty text for a store inside the process.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Returns a name that no other case, process or machine has used.
    ///
    /// At most 24 lower-case letters, digits and underscores, a letter first: fit for a table, a schema, a database,
    /// a file or a key prefix. Names of some cases are prefixes of one another, so end a key prefix with a
    /// separator: `format!("{}:", env.namespace())`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// Returns a clone of this case's one instance of `S`, which the first call makes.
    ///
    /// For stores inside the process: two handles of such a store are clones of it.
    pub fn shared<S: Clone + Send + 'static>(&self, make: impl FnOnce() -> S) -> S {
        one_of(&self.0.slots, make)
    }

    /// As [`shared`](Self::shared), but the places beside this one get clones of the same instance.
    ///
    /// Some cases look whether a store touches what is in namespaces with names close to its own. This is the backend
    /// that such stores have in common where it lives inside the process:
    ///
    /// ```
    /// # use cloakroom_conformance::{Env, Reference};
    /// # use cloakroom_core::{Error, Store};
    /// # struct Prefixed;
    /// # impl Prefixed { fn new(_: Reference, _: String) -> Result<Self, Error> { Ok(Self) } }
    /// let open = |env: Env| async move {
    ///     Prefixed::new(env.shared_with_neighbours(Reference::new), format!("{}:", env.namespace()))
    /// };
    /// # let _ = open(Env::new(""));
    /// ```
    pub fn shared_with_neighbours<S: Clone + Send + 'static>(&self, make: impl FnOnce() -> S) -> S {
        one_of(&self.0.common, make)
    }

    /// Returns places beside this one, with names that a sloppy pattern over this one's name would match as well.
    pub(crate) fn neighbours(&self) -> [Self; 2] {
        let beside =
            |namespace| Self::in_namespace(self.0.url.clone(), namespace, Arc::clone(&self.0.common));
        [
            beside(format!("{}1", self.namespace())),
            // In SQL's LIKE an underscore stands for any character.
            beside(self.namespace().replace('_', "x")),
        ]
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the address: it may hold a password.
        f.debug_struct("Env").field("namespace", &self.0.namespace).finish_non_exhaustive()
    }
}

fn one_of<S: Clone + Send + 'static>(slots: &Slots, make: impl FnOnce() -> S) -> S {
    let mut slots = slots.lock();
    let slot = slots.entry(TypeId::of::<S>()).or_insert_with(|| Box::new(None::<S>));
    match slot.downcast_mut::<Option<S>>() {
        Some(instance) => instance.get_or_insert_with(make).clone(),
        // The map is keyed by the type, so the slot always holds it.
        None => make(),
    }
}

/// 64 bits that tell this process from all others, then a counter.
fn fresh_namespace() -> String {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let process = *PROCESS.get_or_init(|| {
        let mut hasher = RandomState::new().build_hasher();
        std::process::id().hash(&mut hasher);
        SystemTime::now().hash(&mut hasher);
        hasher.finish()
    });
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("c{}_{}", base36(process), base36(counter))
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize]));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn namespaces_are_short_fresh_and_fit_for_an_identifier() {
        let names: HashSet<String> = (0..2000).map(|_| Env::new("").namespace().to_owned()).collect();
        assert_eq!(names.len(), 2000);
        for name in names {
            assert!(name.len() <= 24 && name.starts_with('c'), "{name}");
            let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            assert!(name.bytes().all(fits), "{name}");
        }
        assert_eq!(base36(u64::MAX).len(), 13);
    }

    #[test]
    fn clones_share_one_instance_and_other_places_do_not() {
        let env = Env::new("");
        let instance = env.shared(|| Arc::new(1));
        assert!(Arc::ptr_eq(&instance, &env.clone().shared(|| Arc::new(2))));
        assert_eq!(*Env::new("").shared(|| Arc::new(3)), 3);
        let [beside, _] = env.neighbours();
        assert_eq!(*beside.shared(|| Arc::new(4)), 4);
        let common = env.shared_with_neighbours(|| Arc::new(5));
        assert!(Arc::ptr_eq(&common, &beside.shared_with_neighbours(|| Arc::new(6))));
    }

    #[test]
    fn debug_does_not_show_the_address() {
        assert!(!format!("{:?}", Env::new("redis://:secret@host")).contains("secret"));
    }
}
