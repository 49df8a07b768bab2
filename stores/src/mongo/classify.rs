//! What an error of the driver means: the one place that decides.

use cloakroom_core::{Error, ErrorKind};
use mongodb::error::{Error as DriverError, ErrorKind as DriverErrorKind, WriteFailure};

/// The name of the store in errors.
pub(super) const STORE: &str = "mongo";

/// The code of a duplicate key.
const DUPLICATE: i32 = 11000;

/// Turns an error of the driver into ours. Its message may quote keys and values, so it is not attached: the code stands
/// for it.
pub(crate) fn classify(error: &DriverError) -> Error {
    let ours = |kind, hint: String| Error::new(kind).store(STORE).hint(hint);
    if let Some(code) = code(error) {
        let kind = kind_of(code);
        return match (kind, &*error.kind) {
            // It was written, but not confirmed by as many as asked for.
            (ErrorKind::Backend, DriverErrorKind::Write(WriteFailure::WriteConcernError(_))) => ours(
                ErrorKind::Timeout,
                format!("the write was not confirmed by enough servers (code {code})"),
            ),
            _ => ours(kind, format!("the server answered with the error code {code}")),
        };
    }
    match &*error.kind {
        DriverErrorKind::Io(error) => {
            ours(ErrorKind::Unavailable, format!("the connection failed ({})", error.kind()))
        }
        DriverErrorKind::ServerSelection { .. } => {
            ours(ErrorKind::Unavailable, "no server that takes writes could be reached".into())
        }
        DriverErrorKind::ConnectionPoolCleared { .. } | DriverErrorKind::Shutdown => {
            ours(ErrorKind::Unavailable, "the connection was closed".into())
        }
        DriverErrorKind::DnsResolve { .. } => {
            ours(ErrorKind::Unavailable, "the server's name could not be resolved".into())
        }
        DriverErrorKind::Authentication { .. } => {
            ours(ErrorKind::Rejected, "the server refused the credentials".into())
        }
        DriverErrorKind::InvalidTlsConfig { .. } => {
            ours(ErrorKind::Config, "the TLS options of the address cannot be used".into())
        }
        DriverErrorKind::InvalidArgument { .. } => {
            ours(ErrorKind::Config, "an option of the address or the client cannot be used".into())
        }
        DriverErrorKind::IncompatibleServer { .. } | DriverErrorKind::SessionsNotSupported => {
            ours(ErrorKind::Unsupported, "the server is too old: MongoDB 4.4 or later is needed".into())
        }
        _ => ours(ErrorKind::Backend, "the driver could not make sense of the server's answer".into()),
    }
}

/// What an error says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tells {
    /// No server that takes operations was reached.
    Outage,
    /// The server is there, and has answered. One that took too long over a single operation, or waited in vain for the
    /// majority, is as well.
    Answer,
    Nothing,
}

/// Tells what an error says about the connection.
pub(super) fn tells(error: &DriverError) -> Tells {
    match (classify(error).kind(), code(error)) {
        (ErrorKind::Unavailable, _) => Tells::Outage,
        (_, Some(_)) => Tells::Answer,
        _ => Tells::Nothing,
    }
}

/// Returns whether a write met a document with the same key.
pub(crate) fn is_duplicate(error: &DriverError) -> bool {
    code(error) == Some(DUPLICATE)
}

/// Returns the server's code, if the server answered.
fn code(error: &DriverError) -> Option<i32> {
    match &*error.kind {
        DriverErrorKind::Command(error) => Some(error.code),
        DriverErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        DriverErrorKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        _ => None,
    }
}

/// The codes are those of the server's `error_codes.yml`.
const fn kind_of(code: i32) -> ErrorKind {
    match code {
        // Unauthorized, AuthenticationFailed, and Atlas's own.
        13 | 18 | 8000 => ErrorKind::Rejected,
        // HostUnreachable, HostNotFound, NetworkTimeout, ShutdownInProgress, PrimarySteppedDown, SocketException,
        // NotWritablePrimary, InterruptedAtShutdown, InterruptedDueToReplStateChange, NotPrimaryNoSecondaryOk,
        // NotPrimaryOrSecondary.
        6 | 7 | 89 | 91 | 189 | 9001 | 10107 | 11600 | 11602 | 13435 | 13436 => ErrorKind::Unavailable,
        // MaxTimeMSExpired, WriteConcernFailed, ExceededTimeLimit.
        50 | 64 | 262 => ErrorKind::Timeout,
        // WriteConflict, and a duplicate that trying again did not help against.
        112 | DUPLICATE => ErrorKind::Contention,
        // BSONObjectTooLarge, and the resulting document being so.
        10334 | 17419 | 17420 => ErrorKind::TooLarge,
        // An index of the same name or fields with other options.
        85 | 86 => ErrorKind::Config,
        _ => ErrorKind::Backend,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::{
        bson::{Document, deserialize_from_document, doc},
        error::{CommandError, WriteConcernError, WriteError},
    };

    use super::*;

    fn answer(code: i32) -> Document {
        doc! { "code": code, "codeName": "Name", "errmsg": "dup key: { _id: \"canary\" }" }
    }

    fn command(code: i32) -> DriverError {
        let error: CommandError = deserialize_from_document(answer(code)).unwrap();
        DriverErrorKind::Command(error).into()
    }

    fn write(code: i32) -> DriverError {
        let error: WriteError = deserialize_from_document(answer(code)).unwrap();
        DriverErrorKind::Write(WriteFailure::WriteError(error)).into()
    }

    fn write_concern(code: i32) -> DriverError {
        let error: WriteConcernError = deserialize_from_document(answer(code)).unwrap();
        DriverErrorKind::Write(WriteFailure::WriteConcernError(error)).into()
    }

    fn io(kind: std::io::ErrorKind) -> DriverError {
        std::io::Error::new(kind, "canary").into()
    }

    #[test]
    fn each_error_has_the_kind_that_a_caller_can_act_on() {
        for (error, kind) in [
            (io(std::io::ErrorKind::ConnectionRefused), ErrorKind::Unavailable),
            (io(std::io::ErrorKind::UnexpectedEof), ErrorKind::Unavailable),
            (command(13), ErrorKind::Rejected),
            (command(18), ErrorKind::Rejected),
            (command(8000), ErrorKind::Rejected),
            (command(91), ErrorKind::Unavailable),
            (command(189), ErrorKind::Unavailable),
            (command(10107), ErrorKind::Unavailable),
            (command(11600), ErrorKind::Unavailable),
            (command(11602), ErrorKind::Unavailable),
            (command(13435), ErrorKind::Unavailable),
            (command(13436), ErrorKind::Unavailable),
            (command(50), ErrorKind::Timeout),
            (command(262), ErrorKind::Timeout),
            (command(112), ErrorKind::Contention),
            (command(11000), ErrorKind::Contention),
            (write(11000), ErrorKind::Contention),
            (command(10334), ErrorKind::TooLarge),
            (write(17419), ErrorKind::TooLarge),
            (command(86), ErrorKind::Config),
            (command(2), ErrorKind::Backend),
            (write(2), ErrorKind::Backend),
            (write_concern(64), ErrorKind::Timeout),
            (write_concern(91), ErrorKind::Unavailable),
            (write_concern(100), ErrorKind::Timeout),
            (DriverError::custom("canary"), ErrorKind::Backend),
        ] {
            let ours = classify(&error);
            assert_eq!(ours.kind(), kind, "{ours}");
            assert!(!format!("{ours:?} {ours}").contains("canary"));
        }
    }

    #[test]
    fn an_answer_of_the_server_is_no_outage_whatever_it_says() {
        for (error, told) in [
            (io(std::io::ErrorKind::ConnectionReset), Tells::Outage),
            (command(91), Tells::Outage),
            (command(10107), Tells::Outage),
            (write_concern(189), Tells::Outage),
            (command(50), Tells::Answer),
            (command(262), Tells::Answer),
            (command(13), Tells::Answer),
            (write(11000), Tells::Answer),
            (write_concern(64), Tells::Answer),
            (write_concern(100), Tells::Answer),
            (DriverError::custom("canary"), Tells::Nothing),
        ] {
            assert_eq!(tells(&error), told, "{error}");
        }
    }

    #[test]
    fn a_duplicate_is_known_whoever_reports_it() {
        assert!(is_duplicate(&command(11000)) && is_duplicate(&write(11000)));
        assert!(!is_duplicate(&command(112)) && !is_duplicate(&io(std::io::ErrorKind::TimedOut)));
    }
}
