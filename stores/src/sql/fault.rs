//! What an error of the driver means: the part that all SQL stores have in common.

use std::io;

use cloakroom_core::{Error, ErrorKind};

/// An error of the driver, classified: what the caller is told, and what it tells about the connection.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) error: Error,
    pub(crate) tells: Tells,
}

/// What an error says about the server.
#[allow(dead_code)] // A file is never away, and rolls nothing back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tells {
    /// The server is there and answered.
    Nothing,
    /// The statement was certainly rolled back, and may be sent again: a deadlock, a serialization failure.
    RolledBack,
    /// The server may be away: find out.
    Doubt,
    /// The connection is lost.
    Outage,
    /// The server is there but takes no writes: a standby that was promoted away.
    ReadOnly,
}

impl Fault {
    pub(crate) fn new(kind: ErrorKind, tells: Tells, hint: impl Into<String>) -> Self {
        Self { error: Error::new(kind).hint(hint.into()), tells }
    }
}

/// Classifies what is no answer of the server. The driver's text is kept out wherever it could quote a value or the
/// address.
pub(crate) fn general(error: sqlx::Error) -> Fault {
    let backend = |hint: &str| Fault::new(ErrorKind::Backend, Tells::Nothing, hint);
    match error {
        sqlx::Error::Io(error) => lost(error),
        sqlx::Error::Tls(error) => match error.downcast::<io::Error>() {
            Ok(error) => lost(*error),
            Err(_) => Fault::new(
                ErrorKind::Rejected,
                Tells::Nothing,
                "the TLS handshake failed: check the address's TLS mode and the certificates",
            ),
        },
        sqlx::Error::PoolTimedOut => Fault::new(
            ErrorKind::Unavailable,
            Tells::Doubt,
            "the pool had no connection to give before its own acquire timeout",
        ),
        sqlx::Error::PoolClosed => {
            Fault::new(ErrorKind::Unavailable, Tells::Nothing, "the pool has been closed")
        }
        sqlx::Error::WorkerCrashed => {
            Fault::new(ErrorKind::Unavailable, Tells::Outage, "the driver's worker thread has ended")
        }
        sqlx::Error::Protocol(_) => Fault::new(
            ErrorKind::Unavailable,
            Tells::Outage,
            "the server did not answer in its protocol: check the address, and any proxy before it",
        ),
        sqlx::Error::Configuration(_) => Fault {
            error: Error::config(
                "url",
                "the driver cannot use the address: check its form and its parameters",
            ),
            tells: Tells::Nothing,
        },
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => {
            backend("the table has columns of another type: it was not made by `migrate`")
        }
        _ => backend("the driver could not carry out the statement"),
    }
}

/// An error of the socket. Its text names neither addresses nor values.
fn lost(error: io::Error) -> Fault {
    let fault = Error::new(ErrorKind::Unavailable).with_source(error);
    Fault { error: fault, tells: Tells::Outage }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_are_no_answer_are_classified() {
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        for (error, kind, tells) in [
            (sqlx::Error::Io(reset()), ErrorKind::Unavailable, Tells::Outage),
            (sqlx::Error::Tls(Box::new(reset())), ErrorKind::Unavailable, Tells::Outage),
            (sqlx::Error::Tls("bad certificate".into()), ErrorKind::Rejected, Tells::Nothing),
            (sqlx::Error::PoolTimedOut, ErrorKind::Unavailable, Tells::Doubt),
            (sqlx::Error::PoolClosed, ErrorKind::Unavailable, Tells::Nothing),
            (sqlx::Error::WorkerCrashed, ErrorKind::Unavailable, Tells::Outage),
            (sqlx::Error::Protocol("secret".into()), ErrorKind::Unavailable, Tells::Outage),
            (sqlx::Error::Configuration("secret".into()), ErrorKind::Config, Tells::Nothing),
            (sqlx::Error::Decode("secret".into()), ErrorKind::Backend, Tells::Nothing),
            (sqlx::Error::Encode("secret".into()), ErrorKind::Backend, Tells::Nothing),
            (sqlx::Error::RowNotFound, ErrorKind::Backend, Tells::Nothing),
        ] {
            let fault = general(error);
            assert_eq!((fault.error.kind(), fault.tells), (kind, tells), "{fault:?}");
            assert!(!format!("{fault:?} {}", fault.error).contains("secret"), "{fault:?}");
        }
    }
}
