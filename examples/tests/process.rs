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

#[test]
fn sessions_in_a_file_survive_the_end_of_the_program() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("quickstart-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let url = format!("sqlite://{}/sessions.db", folder.display());
    let (running, _stdout, address) = start(quickstart("0").env("SESSION_URL", &url));
    let counted = ask(&address, "POST /count HTTP/1.1", "");
    let (_, cookie) = counted.split_once("set-cookie: ").expect("a cookie");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    drop(running); // kill -9

    let (running, _stdout, address) = start(quickstart("0").env("SESSION_URL", &url));
    let page = ask(&address, "GET / HTTP/1.1", &cookie);
    drop(running);
    std::fs::remove_dir_all(&folder).unwrap();
    let stranger = page.contains("set-cookie: ");
    assert!(
        page.starts_with("HTTP/1.1 200 OK") && page.contains("aria-label=\"Count\">1<") && !stranger,
        "{page}"
    );
    let id = cookie.split_once('=').unwrap().1;
    assert!(!page.contains(id));
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
