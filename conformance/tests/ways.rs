//! The three ways to a server, each on any machine, and that nothing is left of a run that was killed.
//!
//! What the environment says is part of it, and that of a process cannot be changed by its tests. So each test runs
//! itself once more in a process of its own, with other variables.
#![allow(clippy::unwrap_used, clippy::panic)] // A helper that fails is a test that fails.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use cloakroom_conformance::{Running, Server};

use crate::talk::{answers_in_time, ask, listens, told};

#[path = "servers/talk.rs"]
mod talk;

/// Set in the process that a test runs itself in.
const CHILD: &str = "CLOAKROOM_CHILD";

/// With this there is no engine.
const NO_ENGINE: (&str, &str) = ("DOCKER_HOST", "tcp://127.0.0.1:1");

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// The test `name`, to be run in a process of its own: with these variables, and without any others about servers.
fn again(name: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env::current_exe().expect("a test knows its program"));
    command.args([name, "--exact", "--nocapture"]).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    for (variable, _) in env::vars_os() {
        let is_ours = variable.to_str().is_some_and(|name| name.starts_with("CLOAKROOM_"));
        if is_ours {
            command.env_remove(variable);
        }
    }
    command.env(CHILD, "1").envs(variables.iter().copied());
    command
}

/// Runs it to its end, which must be a good one, and returns what it wrote.
fn run(name: &str, variables: &[(&str, &str)]) -> String {
    let Output { status, stdout, stderr } = again(name, variables).output().expect("a test can be run again");
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() && text.contains("1 passed"), "{name} failed in a process of its own:\n{text}");
    text
}

async fn redis() -> Running {
    Server::redis().private().start().await.unwrap()
}

fn is_alive(url: &str) -> bool {
    ask(url, &["PING"]).is_ok_and(|answer| answer == "+PONG")
}

#[track_caller]
fn assert_alive(url: &str) {
    assert_eq!(told(url, &["PING"]), "+PONG");
}

/// Whether there is an engine, which decides the way to a server whose address is not given.
fn has_engine() -> bool {
    let info = Command::new("docker").arg("info").stdout(Stdio::null()).stderr(Stdio::null()).status();
    info.is_ok_and(|status| status.success())
}

/// Fails where there is no `redis-server`: not to look at one of the three ways is not to prove it.
#[track_caller]
fn need_program() {
    let is_there = |name: &str| Command::new(name).arg("--version").output().is_ok();
    assert!(
        is_there("redis-server") || is_there("valkey-server"),
        "to prove that a server can be a program of this machine there must be one: `apt-get install redis-server` on \
         Debian, or have `redis-server` or `valkey-server` in the path"
    );
}

#[tokio::test]
async fn an_address_in_the_environment_is_used_and_said_so() {
    const NAME: &str = "an_address_in_the_environment_is_used_and_said_so";
    if is_child() {
        let redis = Server::redis().start().await.unwrap();
        assert_eq!(redis.way(), "address from CLOAKROOM_TEST_REDIS_URL");
        assert_eq!(told(redis.url(), &["SET", "from", "the-child"]), "+OK");
        redis.kill().await.unwrap();
        assert!(!is_alive(redis.url()));
        let shared = Server::redis().shared().await.unwrap();
        assert!(shared.way().starts_with("address from"), "{}", shared.way());
        assert_alive(shared.url());
        redis.start().await.unwrap();
        assert_eq!(told(redis.url(), &["EXISTS", "from"]), ":1");
        return;
    }
    let redis = redis().await;
    let text = run(NAME, &[NO_ENGINE, ("CLOAKROOM_TEST_REDIS_URL", redis.url())]);
    assert!(text.contains("Redis: address from CLOAKROOM_TEST_REDIS_URL"), "{text}");
    // It was used, and it is nobody's to stop.
    assert_eq!(told(redis.url(), &["EXISTS", "from"]), ":1");
}

#[tokio::test]
async fn an_address_in_the_environment_is_used_for_every_kind() {
    const NAME: &str = "an_address_in_the_environment_is_used_for_every_kind";
    /// Each kind by its word, and the variable with its address.
    const KINDS: [(&str, &str); 5] = [
        ("redis", "CLOAKROOM_TEST_REDIS_URL"),
        ("postgres", "CLOAKROOM_TEST_POSTGRES_URL"),
        ("mysql", "CLOAKROOM_TEST_MYSQL_URL"),
        ("mariadb", "CLOAKROOM_TEST_MARIADB_URL"),
        ("mongo", "CLOAKROOM_TEST_MONGO_URL"),
    ];
    if is_child() {
        for (word, variable) in KINDS {
            let given = env::var(variable).unwrap();
            let server = Server::named(word).unwrap();
            assert!(server.is_given(), "{word}");
            let way = format!("address from {variable}");
            let shared = server.shared().await.unwrap();
            assert_eq!((shared.way(), shared.url()), (&*way, &*given));
            let own = server.start().await.unwrap();
            assert_eq!((own.way(), own.product()), (&*way, shared.product()));
            assert!(own.url() != given && answers_in_time(own.url()), "{word} is behind a proxy");
            own.kill().await.unwrap();
            assert!(!listens(own.url()), "{word} is out of reach");
            assert!(answers_in_time(&given), "{word} itself goes on");
            own.start().await.unwrap();
            assert!(answers_in_time(own.url()), "{word} is back");
        }
        return;
    }
    let mut servers = Vec::new();
    for (word, variable) in KINDS {
        servers.push((variable, Server::named(word).unwrap().private().start().await.unwrap()));
    }
    let given: Vec<_> = servers.iter().map(|(variable, server)| (*variable, server.url())).collect();
    run(NAME, &[&[NO_ENGINE], &*given].concat());
    // They are nobody's to stop.
    for (variable, url) in given {
        assert!(answers_in_time(url), "the server of {variable}");
    }
}

#[tokio::test]
async fn a_private_server_is_never_the_one_of_the_environment() {
    const NAME: &str = "a_private_server_is_never_the_one_of_the_environment";
    if is_child() {
        let own = redis().await;
        assert!(!own.way().starts_with("address"), "{}", own.way());
        assert_eq!(told(own.url(), &["FLUSHALL"]), "+OK");
        let shared = Server::redis().private().shared().await.unwrap();
        assert_eq!(told(shared.url(), &["FLUSHALL"]), "+OK");
        return;
    }
    let redis = redis().await;
    assert_eq!(told(redis.url(), &["SET", "somebodys", "data"]), "+OK");
    let (variable, handed_over) = redis.hand_over();
    run(NAME, &[("CLOAKROOM_TEST_REDIS_URL", redis.url()), (&variable, &handed_over)]);
    assert_eq!(told(redis.url(), &["EXISTS", "somebodys"]), ":1");
}

#[tokio::test]
async fn an_address_of_a_cluster_is_refused_instead_of_being_ignored() {
    const NAME: &str = "an_address_of_a_cluster_is_refused_instead_of_being_ignored";
    if is_child() {
        for failure in [
            Server::redis_cluster().start().await.unwrap_err(),
            Server::redis_cluster().shared().await.unwrap_err(),
        ] {
            assert!(
                failure.seen().contains("CLOAKROOM_TEST_REDIS_CLUSTER_URL is set; unset it"),
                "{failure}"
            );
        }
        return;
    }
    run(NAME, &[("CLOAKROOM_TEST_REDIS_CLUSTER_URL", "redis://127.0.0.1:1,redis://127.0.0.1:2")]);
}

#[tokio::test]
async fn without_an_address_it_is_a_container_where_there_is_an_engine() {
    const NAME: &str = "without_an_address_it_is_a_container_where_there_is_an_engine";
    if is_child() {
        let redis = Server::redis().start().await.unwrap();
        assert_alive(redis.url());
        println!("started: {}", redis.way());
        return;
    }
    let text = run(NAME, &[]);
    let way = if has_engine() { "started: container redis:" } else { "started: program /" };
    assert!(text.contains(way), "{way} in {text}");
}

#[tokio::test]
async fn without_an_engine_it_is_a_program_of_this_machine() {
    const NAME: &str = "without_an_engine_it_is_a_program_of_this_machine";
    if is_child() {
        let redis = Server::redis().start().await.unwrap();
        assert!(redis.way().starts_with("program /"), "{}", redis.way());
        assert_alive(redis.url());
        redis.pause().await.unwrap();
        assert!(listens(redis.url()) && !is_alive(redis.url()));
        redis.resume().await.unwrap();
        redis.kill().await.unwrap();
        assert!(!is_alive(redis.url()));
        redis.start().await.unwrap();
        assert_alive(redis.url());
        return;
    }
    need_program();
    run(NAME, &[NO_ENGINE]);
}

#[tokio::test]
async fn without_any_way_the_failure_says_how_to_mend_each() {
    const NAME: &str = "without_any_way_the_failure_says_how_to_mend_each";
    if is_child() {
        // No machine has this program.
        let failure = Server::mongo().start().await.map(drop).unwrap_err().to_string();
        for words in ["CLOAKROOM_TEST_MONGO_URL", "docker info", "apt-get install mongodb-org-server"] {
            assert!(failure.contains(words), "{words} in {failure}");
        }
        return;
    }
    run(NAME, &[NO_ENGINE, ("PATH", "/nowhere")]);
}

/// Starts a server in a process of its own, kills that process, and returns once the server is gone.
fn killed(name: &str, variables: &[(&str, &str)]) {
    let mut child = again(name, variables).stderr(Stdio::null()).spawn().expect("a test can be run again");
    let url = announced(&mut child);
    assert_alive(&url);
    // As `kill -9`: no code of that process runs any more.
    child.kill().expect("a child can be killed");
    child.wait().expect("a child ends");
    let start = Instant::now();
    while listens(&url) {
        assert!(start.elapsed() < Duration::from_secs(20), "the server outlives the process that started it");
        sleep(Duration::from_millis(50));
    }
}

/// Starts a server, says where, and does not end by itself.
async fn hold() {
    let redis = redis().await;
    println!("a server at {} ", redis.url());
    std::future::pending::<()>().await;
}

/// The address that [`hold`] says in a child.
fn announced(child: &mut Child) -> String {
    let mut output = BufReader::new(child.stdout.take().expect("it has a pipe"));
    let mut line = String::new();
    while output.read_line(&mut line).is_ok_and(|read| read > 0) {
        if let Some((_, rest)) = line.split_once("a server at ") {
            return rest.trim().to_owned();
        }
        line.clear();
    }
    let mut errors = String::new();
    if let Some(stderr) = &mut child.stderr {
        let _ = stderr.read_to_string(&mut errors);
    }
    panic!("the child has started no server: {errors}");
}

#[tokio::test]
async fn a_server_ends_with_a_process_that_is_killed() {
    if is_child() {
        return hold().await;
    }
    killed("a_server_ends_with_a_process_that_is_killed", &[]);
}

#[tokio::test]
async fn a_program_ends_with_a_process_that_is_killed() {
    if is_child() {
        return hold().await;
    }
    need_program();
    killed("a_program_ends_with_a_process_that_is_killed", &[NO_ENGINE]);
}

fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().expect("an engine comes with its program")
}

/// A container that nobody looks after. It is removed with this value, also when the test fails.
struct Orphan(String);

impl Orphan {
    /// Starts one that belongs to `owner`, as containers of the suite say.
    fn of(owner: &str) -> Self {
        let label = format!("cloakroom.conformance.owner={owner}");
        // The image that the first server of the test makes sure of. A test that is killed cannot remove it: it ends.
        let image = ["redis:7.0", "sleep", "300"];
        let run = docker(&[&["run", "--detach", "--rm", "--label", &label][..], &image].concat());
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        Self(String::from_utf8_lossy(&run.stdout).trim().to_owned())
    }

    fn is_there(&self) -> bool {
        docker(&["inspect", &self.0]).status.success()
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        // It may be gone.
        let _ = Command::new("docker").args(["rm", "--force", "--volumes", &self.0]).output();
    }
}

#[tokio::test]
async fn what_a_killed_run_has_left_is_removed_by_the_next() {
    assert!(
        has_engine(),
        "to prove that containers of a killed run are removed there must be an engine: `apt-get install docker.io` on \
         Debian, and see that `docker info` answers"
    );
    // As if both the process and the shell beside it had been killed, as when the machine fails.
    let mut ended = Command::new("true").spawn().expect("there is a program that does nothing");
    let dead = ended.id();
    ended.wait().expect("it ends");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    drop(redis().await);
    let left = Orphan::of(&format!("{}/{dead}/1", host.trim()));
    let elsewhere = Orphan::of("another-machine/1/1");
    let next = redis().await;
    assert!(next.way().starts_with("container"), "{}", next.way());
    assert!(!left.is_there(), "what was left is there still");
    assert!(elsewhere.is_there(), "what may be somebody's was removed");
}
