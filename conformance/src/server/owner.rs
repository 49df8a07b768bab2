//! Whose a container is: a mark of this process that tells, later and from another process, whether it still runs.

use std::{fs, process};

/// Returns the mark of this process: machine, number, and the moment it started, for numbers are used again.
pub(crate) fn mark() -> String {
    let number = process::id();
    format!("{}/{number}/{}", machine(), started(number).unwrap_or_default())
}

/// Returns whether the process with this mark ran on this machine and has ended. If that cannot be known: `false`.
pub(crate) fn is_gone(mark: &str) -> bool {
    let mut parts = mark.split('/');
    let (Some(home), Some(number), Some(then)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Ok(number) = number.parse() else {
        return false;
    };
    // Without a moment the machine does not tell when processes started.
    home == machine() && !then.is_empty() && started(number).as_deref() != Some(then)
}

/// The name of this machine, which is another in each container.
fn machine() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().replace('/', "-")
}

/// When process `number` started, in ticks since this machine did; `None` if there is no such process.
fn started(number: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // The name of the program stands in parentheses and may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    // The 22nd field of all; the state, first of those left, is the third.
    fields.split_whitespace().nth(19).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_living_process_is_not_gone_and_one_that_has_ended_is() {
        assert!(!is_gone(&mark()));
        let mut child = process::Command::new("sleep").arg("60").spawn().unwrap();
        let theirs = format!("{}/{}/{}", machine(), child.id(), started(child.id()).unwrap());
        assert!(!is_gone(&theirs));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_gone(&theirs));
        assert!(is_gone(&format!("{}/{}/0", machine(), process::id())), "its number is used again");
    }

    #[test]
    fn what_cannot_be_known_is_not_gone() {
        assert!(!is_gone("") && !is_gone("another-machine/1/1") && !is_gone("x/y/z"));
    }
}
