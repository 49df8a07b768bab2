//! The way of a request: begin, load, finish. Knows `http` types and no framework.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::{
    commit::{Trigger, commit},
    config::{Builder, Settings},
    cookie::{self, Candidates, Outgoing, Rejection},
    error::{Error, ErrorKind, Result},
    event,
    gate::Fallback,
    handle::{Access, Handle, Refusal, State, Stored},
    headers::HeaderEdits,
    hooks::{OwnedHead, SessionHook},
    id::Key,
    migrate::Home,
    plan::{Plan, Ticket, decide},
    record::Decoded,
    session::{LazySession, Session},
    store::{Guarantee, Store},
};

/// What the engine looks at of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's target; its path decides whether there is a session at all.
    pub uri: &'a Uri,
    /// The request's headers, the `Cookie` header among them.
    pub headers: &'a HeaderMap,
}

/// Sessions for one application, whatever its framework.
///
/// An adapter calls [`begin`](Self::begin) with the request, hands the [`LazySession`] to the handler, calls
/// [`finish`](Self::finish) with the response's status, awaits what it returns, and applies the header edits:
///
/// ```
/// # use cloakroom_core::{Bytes, Engine, Key, RequestHead, Result, Store, Ttl, async_trait};
/// # #[derive(Debug)] struct Nowhere;
/// # #[async_trait] impl Store for Nowhere {
/// #     async fn get(&self, _: &Key) -> Result<Option<Bytes>> { Ok(None) }
/// #     async fn set(&self, _: &Key, _: Bytes, _: Ttl) -> Result<()> { Ok(()) }
/// #     async fn destroy(&self, _: &Key) -> Result<bool> { Ok(false) }
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let engine = Engine::builder(Nowhere).build()?;
/// # let (parts, ()) = http::Request::new(()).into_parts();
/// let lazy = engine.begin(&RequestHead { method: &parts.method, uri: &parts.uri, headers: &parts.headers });
/// let mut response = http::Response::new("the handler's answer");       // the handler may load `lazy`
/// if let Some(commit) = engine.finish(&lazy, response.status()) {
///     commit.await?.apply(response.headers_mut());
/// }
/// # Ok::<(), cloakroom_core::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Engine(Arc<Settings>);

impl Engine {
    /// Starts to configure an engine over `store`.
    pub fn builder(store: impl Store) -> Builder<Self> {
        Builder::new(store)
    }

    pub(crate) fn new(settings: Settings) -> Self {
        Self(Arc::new(settings))
    }

    /// Begins a request: looks for tickets in its headers. No I/O, no waiting, and one allocation
    /// unless it carries several.
    #[must_use]
    pub fn begin(&self, head: &RequestHead<'_>) -> LazySession {
        let in_scope = self.0.carrier.covers(head.uri.path());
        let candidates = if in_scope { self.0.carrier.read(head) } else { Candidates::default() };
        let kept =
            self.0.hooks.want_head().then(|| Arc::new(OwnedHead::copy(head.method, head.uri, head.headers)));
        let old = self.0.old.as_ref().filter(|_| in_scope);
        let old = old.map(|old| Box::new(old.carrier.read(head))).filter(|old| old.len() > 0);
        LazySession(Arc::new(Handle::new(Arc::clone(&self.0), in_scope, candidates, old, kept)))
    }

    /// Ends a request: decides what its session needs. `None` if the session was never loaded.
    ///
    /// From here on the session refuses writes with [`ErrorKind::Committed`]. Await the [`Commit`] before the
    /// response is sent, since it says which headers the response must carry.
    pub fn finish(&self, session: &LazySession, status: StatusCode) -> Option<Commit> {
        finish(&session.0, status)
    }

    pub(crate) const fn settings(&self) -> &Arc<Settings> {
        &self.0
    }

    /// Returns what the store can promise to parallel requests.
    #[must_use]
    pub fn guarantee(&self) -> Guarantee {
        self.0.guarantee
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        self.0.backend.store()
    }

    /// Waits until the commits under way have ended, at most for `deadline`. Call it after the server has stopped.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when some have not ended by then. They go on as long as the runtime does.
    pub async fn shutdown(&self, deadline: Duration) -> Result<()> {
        self.0.tasks.close();
        tokio::time::timeout(deadline, self.0.tasks.wait()).await.map_err(|_| {
            Error::new(ErrorKind::Timeout)
                .operation("shutdown")
                .hint("some commits have not ended by the deadline")
        })
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Engine").field(&self.0).finish()
    }
}

/// Ends a request: see [`Engine::finish`].
pub(crate) fn finish(handle: &Arc<Handle>, status: StatusCode) -> Option<Commit> {
    let server_error = status.is_server_error();
    let mut state = handle.lock();
    // Also for a session that is only loaded later, by a task or a body that is still being streamed.
    state.closed = true;
    if !handle.loading.initialized() {
        return None;
    }
    let (plan, ticket) = decide(&state.facts(&handle.settings, || handle.settings.now(), server_error));
    // A commit that a clone of the session is waiting for may owe the browser a cookie: wait for it as well.
    let busy = handle.committing.available_permits() == 0;
    if matches!(plan, Plan::Nothing | Plan::Forget) && !busy && state.failure.is_none() {
        state.owe(ticket);
        return Some(Commit(Inner::Ready(Some(edits(&handle.settings, &state)))));
    }
    drop(state);
    let handle = Arc::clone(handle);
    Some(Commit(Inner::Writing(Box::pin(async move {
        match commit(&handle, Trigger::Response { server_error }).await {
            Ok(()) => {}
            // The changes are dropped and the browser hears nothing: the handler's answer stands.
            Err(error) if error.kind() == ErrorKind::Gone => {}
            // An application that recovers has its handler's answer sent, without a cookie.
            Err(error) => {
                event::save_failed(&error);
                let decided = recover(&handle, error).await;
                // The handler's own error wins: it is what the visitor asked for, and the save that failed is in the log.
                if !server_error {
                    decided?;
                }
                let mut edits = HeaderEdits::default();
                vary(&handle.settings, &mut edits);
                return Ok(edits);
            }
        }
        Ok(edits(&handle.settings, &handle.lock()))
    }))))
}

/// Makes the header edits for a session as it stands.
fn edits(settings: &Settings, state: &State) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    vary(settings, &mut edits);
    match (state.ticket, &state.access) {
        (Ticket::Send, Access::Stored(stored)) => {
            let now = settings.now();
            if let Some(left) = settings.expiry.left(&state.record.meta, now) {
                let ticket = Outgoing {
                    id: &stored.id,
                    record: &stored.bytes,
                    lives: left,
                    now,
                    options: state.record.meta.cookie.as_ref(),
                    extra: state.record.meta.extra.as_deref(),
                };
                settings.carrier.send(&ticket, &mut edits);
                take_back_old(settings, state, &mut edits);
            }
        }
        (Ticket::TakeBack, Access::Fresh) => {
            settings.carrier.take_back(state.taken_back.as_ref(), &mut edits);
            take_back_old(settings, state, &mut edits);
        }
        (_, Access::Fresh) => {
            if let Some(why) = state.rejected {
                settings.carrier.refuse(why, &mut edits);
            }
        }
        _ => {}
    }
    edits
}

/// Says which headers of the request the session was looked for in.
fn vary(settings: &Settings, edits: &mut HeaderEdits) {
    settings.carrier.vary(edits);
    if let Some(old) = &settings.old {
        old.carrier.vary(edits);
    }
}

/// Takes back the ticket of the old format, once its session has moved or ended, or another one takes its place.
///
/// No answer of ours ever sets it, so none that comes late can take away what another has sent.
fn take_back_old(settings: &Settings, state: &State, edits: &mut HeaderEdits) {
    if let Some(old) = settings.old.as_ref().filter(|_| state.old_ticket) {
        old.carrier.take_back(None, edits);
    }
}

/// Loads the session of a request, once.
///
/// # Errors
/// [`ErrorKind::Unsupported`] outside the cookie's path, and whatever the store's `get` answers: a failed load is an
/// error and never "no session".
pub(crate) async fn load(handle: &Arc<Handle>) -> Result<()> {
    if !handle.in_scope {
        return Err(Error::new(ErrorKind::Unsupported).operation("load").hint(
            "this request is outside the session cookie's path; take Option<Session> to allow for that",
        ));
    }
    handle.loading.get_or_try_init(|| load_or_fall_back(handle)).await.copied()
}

/// Loads; if that fails, asks the outage policy and the application whether the request may go on without.
async fn load_or_fall_back(handle: &Arc<Handle>) -> Result<()> {
    let Err(error) = load_once(handle).await else { return Ok(()) };
    if error.kind().is_outage() {
        event::outage(&error);
        if handle.settings.on_outage.fallback(&error) == Fallback::Anonymous {
            handle.lock().refuse(Refusal::Outage, handle.blank());
            return Ok(());
        }
    }
    let refusal = if error.kind().is_outage() { Refusal::Outage } else { Refusal::Unloaded };
    recover(handle, error).await?;
    handle.lock().refuse(refusal, handle.blank());
    Ok(())
}

/// Asks the application what becomes of a request whose session failed.
///
/// # Errors
/// What the application answers; without a hook the error itself.
async fn recover(handle: &Handle, error: Error) -> Result<()> {
    match &handle.settings.hooks.recover {
        Some(recover) => recover(error, handle.head.clone().unwrap_or_default()).await,
        None => Err(error),
    }
}

async fn load_once(handle: &Arc<Handle>) -> Result<()> {
    let settings = &handle.settings;
    settings.gate.ready().await?;
    if handle.candidates.hostile() {
        event::hostile_cookie();
    }
    let mut refusal = None;
    for at in 0..handle.candidates.len() {
        if try_ticket(handle, Home::Own, at, &mut refusal).await? {
            return Ok(());
        }
    }
    let old = handle.old_candidates.as_ref().map_or(0, |old| old.len());
    for at in 0..old {
        if refusal.is_none() && Box::pin(try_ticket(handle, Home::Old, at, &mut refusal)).await? {
            return Ok(());
        }
    }
    let blank = handle.blank();
    match refusal {
        Some(refusal) => handle.lock().refuse(refusal, blank),
        None => handle.lock().start_over(blank),
    }
    Ok(())
}

/// What a candidate leads to.
enum Outcome {
    /// The session is installed.
    Session,
    Nothing,
    Refused(Refusal),
}

/// What is known of a candidate once it has been looked up.
enum Led<'h> {
    To(Outcome),
    /// Somebody has a say: the application, or whoever moved the session. Boxed, as that is rare.
    Asks(Pin<Box<dyn Future<Output = Result<Outcome>> + Send + 'h>>),
}

/// Looks up one candidate, and installs the session it leads to; `false` if it leads to none.
async fn try_ticket(
    handle: &Arc<Handle>,
    home: Home,
    at: usize,
    refusal: &mut Option<Refusal>,
) -> Result<bool> {
    // In a block of its own, and decoded in a plain function: what it takes is not kept in every request's future while
    // somebody is asked.
    let led = {
        let Some((mut ticket, key)) = verify(handle, home, at)? else { return Ok(false) };
        let found = match ticket.record.take() {
            Some(bytes) => Ok(Some(bytes)),
            None => handle.settings.backend_of(home).get(&key).await,
        };
        open(handle, home, ticket, key, found)?
    };
    let outcome = match led {
        Led::To(outcome) => outcome,
        Led::Asks(answer) => answer.await?,
    };
    if let Outcome::Refused(why) = outcome
        && (refusal.is_none() || why == Refusal::Moved)
    {
        *refusal = Some(why);
    }
    Ok(matches!(outcome, Outcome::Session))
}

/// Reads one candidate, and makes the key it is looked up under; `None` if it is none of ours.
fn verify(handle: &Handle, home: Home, at: usize) -> Result<Option<(cookie::Ticket, Key)>> {
    let settings = &handle.settings;
    let (carrier, wire, candidates) = match (home, &settings.old, &handle.old_candidates) {
        (Home::Old, Some(old), Some(candidates)) => (&old.carrier, &old.wire, &**candidates),
        _ => (&settings.carrier, &settings.profile, &handle.candidates),
    };
    let why = match carrier.verify(candidates, at) {
        Ok(ticket) => {
            let key = wire.keys.key(&ticket.id)?;
            if home == Home::Old {
                handle.lock().old_ticket = true;
            }
            return Ok(Some((ticket, key)));
        }
        Err(why) => why,
    };
    match why {
        Rejection::Strange => event::strange_cookie(),
        Rejection::Forged | Rejection::Invalid => event::hostile_cookie(),
    }
    if home == Home::Own {
        handle.lock().rejected = Some(why);
    }
    Ok(None)
}

/// Installs what was found under a candidate's key, if it is a session.
///
/// # Errors
/// That of the store, unless it says that what is there cannot be read.
fn open(
    handle: &Arc<Handle>,
    home: Home,
    ticket: cookie::Ticket,
    key: Key,
    found: Result<Option<Bytes>>,
) -> Result<Led<'_>> {
    let settings = &handle.settings;
    let bytes = match found {
        Ok(Some(bytes)) => bytes,
        Ok(None) if home == Home::Old => return Ok(Led::Asks(Box::pin(look_for_note(settings, key)))),
        Ok(None) => {
            event::unknown(&key);
            return Ok(Led::To(Outcome::Nothing));
        }
        Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(Led::To(unreadable(&key, &error))),
        Err(error) => return Err(error),
    };
    let stored = Stored { id: ticket.id, key, bytes, home };
    let outcome = match settings.decode(&stored, &stored.bytes) {
        Ok(Decoded::Session(record)) if over(settings, record.meta.deadline) => {
            event::unknown(&stored.key);
            Outcome::Nothing
        }
        Ok(Decoded::Session(record)) => {
            let check = settings.hooks.validate.as_ref().map(|validate| (validate, stored.key.clone()));
            {
                let mut state = handle.lock();
                state.install(stored, record);
                // What is to move is signed anew when it has moved: its id is not for our cookie.
                state.old_signature = ticket.reissue && home == Home::Own;
            }
            if let Some((validate, key)) = check {
                return Ok(Led::Asks(Box::pin(check_validity(handle, validate, key))));
            }
            Outcome::Session
        }
        Ok(Decoded::Tombstone) => {
            event::moved(&stored.key);
            Outcome::Refused(Refusal::Moved)
        }
        Err(error) => unreadable(&stored.key, &error),
    };
    Ok(Led::To(outcome))
}

/// Says that what is stored cannot be read, whoever found that out: the store, or the codec.
fn unreadable(key: &Key, error: &Error) -> Outcome {
    event::corrupt(key, error);
    Outcome::Refused(Refusal::Corrupt)
}

/// Asks whether a session that is gone from its old home has moved over.
async fn look_for_note(settings: &Settings, key: Key) -> Result<Outcome> {
    match settings.has_moved(&key).await {
        Ok(true) => {
            event::moved(&key);
            Ok(Outcome::Refused(Refusal::Moved))
        }
        Ok(false) => {
            event::unknown(&key);
            Ok(Outcome::Nothing)
        }
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(unreadable(&key, &error)),
        Err(error) => Err(error),
    }
}

/// Asks the application whether the session just installed may be used.
async fn check_validity(handle: &Arc<Handle>, validate: &SessionHook<bool>, key: Key) -> Result<Outcome> {
    let head = handle.head.clone().unwrap_or_default();
    if validate(head, Session(Arc::clone(handle))).await? {
        return Ok(Outcome::Session);
    }
    event::invalid(&key);
    handle.lock().rejected = Some(Rejection::Invalid);
    Ok(Outcome::Nothing)
}

/// The absolute end has passed, though the store still has the record.
pub(crate) fn over(settings: &Settings, deadline: Option<u64>) -> bool {
    deadline.is_some_and(|deadline| deadline <= settings.now())
}

/// What [`Engine::finish`] leaves to be awaited. Resolves to the header edits of the response.
///
/// Allocates nothing when the store need not be written.
#[must_use = "the session is not saved unless this is awaited"]
pub struct Commit(Inner);

enum Inner {
    Ready(Option<HeaderEdits>),
    Writing(Pin<Box<dyn Future<Output = Result<HeaderEdits>> + Send>>),
}

impl Commit {
    /// Returns the edits if there is nothing to wait for, once.
    #[cfg(feature = "tower-service-0_3")]
    pub(crate) fn take_ready(&mut self) -> Option<HeaderEdits> {
        match &mut self.0 {
            Inner::Ready(edits) => edits.take(),
            Inner::Writing(_) => None,
        }
    }
}

impl Future for Commit {
    type Output = Result<HeaderEdits>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            // A future that is polled after its end may answer anything; here, no edits.
            Inner::Ready(edits) => Poll::Ready(Ok(edits.take().unwrap_or_default())),
            Inner::Writing(future) => future.as_mut().poll(context),
        }
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inner::Ready(_) => "Commit(ready)",
            Inner::Writing(_) => "Commit(writing)",
        })
    }
}
