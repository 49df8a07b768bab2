//! Sessions as a tower layer, for every framework that is made of tower services.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    config::Builder,
    engine::{Commit, Engine, RequestHead, finish},
    error::{Error, ErrorKind},
    hooks::OwnedHead,
    session::LazySession,
    store::Store,
};

/// Puts a session beside every request: a [`LazySession`] in its extensions, saved when the response is ready.
///
/// It asks nothing of the inner service, and costs a request that does not load its session no store call. Two of
/// these around one service are as good as one: the outer one does the work.
///
/// The response body must have a [`Default`], for the answer to a request whose session cannot be saved, unless
/// [`on_error`](Self::on_error) makes that answer.
#[derive(Clone)]
pub struct SessionLayer<E = EmptyResponse> {
    engine: Engine,
    on_error: E,
}

impl SessionLayer {
    /// Starts to configure a layer over `store`; [`Builder::build`] ends it.
    // Users write `SessionLayer::new(store)...build()?`, as they do with every other layer.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(store: impl Store) -> Builder<Self> {
        Builder::new(store)
    }
}

impl<E> SessionLayer<E> {
    /// Sets what answers a request whose session could not be saved. The default is [`EmptyResponse`].
    ///
    /// ```
    /// # use cloakroom_core::{Error, OwnedHead, SessionLayer};
    /// # fn demo(layer: SessionLayer) {
    /// let layer = layer.on_error(|error: &Error, head: &OwnedHead| {
    ///     http::Response::new(format!("{} could not be answered: {}", head.uri.path(), error.kind()))
    /// });
    /// # }
    /// ```
    pub fn on_error<F>(self, on_error: F) -> SessionLayer<F> {
        SessionLayer { engine: self.engine, on_error }
    }

    pub(crate) const fn error_answer(&self) -> &E {
        &self.on_error
    }

    /// Returns the engine, for `shutdown` and for what works without a request.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl From<Engine> for SessionLayer {
    fn from(engine: Engine) -> Self {
        Self { engine, on_error: EmptyResponse }
    }
}

impl<S, E: Clone> Layer<S> for SessionLayer<E> {
    type Service = SessionService<S, E>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService { inner, engine: self.engine.clone(), on_error: self.on_error.clone() }
    }
}

impl<E> fmt::Debug for SessionLayer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer").field("engine", &self.engine).finish_non_exhaustive()
    }
}

/// The service that [`SessionLayer`] makes.
#[derive(Clone)]
pub struct SessionService<S, E = EmptyResponse> {
    inner: S,
    engine: Engine,
    on_error: E,
}

impl<S, E, ReqBody, ResBody> Service<Request<ReqBody>> for SessionService<S, E>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    E: OnError<ResBody> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody, E>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        // An outer layer of ours is already at work: a second session under the same request would fight the first.
        let session = if request.extensions().get::<LazySession>().is_some() {
            None
        } else {
            let (method, uri, headers) = (request.method(), request.uri(), request.headers());
            let session = self.engine.begin(&RequestHead { method, uri, headers });
            let head = E::NEEDS_HEAD.then(|| OwnedHead::copy(method, uri, headers));
            request.extensions_mut().insert(session.clone());
            Some(InUse { session, head, on_error: self.on_error.clone() })
        };
        ResponseFuture { state: State::Handling { future: self.inner.call(request) }, in_use: session }
    }
}

impl<S: fmt::Debug, E> fmt::Debug for SessionService<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// What the future needs once the handler has answered.
struct InUse<E> {
    session: LazySession,
    head: Option<OwnedHead>,
    on_error: E,
}

pin_project! {
    /// The future of [`SessionService`]: the handler's, then the commit, if there is one.
    pub struct ResponseFuture<F, B, E> {
        #[pin]
        state: State<F, B>,
        in_use: Option<InUse<E>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, B> {
        Handling { #[pin] future: F },
        Committing { commit: Commit, response: Option<Response<B>> },
    }
}

impl<F, B, X, E> Future for ResponseFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, X>>,
    E: OnError<B>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Handling { future } => {
                    let response = ready!(future.poll(context))?;
                    let finished =
                        this.in_use.as_ref().and_then(|used| finish(&used.session.0, response.status()));
                    let Some(mut commit) = finished else {
                        return Poll::Ready(Ok(response));
                    };
                    if let Some(edits) = commit.take_ready() {
                        let mut response = response;
                        edits.apply(response.headers_mut());
                        return Poll::Ready(Ok(response));
                    }
                    this.state.set(State::Committing { commit, response: Some(response) });
                }
                StateProjection::Committing { commit, response } => {
                    let outcome = ready!(Pin::new(commit).poll(context));
                    let (Some(mut response), Some(used)) = (response.take(), this.in_use.take()) else {
                        // Polled after its end, which futures may answer as they like.
                        return Poll::Pending;
                    };
                    return Poll::Ready(Ok(match outcome {
                        Ok(edits) => {
                            edits.apply(response.headers_mut());
                            response
                        }
                        Err(error) => used.on_error.respond(&error, &used.head.unwrap_or_default()),
                    }));
                }
            }
        }
    }
}

impl<F, B, E> fmt::Debug for ResponseFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}

/// Answers a request whose session could not be saved. The handler's own answer is dropped: it may claim what did
/// not happen.
///
/// Implemented by closures `Fn(&Error, &OwnedHead) -> Response<B>`.
pub trait OnError<B> {
    /// Whether the head of each request must be kept for `respond`, which costs a copy of the headers.
    const NEEDS_HEAD: bool = true;

    /// Makes the answer.
    fn respond(&self, error: &Error, head: &OwnedHead) -> Response<B>;
}

impl<B, F: Fn(&Error, &OwnedHead) -> Response<B>> OnError<B> for F {
    fn respond(&self, error: &Error, head: &OwnedHead) -> Response<B> {
        self(error, head)
    }
}

/// Answers with an empty body: 503 and `Retry-After` if a later request may succeed, 409 if the session has ended or
/// moved meanwhile, else 500. The error goes into the response's extensions. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyResponse;

impl<B: Default> OnError<B> for EmptyResponse {
    const NEEDS_HEAD: bool = false;

    fn respond(&self, error: &Error, _: &OwnedHead) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = status_of(error);
        if error.is_retryable() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.extensions_mut().insert(error.clone());
        response
    }
}

/// Returns the status that tells a client what an error means for it.
pub(crate) const fn status_of(error: &Error) -> StatusCode {
    match error.kind() {
        kind if kind.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
        // The request was made for a session that cannot be written: ended, moved, unreadable, or not loaded.
        ErrorKind::Gone | ErrorKind::WritesRefused => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
