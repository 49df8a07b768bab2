//! What the test runner printed: which cases passed, and how long they took.

use std::{collections::HashMap, time::Duration};

/// How each test of the package ended, by binary and name.
#[derive(Debug)]
pub(crate) struct Log(HashMap<(String, String), Result<Duration, String>>);

impl Log {
    /// Reads lines such as `PASS [   0.012s] (  3/180) cloakroom::redis conformance::base::an_absent_key_is_none`.
    pub(crate) fn read(text: &str) -> Self {
        let mut ended = HashMap::new();
        for line in text.lines() {
            if let Some((binary, test, how)) = ending(line) {
                // What failed is told once more at the end, and does not pass by that.
                ended.entry((binary, test)).or_insert(how);
            }
        }
        Self(ended)
    }

    /// Tells how a case ended in the test file of that name.
    pub(crate) fn ended(&self, binary: &str, case: &str) -> Result<Duration, String> {
        let test = (format!("cloakroom::{binary}"), format!("conformance::{case}"));
        self.0.get(&test).cloned().unwrap_or_else(|| Err("it did not run".into()))
    }
}

/// The binary, the test and how that ended, of a line that tells it.
fn ending(line: &str) -> Option<(String, String, Result<Duration, String>)> {
    let (how, rest) = line.split_once('[')?;
    let (time, rest) = rest.split_once("s]")?;
    let seconds: f64 = time.trim().parse().ok()?;
    let how = match how.trim() {
        // A test that leaks a process of its own has passed all the same.
        "PASS" | "LEAK" => Ok(Duration::try_from_secs_f64(seconds).ok()?),
        other => Err(format!("the runner says {other}")),
    };
    let mut words = rest.rsplit(' ');
    let (test, binary) = (words.next()?, words.next()?);
    Some((binary.to_owned(), test.to_owned(), how))
}
