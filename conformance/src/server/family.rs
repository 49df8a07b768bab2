//! What the system knows about processes: whether one stands still, and which are its children.

use std::{collections::HashMap, fs, process::Command};

/// Returns whether a process has been stopped by a signal.
pub(crate) fn stands_still(process: u32) -> bool {
    let state = match fields(process) {
        Some(fields) => fields.state,
        None => ps(&["-o", "stat=", "-p", &process.to_string()]).trim_start().chars().next(),
    };
    state == Some('T')
}

/// Returns the children of a process, theirs, and so on.
pub(crate) fn descendants(of: u32) -> Vec<u32> {
    let parents = from_proc().unwrap_or_else(from_ps);
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (child, parent) in parents {
        children.entry(parent).or_default().push(child);
    }
    let mut found = Vec::new();
    let mut next = vec![of];
    while let Some(parent) = next.pop() {
        let of_this = children.remove(&parent).unwrap_or_default();
        next.extend(&of_this);
        found.extend(of_this);
    }
    found
}

/// What is of use of a process's line in `/proc`.
struct Fields {
    state: Option<char>,
    parent: u32,
}

/// Reads that line; `None` if there is no such process, or no `/proc`.
fn fields(process: u32) -> Option<Fields> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program stands in parentheses and may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    Some(Fields { state: fields.next()?.chars().next(), parent: fields.next()?.parse().ok()? })
}

/// Every process with its parent; `None` without `/proc`.
fn from_proc() -> Option<Vec<(u32, u32)>> {
    // Its own process is there at least, or this is no Linux.
    fields(std::process::id())?;
    let entries = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // One that has ended meanwhile has no children any more.
    Some(numbers.filter_map(|process| Some((process, fields(process)?.parent))).collect())
}

/// As [`from_proc`], on other systems. Slim images of Linux have no `ps`.
fn from_ps() -> Vec<(u32, u32)> {
    let listing = ps(&["-A", "-o", "pid=", "-o", "ppid="]);
    let pair = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    listing.lines().filter_map(pair).collect()
}

fn ps(arguments: &[&str]) -> String {
    let output = Command::new("ps").args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Stdio, id},
        thread::sleep,
        time::Duration,
    };

    use super::*;

    #[test]
    fn children_and_theirs_are_found_and_whether_they_stand_still() {
        let mut shell = Command::new("sh");
        // The shell's own number, and that of its child; it ends with its input.
        shell.args(["-c", "sleep 60 & echo $!; read -r _; kill $!"]);
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let sleeper: u32 = line.trim().parse().unwrap();
        let all = descendants(id());
        assert!(all.contains(&shell.id()) && all.contains(&sleeper), "{all:?}");
        assert_eq!(descendants(shell.id()), [sleeper]);
        assert!(!stands_still(sleeper));
        let signal = |name: &str| {
            let command = format!("kill -{name} {sleeper}");
            assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
        };
        signal("STOP");
        let stopped = (0..500).any(|_| {
            sleep(Duration::from_millis(2));
            stands_still(sleeper)
        });
        signal("CONT");
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(stopped);
    }

    #[test]
    fn both_sources_say_the_same_where_there_are_both() {
        let listed = from_ps();
        if let (Some(known), false) = (from_proc(), listed.is_empty()) {
            let own = |pairs: &[(u32, u32)]| pairs.iter().find(|(process, _)| *process == id()).copied();
            assert_eq!(own(&known), own(&listed));
        }
    }
}
