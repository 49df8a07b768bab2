//! What the error numbers of MySQL and MariaDB mean.

use cloakroom_core::ErrorKind;
use sqlx::mysql::MySqlDatabaseError;

use crate::sql::{Fault, Tells, general};

/// Turns an error of the driver into ours.
pub(crate) fn classify(error: sqlx::Error) -> Fault {
    let answer = match &error {
        sqlx::Error::Database(answer) => answer.try_downcast_ref::<MySqlDatabaseError>(),
        _ => None,
    };
    match answer {
        Some(answer) => of_number(answer.number(), answer.message()),
        None => general(error),
    }
}

/// Classifies an error number. The server's own text is repeated where it is about the server and not about a row,
/// for it may quote what is in one.
fn of_number(number: u16, text: &str) -> Fault {
    let (kind, tells, hint) = match number {
        // Access denied, unknown database, no privilege, host not allowed or blocked.
        1044 | 1045 | 1049 | 1129 | 1130 | 1142 | 1143 | 1227 | 1698 => {
            (ErrorKind::Rejected, Tells::Nothing, text.to_owned())
        }
        1146 => {
            let hint = "the table is not there: call `migrate` once, or run what `ddl` returns";
            (ErrorKind::Backend, Tells::Nothing, hint.to_owned())
        }
        1213 => {
            let hint = "the server rolled the statement back every time, in favour of others";
            (ErrorKind::Contention, Tells::RolledBack, hint.to_owned())
        }
        // A lock was not granted, the statement was interrupted or took too long.
        1205 | 1317 | 1969 | 3024 => (ErrorKind::Timeout, Tells::Nothing, text.to_owned()),
        1290 | 1792 | 1836 => {
            let hint = "the server takes no writes: it is a replica, or has become one";
            (ErrorKind::Unavailable, Tells::ReadOnly, hint.to_owned())
        }
        1040 | 1203 | 1226 => {
            let hint = format!("{text}: lower max_connections of the pools, or raise that of the server");
            (ErrorKind::Unavailable, Tells::Doubt, hint)
        }
        // The server stops, has cut the connection, or (1047) is out of its cluster.
        1047 | 1053 | 1077..=1080 | 1152 | 1158..=1161 | 1184 | 1927 | 2006 | 2013 | 4031 => {
            (ErrorKind::Unavailable, Tells::Outage, text.to_owned())
        }
        // Beyond max_allowed_packet the server also cuts the connection.
        1153 => {
            let hint = "the value is larger than the server's max_allowed_packet";
            (ErrorKind::TooLarge, Tells::Doubt, hint.to_owned())
        }
        1406 => (ErrorKind::TooLarge, Tells::Nothing, "the column takes no value of this size".to_owned()),
        // Disk or table full, out of memory.
        1021 | 1037 | 1038 | 1041 | 1114 => (ErrorKind::Backend, Tells::Nothing, text.to_owned()),
        // The connection does not know the statement any more, or may prepare none.
        1243 | 1461 | 1615 => (ErrorKind::Backend, Tells::Doubt, text.to_owned()),
        _ => (ErrorKind::Backend, Tells::Nothing, "the server refused the statement".to_owned()),
    };
    Fault::new(kind, tells, format!("{hint} (error {number})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_kind_and_says_what_it_tells_about_the_server() {
        use {ErrorKind as Kind, Tells as Says};
        for (number, kind, tells) in [
            (1044, Kind::Rejected, Says::Nothing),
            (1045, Kind::Rejected, Says::Nothing),
            (1049, Kind::Rejected, Says::Nothing),
            (1142, Kind::Rejected, Says::Nothing),
            (1146, Kind::Backend, Says::Nothing),
            (1213, Kind::Contention, Says::RolledBack),
            (1205, Kind::Timeout, Says::Nothing),
            (1969, Kind::Timeout, Says::Nothing),
            (3024, Kind::Timeout, Says::Nothing),
            (1290, Kind::Unavailable, Says::ReadOnly),
            (1836, Kind::Unavailable, Says::ReadOnly),
            (1040, Kind::Unavailable, Says::Doubt),
            (1203, Kind::Unavailable, Says::Doubt),
            (1053, Kind::Unavailable, Says::Outage),
            (1927, Kind::Unavailable, Says::Outage),
            (2006, Kind::Unavailable, Says::Outage),
            (2013, Kind::Unavailable, Says::Outage),
            (4031, Kind::Unavailable, Says::Outage),
            (1153, Kind::TooLarge, Says::Doubt),
            (1406, Kind::TooLarge, Says::Nothing),
            (1114, Kind::Backend, Says::Nothing),
            (1243, Kind::Backend, Says::Doubt),
            (1062, Kind::Backend, Says::Nothing),
            (1366, Kind::Backend, Says::Nothing),
        ] {
            let fault = of_number(number, "text");
            assert_eq!((fault.error.kind(), fault.tells), (kind, tells), "{number}");
            assert!(fault.error.to_string().contains(&number.to_string()), "{}", fault.error);
        }
    }

    #[test]
    fn text_that_may_quote_a_row_is_not_repeated() {
        for number in [1062, 1366, 1406, 1064, 1213] {
            let fault = of_number(number, "Duplicate entry 'secret' for key 'PRIMARY'");
            assert!(!format!("{fault:?} {}", fault.error).contains("secret"), "{number}");
        }
    }
}
