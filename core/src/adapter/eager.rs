//! A tower layer that loads the session before the handler runs, whatever the handler does.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    adapter::tower::{EmptyResponse, OnError, SessionLayer, SessionService},
    hooks::OwnedHead,
    session::LazySession,
};

/// As [`SessionLayer`], but loads each request's session before the inner service sees the request.
///
/// Every request within the cookie's path then depends on the store, also one that needs no session. It is for
/// applications that are used to that, and for checks in front of everything. A session that cannot be loaded is
/// answered by [`SessionLayer::on_error`]. The inner service must be `Clone` and `'static`; each request costs a box.
#[derive(Clone)]
pub struct EagerSessionLayer<E = EmptyResponse> {
    layer: SessionLayer<E>,
    on_error: E,
}

impl<E: Clone> SessionLayer<E> {
    /// Loads the session before the handler runs: see [`EagerSessionLayer`].
    pub fn eager(self) -> EagerSessionLayer<E> {
        EagerSessionLayer { on_error: self.error_answer().clone(), layer: self }
    }
}

impl<S: Clone, E: Clone> Layer<S> for EagerSessionLayer<E> {
    type Service = SessionService<Eager<S, E>, E>;

    fn layer(&self, inner: S) -> Self::Service {
        self.layer.layer(Eager { inner, on_error: self.on_error.clone() })
    }
}

impl<E> fmt::Debug for EagerSessionLayer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EagerSessionLayer").field(&self.layer).finish()
    }
}

/// The service between a session service and the application: loads, then calls the application.
#[derive(Clone)]
pub struct Eager<S, E> {
    inner: S,
    on_error: E,
}

impl<S, E, ReqBody, ResBody> Service<Request<ReqBody>> for Eager<S, E>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    E: OnError<ResBody> + Clone + Send + 'static,
    ReqBody: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResBody>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        // The service that is ready is the one to call; the clone takes its place.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let on_error = self.on_error.clone();
        let session = request.extensions().get::<LazySession>().filter(|session| session.in_scope()).cloned();
        Box::pin(async move {
            if let Some(session) = session
                && let Err(error) = session.load().await
            {
                let head = OwnedHead::of(&request);
                return Ok(on_error.respond(&error, &head));
            }
            inner.call(request).await
        })
    }
}

impl<S: fmt::Debug, E> fmt::Debug for Eager<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Eager").field("inner", &self.inner).finish_non_exhaustive()
    }
}
