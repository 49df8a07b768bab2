//! Errors as answers, the way the ancestor's application shows them: status 500, and the message as the body.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use cloakroom::{Error, OwnedHead};

/// An error of the session layer, or one of a handler's own.
pub(crate) struct Fault(String);

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self(message(&error))
    }
}

impl From<&'static str> for Fault {
    fn from(message: &'static str) -> Self {
        Self(message.to_owned())
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.0).into_response()
    }
}

/// What a handler of this server returns.
pub(crate) type Answer<T = String> = Result<T, Fault>;

/// Answers an error of the session layer.
pub(crate) fn error(error: &Error) -> Response {
    Fault(message(error)).into_response()
}

/// As [`error`], in the form that `SessionLayer::on_error` takes.
pub(crate) fn on_error(fault: &Error, _: &OwnedHead) -> Response {
    error(fault)
}

/// Returns what the error says after its kind: the ancestor's messages name no kind and no operation.
fn message(error: &Error) -> String {
    let text = error.to_string();
    let kind = format!("{}: ", error.kind());
    text.split_once(&kind).map_or_else(|| text.clone(), |(_, message)| message.to_owned())
}
