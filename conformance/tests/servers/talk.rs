//! A few words with a server, past any driver.
#![allow(dead_code)] // Each test file takes a part of it.
#![allow(clippy::panic, clippy::unwrap_used)] // A helper that fails is a test that fails.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

/// Host and port of a URL.
fn address(url: &str) -> String {
    let after = url.split_once("://").map_or(url, |(_, after)| after);
    let host = after.split(['/', '?']).next().unwrap_or_default();
    host.rsplit('@').next().unwrap_or_default().to_owned()
}

/// Asks a Redis server one thing, and returns the first line of what it answers.
pub(crate) fn ask(url: &str, words: &[&str]) -> std::io::Result<String> {
    let address = address(url).to_socket_addrs()?.next().expect("a name leads to an address");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
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
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(question)?;
        stream.read(&mut [0; 64])
    };
    asked().is_ok_and(|read| read > 0)
}
