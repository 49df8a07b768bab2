//! Durations as people say them.

use std::time::Duration;

/// Returns the largest whole unit of a duration, after rounding it to seconds: `2 hours`, `1 minute`, `a moment`.
pub(crate) fn spoken(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let seconds = (duration + Duration::from_millis(500)).as_secs();
    let Some((size, name)) = UNITS.into_iter().find(|(size, _)| seconds >= *size) else {
        return "a moment".to_owned();
    };
    let count = seconds / size;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_whole_unit_counts() {
        let rows = [
            (0, "a moment"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (3_599, "59 minutes"),
            (7_200, "2 hours"),
            (86_400, "1 day"),
            (172_799, "1 day"),
        ];
        for (seconds, text) in rows {
            assert_eq!(spoken(Duration::from_secs(seconds)), text);
        }
        assert_eq!(spoken(Duration::from_millis(1_799_900)), "30 minutes");
    }
}
