//! The Redis server that is measured: the one of `CLOAKROOM_TEST_REDIS_URL`, else one of our own.

use std::{
    env,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::Failure;

/// A server, which ends with this value if it is ours.
pub(crate) struct Server {
    url: String,
    ours: Option<Child>,
}

impl Server {
    pub(crate) fn start() -> Result<Self, Failure> {
        if let Ok(url) = env::var("CLOAKROOM_TEST_REDIS_URL") {
            return Ok(Self { url, ours: None });
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command =
            Command::new(env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned()));
        command.args([
            "--save",
            "",
            "--appendonly",
            "no",
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
        ]);
        let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let ours = started.map_err(|error| {
            format!("{error}: install redis-server, or set CLOAKROOM_TEST_REDIS_URL or REDIS_SERVER")
        })?;
        let server = Self { url: format!("redis://127.0.0.1:{port}"), ours: Some(ours) };
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err("the server does not answer".into())
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns what the server says it is.
    pub(crate) fn name(&self) -> Result<String, Failure> {
        let mut connection = redis::Client::open(self.url.as_str())?.get_connection()?;
        let info: String = redis::cmd("INFO").arg("server").query(&mut connection)?;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Ok(match field("valkey_version:") {
            Some(version) => format!("Valkey {version}"),
            None => format!("Redis {}", field("redis_version:").unwrap_or("of an unknown version")),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.ours {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
