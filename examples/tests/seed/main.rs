//! The ancestor's behaviour, rule by rule, over HTTP against `examples/seed_server`.
//!
//! koa-generic-session 2.3.1 did these things, and who ports an application relies on them. Where it was wrong the rule
//! says what is right, and its test is called a repair. Each test has a server of its own.
#![allow(clippy::unwrap_used)] // A helper that fails is a test that fails.

#[path = "../../examples/seed_server/main.rs"]
#[allow(dead_code)] // Its `main`.
mod seed_server;

mod bad_input;
mod blackbox;
mod cookies;
mod handler;
mod options;
mod outages;
mod repairs;
mod requests;
mod saving;
mod visitor;
