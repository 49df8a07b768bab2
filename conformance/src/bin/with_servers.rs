//! `with_servers redis postgres -- command …`: runs a command with servers that all of its processes share.
//!
//! Each test process of a run could start servers of its own, and would, one after another. This starts them once,
//! tells the command of them by its environment, and stops them when it ends. A kind whose address the environment
//! has already is left as it is, and said so.

use std::{
    env,
    process::{Command, ExitCode, ExitStatus},
};

use cloakroom_conformance::{Failure, Server};
use futures_util::future::try_join_all;

const USAGE: &str = "usage: with_servers <kind>.. -- <command> [argument]..\n\
                     kinds: redis, redis_cluster, redis_sentinel, postgres, mysql, mariadb, mongo";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let split = arguments.iter().position(|argument| argument == "--");
    let Some((kinds, [_, program, rest @ ..])) = split.map(|at| arguments.split_at(at)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut servers = Vec::new();
    for kind in kinds {
        let Some(server) = Server::named(kind) else {
            eprintln!("no such kind of server: {kind}\n{USAGE}");
            return ExitCode::from(2);
        };
        if server.is_given() {
            eprintln!("{kind}: not started, for the environment has the address of one");
        } else {
            servers.push(server);
        }
    }
    match run(&servers, program, rest) {
        Ok(status) => ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)),
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command while the servers do.
fn run(servers: &[Server], program: &str, arguments: &[String]) -> Result<ExitStatus, Failure> {
    let failed = |error: std::io::Error| Failure::new("the command can be run", error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let running = runtime.block_on(try_join_all(servers.iter().map(Server::start)))?;
    let mut command = Command::new(program);
    command.args(arguments).envs(running.iter().map(|running| running.hand_over()));
    let status = command.status().map_err(failed);
    drop(running);
    status
}
