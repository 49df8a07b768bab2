//! The configuration: one builder for every adapter.

use std::{any::TypeId, fmt, marker::PhantomData, sync::Arc, time::Duration, time::SystemTime};

use crate::{
    cookie::CookieConfig,
    engine::Engine,
    error::{Error, Result},
    expiry::Expiry,
    gate::OnOutage,
    hooks::{Hooks, OwnedHead},
    ids::IdSource,
    keyring::Keyring,
    migrate::Origin,
    no_store::NoStore,
    profile::Profile,
    record::Millis,
    session::Session,
    store::Store,
    transport::Transport,
};

mod check;
mod settings;

pub(crate) use self::{check::storeless, settings::Settings};

pub(crate) type ClockFn = dyn Fn() -> SystemTime + Send + Sync;

/// Configures sessions: `SessionLayer::new(store)` or [`Engine::builder`], then any of these, then
/// [`build`](Self::build).
///
/// ```
/// use std::time::Duration;
/// use cloakroom_core::{CookieConfig, Engine, Expiry};
/// # use cloakroom_core::{Bytes, Key, Result, Store, Ttl, async_trait};
/// # #[derive(Debug)] struct Nowhere;
/// # #[async_trait] impl Store for Nowhere {
/// #     async fn get(&self, _: &Key) -> Result<Option<Bytes>> { Ok(None) }
/// #     async fn set(&self, _: &Key, _: Bytes, _: Ttl) -> Result<()> { Ok(()) }
/// #     async fn destroy(&self, _: &Key) -> Result<bool> { Ok(false) }
/// # }
/// # let store = Nowhere;
/// let engine = Engine::builder(store)
///     .cookie(CookieConfig::new().name("__Host-shop"))
///     .expiry(Expiry::idle(Duration::from_secs(1800)).absolute(Duration::from_secs(12 * 3600)))
///     .build()?;
/// # let _ = engine;
/// # Ok::<(), cloakroom_core::Error>(())
/// ```
#[must_use = "a builder does nothing until build() is called"]
pub struct Builder<A = Engine> {
    store: Arc<dyn Store>,
    /// The store is there for form's sake: see [`NoStore`].
    storeless: bool,
    profile: Profile,
    origin: Option<Origin>,
    cookie: Option<CookieConfig>,
    insecure: bool,
    transport: Option<Box<dyn Transport>>,
    ids: Option<Result<IdSource>>,
    hooks: Hooks,
    keys: Option<Keyring>,
    #[cfg(feature = "encrypt")]
    encrypt: Option<Keyring>,
    expiry: Expiry,
    rolling: bool,
    allow_empty: bool,
    save_on_server_error: bool,
    require_strict: bool,
    operation_timeout: Duration,
    reconnect_timeout: Duration,
    max_waiters: usize,
    on_outage: OnOutage,
    max_record: usize,
    clock: Arc<ClockFn>,
    adapter: PhantomData<fn() -> A>,
}

impl<A: From<Engine>> Builder<A> {
    pub(crate) fn new<S: Store>(store: S) -> Self {
        Self {
            store: Arc::new(store),
            storeless: TypeId::of::<S>() == TypeId::of::<NoStore>(),
            profile: Profile::native(),
            origin: None,
            cookie: None,
            insecure: false,
            transport: None,
            ids: None,
            hooks: Hooks::default(),
            keys: None,
            #[cfg(feature = "encrypt")]
            encrypt: None,
            expiry: Expiry::default(),
            rolling: false,
            allow_empty: false,
            save_on_server_error: true,
            require_strict: false,
            operation_timeout: Duration::from_secs(2),
            reconnect_timeout: Duration::from_secs(10),
            max_waiters: 1024,
            on_outage: OnOutage::Fail,
            max_record: 1024 * 1024,
            clock: Arc::new(SystemTime::now),
            adapter: PhantomData,
        }
    }

    /// Sets the cookie's name and attributes. The default is `__Host-sid`, `Secure; HttpOnly; SameSite=Lax; Path=/`.
    pub fn cookie(mut self, cookie: CookieConfig) -> Self {
        self.cookie = Some(cookie);
        self
    }

    /// Sets the wire format: cookie, keys and records. The default is [`Profile::native`].
    ///
    /// A format that is not our own is shared with other programs, so some options have no place in it, and are errors
    /// of [`build`](Self::build) together with it: [`keys`](Self::keys), since the profile has keys of its own;
    /// `encrypt`, since the others could not read it; and an absolute end ([`Expiry::absolute`]), which their records
    /// cannot hold. [`cookie`](Self::cookie) takes the place of the format's own cookie: begin with
    /// [`Profile::default_cookie`].
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Takes over the sessions of another format and its store, one by one, as their visitors come: for the time after
    /// the program that wrote them is gone.
    ///
    /// A ticket of the old format opens its session as any other would. With the first request that loads it, the
    /// session is stored anew, in this layer's own store and under a new id; then the old record is removed, as it was
    /// read, and the browser is sent the new cookie and the removal of the old one. Of two such requests at once one
    /// wins, and the other's changes are dropped: its visitor is logged in by the answer to the first. One that begins
    /// later with the old ticket, within 60 seconds, is anonymous, cannot write, and sends no cookie, as after
    /// [`cycle_id`](crate::Session::cycle_id). A request that saves nothing ([`Save::Never`](crate::Save::Never)) moves
    /// nothing.
    ///
    /// Of an old row the data comes along, and the end if it names a date; its cookie's options and its `maxAge` do not:
    /// the session lives as this layer is configured.
    ///
    /// An old ticket that leads to no session costs a look into both stores, and is taken back with the first cookie of a
    /// new one. Each move leaves a note in this layer's own store for those 60 seconds; [`AdminStore`](crate::AdminStore)
    /// lists and counts it as a value.
    ///
    /// The two cookies must have different names. Those of the old one are the format's own; where the old program had
    /// others, tell them by [`Profile::with_cookie`]. While the old program still runs, both use its format instead
    /// ([`profile`](Self::profile)): it cannot read ours. Take this call out after the longest life of a session.
    ///
    /// # Risk
    /// A session that is held in the cookie (`Profile::koa_session`) leaves no record behind that could be removed: its old
    /// cookie opens a session as often as it is shown, until it ends by itself, and also after the logout from a session
    /// that was made of it. Keep such a migration short, or change the old secrets to end it.
    ///
    /// ```
    /// use cloakroom_core::{Engine, Profile};
    /// # use cloakroom_core::{Bytes, Key, Result, Store, Ttl, async_trait};
    /// # #[derive(Debug)] struct Nowhere;
    /// # #[async_trait] impl Store for Nowhere {
    /// #     async fn get(&self, _: &Key) -> Result<Option<Bytes>> { Ok(None) }
    /// #     async fn set(&self, _: &Key, _: Bytes, _: Ttl) -> Result<()> { Ok(()) }
    /// #     async fn destroy(&self, _: &Key) -> Result<bool> { Ok(false) }
    /// # }
    /// # let (store, old_store) = (Nowhere, Nowhere);
    /// # #[cfg(feature = "node")]
    /// let engine = Engine::builder(store).migrate_from(Profile::koa(["app.keys[0]"]), old_store).build()?;
    /// # Ok::<(), cloakroom_core::Error>(())
    /// ```
    pub fn migrate_from<S: Store>(mut self, profile: Profile, store: S) -> Self {
        self.origin = Some(Origin::new(profile, store));
        self
    }

    /// Allows plain http, for development: drops the cookie's `__Host-` or `__Secure-` prefix and `Secure` together.
    ///
    /// # Risk
    /// Whoever can listen to the network can take over every session. Chromium, Firefox and curl treat `localhost` and
    /// `127.0.0.1` as secure, so that most development does not need this; other clients and other host names do.
    pub fn insecure(mut self) -> Self {
        self.insecure = true;
        self
    }

    /// Lets ids travel otherwise than in a cookie. The cookie's configuration is then without effect.
    ///
    /// # Risk
    /// What a script has to read and send by itself, a script injected into a page can read and send elsewhere.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Box::new(transport));
        self
    }

    /// Makes ids by a function of your own: `length` characters, 64 at most, out of `alphabet`.
    ///
    /// Both are declared, so that anything else a client presents is refused without a look into the store. Together
    /// they must allow 128 bits (OWASP ASVS 5.0, 7.2.3). The function must draw from a cryptographic random source.
    ///
    /// # Risk
    /// Whoever can guess an id has its session. The built-in source gives 256 bits.
    pub fn generate_id<F, R>(mut self, alphabet: &str, length: usize, generate: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<String>> + Send + 'static,
    {
        self.ids = Some(IdSource::custom(alphabet, length, Arc::new(move || Box::pin(generate()))));
        self
    }

    /// Signs the cookie: the newest key signs, all verify, and a ticket signed by an older one is issued anew.
    ///
    /// Not needed for security: an unsigned id is 256 random bits. It spares the store look-ups of forged ids.
    pub fn keys(mut self, keys: Keyring) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Encrypts what is stored: the newest key encrypts, all decrypt, and a record under an older key is encrypted
    /// under the newest when it is next written. Off by default.
    ///
    /// Whoever reads the store, a replica or a backup sees of a session its key (a hash of the id), how long the
    /// record is, when it was written and when it ends, and nothing of its data. A record that was altered in any bit,
    /// or copied to another key, is refused. The cipher is XChaCha20-Poly1305 with a random 192-bit nonce for each
    /// write and the store key as associated data.
    ///
    /// A record that cannot be decrypted is [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt), like any that cannot
    /// be read: the visitor is anonymous, writes are refused until `destroy` gives them a new session, and the bytes
    /// stay as they are. A record in plaintext is one of those, and without this option an encrypted one is. There is
    /// no way in between, so change over with an empty store or another prefix of its keys: sessions that live at
    /// that moment end. Take an old key out only after the longest life of a session.
    ///
    /// Each write costs one call for random bytes and 52 bytes of the record, which count against
    /// [`max_record`](Self::max_record).
    ///
    /// The buffers that records are decrypted into and encrypted from are wiped when they are dropped, the keys with
    /// the engine. Not wiped is what was taken out of them or is on its way into them, such as the values that a
    /// handler reads and writes, and the user: that is ordinary memory.
    ///
    /// # Risk
    /// - Whoever can **write** to the store can put an old record back under the same key: that is not detected.
    ///   It brings back data that was changed or removed, and a session that was logged out, for who has its cookie.
    ///   They can delete sessions as well.
    /// - The user of `bind_user` is in the record, encrypted, and in the store's index by user, in plaintext: the
    ///   store has to look it up. Bind an opaque number where names must not be seen.
    /// - Ids are not what this protects: a cookie that was stolen works as before.
    /// - Two applications with one ring and one store can be fed each other's records, under the same key. Give each
    ///   application a ring of its own. The ring of [`keys`](Self::keys) may be used: keys differ by purpose.
    ///
    /// ```
    /// # use cloakroom_core::{Bytes, Engine, Key, Keyring, Result, Store, Ttl, async_trait};
    /// # #[derive(Debug)] struct Nowhere;
    /// # #[async_trait] impl Store for Nowhere {
    /// #     async fn get(&self, _: &Key) -> Result<Option<Bytes>> { Ok(None) }
    /// #     async fn set(&self, _: &Key, _: Bytes, _: Ttl) -> Result<()> { Ok(()) }
    /// #     async fn destroy(&self, _: &Key) -> Result<bool> { Ok(false) }
    /// # }
    /// # let store = Nowhere;
    /// let secrets = ["the new secret: 32 bytes or more, random", "the old secret: 32 bytes or more, random"];
    /// let engine = Engine::builder(store).encrypt(Keyring::new(secrets)).build()?;
    /// # let _ = engine;
    /// # Ok::<(), cloakroom_core::Error>(())
    /// ```
    #[cfg(feature = "encrypt")]
    pub fn encrypt(mut self, keys: Keyring) -> Self {
        self.encrypt = Some(keys);
        self
    }

    /// Sets how long sessions live. The default is one day of idle time.
    pub fn expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// Renews the session and its cookie on every request that loads it. Each costs one write. Off by default.
    pub fn rolling(mut self, rolling: bool) -> Self {
        self.rolling = rolling;
        self
    }

    /// Stores a session also if nothing was put into it, for each visitor whose handler takes one. Off by default.
    ///
    /// # Risk
    /// Anybody can fill the store with empty sessions, one a request.
    pub fn allow_empty(mut self, allow_empty: bool) -> Self {
        self.allow_empty = allow_empty;
        self
    }

    /// Saves also if the response is a server error (5xx). On by default.
    pub fn save_on_server_error(mut self, save: bool) -> Self {
        self.save_on_server_error = save;
        self
    }

    /// Makes `build` fail on a store that cannot compare and swap.
    pub fn require_strict(mut self) -> Self {
        self.require_strict = true;
        self
    }

    /// Sets the deadline of each store operation. The default is 2 seconds.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// Sets how long an outage of the store may last before requests fail at once. The default is 10 seconds.
    ///
    /// Until then requests that use their session wait for the store to come back. Zero: nobody waits. The time is
    /// counted from the beginning of each outage.
    pub fn reconnect_timeout(mut self, timeout: Duration) -> Self {
        self.reconnect_timeout = timeout;
        self
    }

    /// Sets how many requests may wait for the store at one time; more fail at once. The default is 1,024.
    pub fn max_waiters(mut self, waiters: usize) -> Self {
        self.max_waiters = waiters;
        self
    }

    /// Sets what a request gets whose session cannot be loaded because the store is down. The default is an error.
    ///
    /// A session that cannot be *saved* is an error in any case: the handler has been told that its writes are taken.
    pub fn on_outage(mut self, policy: OnOutage) -> Self {
        self.on_outage = policy;
        self
    }

    /// Sets a check of each loaded session: `false` makes the request anonymous, with a new id at the first write.
    ///
    /// The record stays. An error is a failed load. For binding a session to a device, ending all sessions before a
    /// date, and the like.
    pub fn validate<F, R>(mut self, check: F) -> Self
    where
        F: Fn(Arc<OwnedHead>, Session) -> R + Send + Sync + 'static,
        R: Future<Output = Result<bool>> + Send + 'static,
    {
        self.hooks.validate = Some(Arc::new(move |head, session| Box::pin(check(head, session))));
        self
    }

    /// Sets what is done to each session right before it is written. Its changes are part of that write.
    ///
    /// Runs again on the result of each replay. It may read and write the session it is given, but not commit it. A
    /// renewal, which changes no data, does not count as a save. An error is a failed save.
    pub fn before_save<F, R>(mut self, change: F) -> Self
    where
        F: Fn(Arc<OwnedHead>, Session) -> R + Send + Sync + 'static,
        R: Future<Output = Result<()>> + Send + 'static,
    {
        self.hooks.before_save = Some(Arc::new(move |head, session| Box::pin(change(head, session))));
        self
    }

    /// Sets what is asked when a session cannot be loaded, or not be saved at the end of a request.
    ///
    /// `Ok(())` lets the request go on: after a failed load with an empty session that refuses writes, so that nobody
    /// is logged out; after a failed save with the handler's answer and without a cookie. `Err` is what the request
    /// gets instead, unless the handler has answered with a server error: that answer stands. An explicit `save` or
    /// `update_now` hands its error to its caller and asks nobody.
    ///
    /// Of the three that have a say, [`on_outage`](Self::on_outage) is asked first, for outages alone; then this; and
    /// the tower layer's `on_error` makes the response for what is still an error after both.
    pub fn recover<F, R>(mut self, recover: F) -> Self
    where
        F: Fn(Error, Arc<OwnedHead>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<()>> + Send + 'static,
    {
        self.hooks.recover = Some(Arc::new(move |error, head| Box::pin(recover(error, head))));
        self
    }

    /// Sets the idle time by a function of the session, asked at every save but a mere renewal. `None` leaves it as it
    /// is.
    pub fn idle_by(mut self, idle: impl Fn(&Session) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.hooks.idle_by = Some(Arc::new(idle));
        self
    }

    /// Sets the size of the largest record as it is stored, in bytes, from 1,024. The default is 1 MiB.
    pub fn max_record(mut self, bytes: usize) -> Self {
        self.max_record = bytes;
        self
    }

    /// Replaces the wall clock that idle times and absolute ends go by, for tests.
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Checks everything and builds the layer or engine.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for the first mistake: [`Error::field`] names it, the message
    /// says what to write instead. [`ErrorKind::Backend`](crate::ErrorKind::Backend) when the operating system has
    /// no random bytes.
    pub fn build(self) -> Result<A> {
        self.settings().map(|settings| A::from(Engine::new(settings)))
    }
}

impl<A> fmt::Debug for Builder<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Builder");
        debug
            .field("store", &self.store)
            .field("profile", &self.profile)
            .field("cookie", &self.cookie)
            .field("insecure", &self.insecure)
            .field("keys", &self.keys);
        #[cfg(feature = "encrypt")]
        debug.field("encrypt", &self.encrypt);
        debug.field("expiry", &self.expiry).finish_non_exhaustive()
    }
}

/// Returns a time as milliseconds since the Unix epoch; a time before that as zero.
pub(crate) fn millis_of(time: SystemTime) -> Millis {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_secs().saturating_mul(1000).saturating_add(since_epoch.subsec_millis().into())
}
