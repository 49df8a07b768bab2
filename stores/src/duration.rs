//! Durations as people write them in addresses and in files: `500ms`, `2s`, `30m`, `12h`, `7d`.

use std::time::Duration;

use cloakroom_core::{Error, Result};

/// Reads a duration: a whole number and a unit.
///
/// # Errors
/// [`ErrorKind::Config`](cloakroom_core::ErrorKind::Config) naming `field`.
#[allow(dead_code)]
pub(crate) fn parse(field: &'static str, text: &str) -> Result<Duration> {
    let bad = || Error::config(field, "must be a whole number and a unit: 500ms, 2s, 30m, 12h or 7d");
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let seconds = match unit.trim() {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(bad()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_are_a_duration() {
        for (text, millis) in [
            ("0ms", 0),
            ("500ms", 500),
            ("2s", 2_000),
            (" 30 m ", 1_800_000),
            ("12h", 43_200_000),
            ("400d", 34_560_000_000),
        ] {
            assert_eq!(parse("expiry.idle", text).unwrap().as_millis(), millis, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_by_the_name_of_its_field() {
        for text in
            ["", "5", "s", "-1s", "1.5s", "1 week", "1sm", "99999999999999999999s", "18446744073709551615d"]
        {
            assert_eq!(parse("expiry.idle", text).unwrap_err().field(), Some("expiry.idle"), "{text}");
        }
    }
}
