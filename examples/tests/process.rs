//! The quickstart's program: how it starts, how it stops, and what it says when it cannot start.
#![allow(clippy::unwrap_used)] // A helper that fails is a test that fails.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

fn quickstart(port: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
    command.env("PORT", port).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
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
    let mut child = quickstart("0").spawn().unwrap();
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
