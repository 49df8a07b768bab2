//! A few words with a server, past any driver.
#![allow(dead_code)] // Each test file takes a part of it.
#![allow(clippy::panic, clippy::unwrap_used)] // A helper that fails is a test that fails.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    thread,
    time::{Duration, Instant},
};

/// How long a server may say nothing before it counts as one that does not answer.
const SILENCE: Duration = Duration::from_millis(500);

/// How long the answer may take of a server that is there: on a busy machine longer than any usual one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Host and port of a URL.
fn address(url: &str) -> String {
    let after = url.split_once("://").map_or(url, |(_, after)| after);
    let host = after.split(['/', '?']).next().unwrap_or_default();
    host.rsplit('@').next().unwrap_or_default().to_owned()
}

/// Asks a Redis server one thing, once, and returns the first line of what it answers within half a second.
pub(crate) fn ask(url: &str, words: &[&str]) -> std::io::Result<String> {
    ask_within(SILENCE, url, words)
}

/// As [`ask`], of a server that must answer: it is given the time it needs, and asked again if it hangs up.
#[track_caller]
pub(crate) fn told(url: &str, words: &[&str]) -> String {
    let began = Instant::now();
    loop {
        match ask_within(PATIENCE, url, words) {
            Ok(answer) if !answer.is_empty() => return answer,
            otherwise => assert!(began.elapsed() < PATIENCE, "{url} does not answer: {otherwise:?}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn ask_within(patience: Duration, url: &str, words: &[&str]) -> std::io::Result<String> {
    let address = address(url).to_socket_addrs()?.next().expect("a name leads to an address");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(patience))?;
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request += &format!("${}\r\n{word}\r\n", word.len());
    }
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; 1024];
    let read = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned())
}

/// Whether somebody accepts connections at this address.
pub(crate) fn listens(url: &str) -> bool {
    TcpStream::connect(address(url)).is_ok()
}

/// Whether a server says anything within half a second, in whatever protocol its address names.
pub(crate) fn answers(url: &str) -> bool {
    let question: &[u8] = match url.split_once("://").map(|(scheme, _)| scheme) {
        Some("redis") => b"PING\r\n",
        // A request to speak TLS, which it says `N` or `S` to.
        Some("postgres") => b"\0\0\0\x08\x04\xd2\x16\x2f",
        // It speaks first.
        Some("mysql") => b"",
        // `{hello: 1, $db: "admin"}` as an OP_MSG.
        Some("mongodb") => {
            b"\x34\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0\
              \x1f\0\0\0\x10hello\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0"
        }
        _ => panic!("no known protocol"),
    };
    let asked = || {
        let mut stream = TcpStream::connect(address(url))?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.write_all(question)?;
        stream.read(&mut [0; 64])
    };
    asked().is_ok_and(|read| read > 0)
}

/// Whether a server answers that must: it is asked again for as long as it may take.
pub(crate) fn answers_in_time(url: &str) -> bool {
    let began = Instant::now();
    while !answers(url) {
        if began.elapsed() > PATIENCE {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}
