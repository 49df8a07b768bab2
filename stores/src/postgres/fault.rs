//! What PostgreSQL's SQLSTATEs mean.

use cloakroom_core::ErrorKind;

use crate::sql::{Fault, Tells, general};

/// Turns an error of the driver into ours.
pub(crate) fn classify(error: sqlx::Error) -> Fault {
    match &error {
        sqlx::Error::Database(answer) => of_state(&answer.code().unwrap_or_default(), answer.message()),
        _ => general(error),
    }
}

/// Classifies an SQLSTATE. The server's own text is repeated where it is about the server and not about a row, for
/// it may quote what is in one.
fn of_state(state: &str, text: &str) -> Fault {
    let (kind, tells, hint) = match state {
        "28000" | "28P01" => {
            (ErrorKind::Rejected, Tells::Nothing, format!("{text}: check the user and the password"))
        }
        "3D000" | "42501" => (ErrorKind::Rejected, Tells::Nothing, text.to_owned()),
        "42P01" | "3F000" => {
            let hint = "the table is not there: call `migrate` once, or run what `ddl` returns";
            (ErrorKind::Backend, Tells::Nothing, hint.to_owned())
        }
        "40001" | "40P01" => {
            let hint = "the server rolled the statement back every time, in favour of others";
            (ErrorKind::Contention, Tells::RolledBack, hint.to_owned())
        }
        "55P03" | "57014" => (ErrorKind::Timeout, Tells::Nothing, text.to_owned()),
        "25006" => {
            let hint = "the server takes no writes: it is a standby, or has become one";
            (ErrorKind::Unavailable, Tells::ReadOnly, hint.to_owned())
        }
        "53300" => {
            let hint = format!("{text}: lower max_connections of the pools, or raise that of the server");
            (ErrorKind::Unavailable, Tells::Doubt, hint)
        }
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" => {
            (ErrorKind::Unavailable, Tells::Outage, text.to_owned())
        }
        "54000" | "22001" => {
            (ErrorKind::TooLarge, Tells::Nothing, "the server takes no value of this size".to_owned())
        }
        "53100" | "53200" | "53400" => (ErrorKind::Backend, Tells::Nothing, text.to_owned()),
        // The connection is another one than that which prepared the statement.
        // A pooler gives the last of the three to errors of its own as well, which are about the server behind it.
        "26000" | "42P05" | "08P01" if state != "08P01" || text.contains("prepared statement") => {
            let hint = "a pooler hands out another connection for each transaction: let it keep track of prepared \
                        statements, or see `Prepare::EachTime`";
            (ErrorKind::Backend, Tells::Doubt, hint.to_owned())
        }
        // The table was changed under a statement that was prepared before.
        "0A000" => (ErrorKind::Backend, Tells::Doubt, "the table was changed: try again".to_owned()),
        _ if state.starts_with("08") => (ErrorKind::Unavailable, Tells::Outage, text.to_owned()),
        _ => (ErrorKind::Backend, Tells::Nothing, "the server refused the statement".to_owned()),
    };
    Fault::new(kind, tells, format!("{hint} (SQLSTATE {state})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_kind_and_says_what_it_tells_about_the_server() {
        use {ErrorKind as Kind, Tells as Says};
        for (state, kind, tells) in [
            ("28P01", Kind::Rejected, Says::Nothing),
            ("28000", Kind::Rejected, Says::Nothing),
            ("3D000", Kind::Rejected, Says::Nothing),
            ("42501", Kind::Rejected, Says::Nothing),
            ("42P01", Kind::Backend, Says::Nothing),
            ("3F000", Kind::Backend, Says::Nothing),
            ("40001", Kind::Contention, Says::RolledBack),
            ("40P01", Kind::Contention, Says::RolledBack),
            ("55P03", Kind::Timeout, Says::Nothing),
            ("57014", Kind::Timeout, Says::Nothing),
            ("25006", Kind::Unavailable, Says::ReadOnly),
            ("53300", Kind::Unavailable, Says::Doubt),
            ("53100", Kind::Backend, Says::Nothing),
            ("57P01", Kind::Unavailable, Says::Outage),
            ("57P02", Kind::Unavailable, Says::Outage),
            ("57P03", Kind::Unavailable, Says::Outage),
            ("08000", Kind::Unavailable, Says::Outage),
            ("08003", Kind::Unavailable, Says::Outage),
            ("08006", Kind::Unavailable, Says::Outage),
            ("08P01", Kind::Unavailable, Says::Outage),
            ("26000", Kind::Backend, Says::Doubt),
            ("42P05", Kind::Backend, Says::Doubt),
            ("0A000", Kind::Backend, Says::Doubt),
            ("54000", Kind::TooLarge, Says::Nothing),
            ("23505", Kind::Backend, Says::Nothing),
            ("22P02", Kind::Backend, Says::Nothing),
            ("XX000", Kind::Backend, Says::Nothing),
        ] {
            let fault = of_state(state, "text");
            assert_eq!((fault.error.kind(), fault.tells), (kind, tells), "{state}");
            assert!(fault.error.to_string().contains(state), "{}", fault.error);
        }
    }

    #[test]
    fn a_lost_prepared_statement_is_told_from_an_outage_behind_a_pooler() {
        let lost =
            of_state("08P01", "bind message supplies 2 parameters, but prepared statement \"\" requires 1");
        assert_eq!((lost.error.kind(), lost.tells), (ErrorKind::Backend, Tells::Doubt));
        for text in ["server conn crashed?", "query_wait_timeout", "client_login_timeout"] {
            let fault = of_state("08P01", text);
            assert_eq!((fault.error.kind(), fault.tells), (ErrorKind::Unavailable, Tells::Outage), "{text}");
        }
    }

    #[test]
    fn text_that_may_quote_a_row_is_not_repeated() {
        for state in ["23505", "22P02", "22001", "42601", "XX000", "40001"] {
            let fault = of_state(state, "Key (key)=(secret) already exists");
            assert!(!format!("{fault:?} {}", fault.error).contains("secret"), "{state}");
        }
    }
}
