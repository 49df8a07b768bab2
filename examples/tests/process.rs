//! The quickstart's program: how it starts, how it stops, and what it says when it cannot start.
#![allow(clippy::unwrap_used)] // A helper that fails is a test that fails.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

fn quickstart(port: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
    command
        .env("PORT", port)
        .env("SESSION_URL", "memory:")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A program that is killed when a test fails half-way.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program on a free port and returns the address it prints.
fn started() -> (Running, BufReader<ChildStdout>, String) {
    start(&mut quickstart("0"))
}

fn start(command: &mut Command) -> (Running, BufReader<ChildStdout>, String) {
    let mut child = command.spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let (_, rest) = line.split_once("http://").expect("the address to open");
    let address = rest.split_whitespace().next().unwrap().to_owned();
    (Running(child), stdout, address)
}

fn refused(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = str::from_utf8(&output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "one line: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn it_prints_its_address_and_answers_there() {
    let (_running, _stdout, address) = started();
    let mut connection = TcpStream::connect(&address).unwrap();
    connection.write_all(b"GET / HTTP/1.1\r\nHost: quickstart\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("Your ticket"), "{answer}");
}

#[test]
fn a_port_that_is_no_number_is_one_line_and_exit_code_1() {
    let output = quickstart("three").output().unwrap();
    let said = refused(&output);
    assert!(said.contains("PORT is \"three\"") && said.contains("leave it out for 3000"), "{said}");
}

#[test]
fn a_taken_port_is_one_line_and_exit_code_1() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = quickstart(&port).output().unwrap();
    let said = refused(&output);
    assert!(said.contains(&format!("port {port} is already in use")) && said.contains("set PORT"), "{said}");
}

/// Sends a request with the cookie, if there is one, and returns the answer.
fn ask(address: &str, request: &str, cookie: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    let head =
        format!("{request}\r\nHost: {address}\r\nCookie: {cookie}\r\nContent-Length: 0\r\nConnection: close");
    connection.write_all(format!("{head}\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

/// Counts, ends the program with kill -9, starts it again, and counts on.
fn counts_on_after_a_kill(url: &str) {
    let count = "POST /count HTTP/1.1";
    let (running, _stdout, address) = start(quickstart("0").env("SESSION_URL", url));
    let counted = ask(&address, count, "");
    let (_, cookie) = counted.split_once("set-cookie: ").expect("a cookie");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    drop(running); // kill -9

    let (_running, _stdout, address) = start(quickstart("0").env("SESSION_URL", url));
    let shown = |number: u32| {
        let page = ask(&address, "GET / HTTP/1.1", &cookie);
        let number = format!("aria-label=\"Count\">{number}<");
        assert!(page.starts_with("HTTP/1.1 200 OK") && page.contains(&number), "{page}");
        assert!(!page.contains("set-cookie: "), "no stranger: {page}");
        assert!(!page.contains(cookie.split_once('=').unwrap().1));
    };
    shown(1);
    let counted = ask(&address, count, &cookie);
    assert!(!counted.contains("set-cookie: "), "{counted}");
    shown(2);
}

#[test]
fn sessions_in_a_file_survive_the_end_of_the_program() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("quickstart-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    counts_on_after_a_kill(&format!("sqlite://{}/sessions.db", folder.display()));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Does the same with sessions on a server, apart from what others keep there.
#[cfg(any(feature = "mongo", feature = "mysql", feature = "postgres", feature = "redis"))]
async fn counts_on_with(server: cloakroom_conformance::Server, place: &str) {
    let server = server.shared().await.unwrap();
    let separator = if server.url().contains('?') { '&' } else { '?' };
    let name = cloakroom_conformance::Env::new("").namespace().to_owned();
    counts_on_after_a_kill(&format!("{}{separator}{place}={name}", server.url()));
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn sessions_in_redis_survive_the_end_of_the_program() {
    counts_on_with(cloakroom_conformance::Server::redis(), "prefix").await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn sessions_in_postgresql_survive_the_end_of_the_program() {
    counts_on_with(cloakroom_conformance::Server::postgres(), "table").await;
}

#[cfg(feature = "mysql")]
#[tokio::test]
async fn sessions_in_mariadb_survive_the_end_of_the_program() {
    counts_on_with(cloakroom_conformance::Server::mariadb(), "table").await;
}

#[cfg(feature = "mongo")]
#[tokio::test]
async fn sessions_in_mongodb_survive_the_end_of_the_program() {
    counts_on_with(cloakroom_conformance::Server::mongo(), "table").await;
}

#[test]
fn an_address_of_no_store_is_one_line_and_exit_code_1() {
    let output = quickstart("0").env("SESSION_URL", "river://ada:hunter2@host").output().unwrap();
    let said = refused(&output);
    assert!(
        said.contains("SESSION_URL names no store") && said.contains("sqlite") && !said.contains("hunter2"),
        "{said}"
    );
}

#[test]
fn a_store_that_cannot_be_reached_is_one_line_that_does_not_doubt_the_address() {
    let output = quickstart("0").env("SESSION_URL", "sqlite:///no/such/folder/sessions.db").output().unwrap();
    let said = refused(&output);
    assert!(said.contains("the store that SESSION_URL names cannot be opened: "), "{said}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_and_sigterm_end_it_with_success() {
    for signal in ["INT", "TERM"] {
        let (mut running, _stdout, address) = started();
        // An idle connection, as a browser keeps, must not hold it up for good.
        let mut idle = TcpStream::connect(&address).unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nHost: quickstart\r\n\r\n").unwrap();
        assert!(idle.read(&mut [0; 1]).unwrap() > 0);
        let sent = Command::new("kill").args(["-s", signal, &running.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(running.0.wait().unwrap().code(), Some(0), "SIG{signal}");
    }
}
