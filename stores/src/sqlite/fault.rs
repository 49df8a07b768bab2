//! What SQLite's result codes mean.

use cloakroom_core::ErrorKind;

use crate::sql::{Fault, Tells, general};

/// Turns an error of the driver into ours. SQLite's own text is left out: it quotes statements.
pub(crate) fn classify(error: sqlx::Error) -> Fault {
    match &error {
        sqlx::Error::Database(answer) => {
            let code = answer.code().and_then(|code| code.parse().ok()).unwrap_or(1);
            of_code(code, answer.message().starts_with("no such table"))
        }
        _ => general(error),
    }
}

/// Classifies an extended result code; its low byte is the primary one.
fn of_code(code: i32, no_table: bool) -> Fault {
    let (kind, hint) = match code & 0xff {
        1 if no_table => {
            (ErrorKind::Backend, "the table is not there: call `migrate` once, or run what `ddl` returns")
        }
        3 | 8 | 23 => {
            (ErrorKind::Rejected, "the file or its folder may not be written: check owner, mode and mount")
        }
        5 | 6 => {
            (ErrorKind::Timeout, "the database is locked: somebody else was writing for all of the timeout")
        }
        7 => (ErrorKind::Backend, "out of memory"),
        10 => (ErrorKind::Backend, "the disk failed to read or to write; what was stored before is intact"),
        11 | 26 => {
            (ErrorKind::Backend, "the file is no sound SQLite database: restore it, or take another one")
        }
        13 => (
            ErrorKind::Backend,
            "the disk is full: nothing was written, and what was stored before is intact",
        ),
        14 => (
            ErrorKind::Rejected,
            "the file cannot be opened: check that its folder is there and may be written",
        ),
        18 => (ErrorKind::TooLarge, "SQLite takes no value of this size"),
        _ => (ErrorKind::Backend, "SQLite refused the statement"),
    };
    Fault::new(kind, Tells::Nothing, format!("{hint} (code {code})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_kind_and_a_cure() {
        for (code, kind, says) in [
            (1, ErrorKind::Backend, "refused"),
            (3, ErrorKind::Rejected, "owner"),
            (5, ErrorKind::Timeout, "locked"),
            (6, ErrorKind::Timeout, "locked"),
            (7, ErrorKind::Backend, "memory"),
            (8, ErrorKind::Rejected, "mount"),
            (10, ErrorKind::Backend, "disk failed"),
            (11, ErrorKind::Backend, "no sound"),
            (13, ErrorKind::Backend, "disk is full"),
            (14, ErrorKind::Rejected, "opened"),
            (18, ErrorKind::TooLarge, "size"),
            (19, ErrorKind::Backend, "refused"),
            (23, ErrorKind::Rejected, "owner"),
            (26, ErrorKind::Backend, "no sound"),
            // Extended codes: BUSY_RECOVERY, BUSY_SNAPSHOT, IOERR_FSYNC, READONLY_DBMOVED.
            (261, ErrorKind::Timeout, "locked"),
            (517, ErrorKind::Timeout, "locked"),
            (1034, ErrorKind::Backend, "disk failed"),
            (1032, ErrorKind::Rejected, "mount"),
        ] {
            let fault = of_code(code, false);
            assert_eq!((fault.error.kind(), fault.tells), (kind, Tells::Nothing), "{code}");
            assert!(fault.error.to_string().contains(says), "{code}: {}", fault.error);
        }
        assert!(of_code(1, true).error.to_string().contains("migrate"));
    }
}
