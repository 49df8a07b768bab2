//! Extractors for axum: `Session`, `LazySession` and `Data<T>`, and errors as responses.

use axum_core::{
    body::Body,
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::request::Parts;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    adapter::tower::{EmptyResponse, OnError},
    data::Data,
    error::{Error, ErrorKind},
    hooks::OwnedHead,
    session::{LazySession, Session},
};

/// Takes the session without loading it.
impl<S: Sync> FromRequestParts<S> for LazySession {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported).operation("extract session").hint(
                "there is no session layer around this route; add .layer(SessionLayer::new(store).build()?)",
            )
        })
    }
}

/// Loads the session: reading and writing it needs no `.await` after that.
impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        // axum boxes a handler's future together with this one. Apart, both are small enough for what an allocator keeps
        // at hand for each thread; together they are not, and threads queue for its lock.
        Box::pin(LazySession::from_request_parts(parts, state).await?.into_loaded()).await
    }
}

/// Loads the session; `None` where there can be none: without a layer, or outside the cookie's path.
impl<S: Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Error> {
        match parts.extensions.get::<LazySession>().filter(|session| session.in_scope()).cloned() {
            Some(session) => session.into_loaded().await.map(Some),
            None => Ok(None),
        }
    }
}

/// Loads the session and reads it as a `T`.
impl<S: Sync, T: Default + Serialize + DeserializeOwned> FromRequestParts<S> for Data<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let session = <Session as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        Self::of(session)
    }
}

/// Answers with an empty body, so that nothing of the inside shows: 503 with `Retry-After` if a later request may
/// succeed, 409 if this request's session cannot be written (it has ended, moved, or could not be loaded), else 500.
///
/// The error itself goes into the response's extensions, where a middleware finds it to log it or to make a page.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        OnError::<Body>::respond(&EmptyResponse, &self, &OwnedHead::default())
    }
}
