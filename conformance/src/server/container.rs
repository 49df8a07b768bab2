//! A server in a container.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use testcontainers::{
    GenericImage, ImageExt,
    bollard::{
        Docker,
        query_parameters::{
            KillContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
            StartContainerOptions, StopContainerOptionsBuilder,
        },
    },
    core::{IntoContainerPort, client::docker_client_instance},
    runners::AsyncRunner,
};

use crate::{
    background,
    failure::{Failure, Verdict},
    server::{kind::Image, lifeline::Lifeline, owner},
};

/// Marks what the suite has started, so that the next run finds what a killed one has left.
const LABEL: &str = "cloakroom.conformance.owner";

/// How long a server may take to end by itself.
const STOP_SECONDS: i32 = 5;

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) image: Image,
    pub(crate) arguments: Vec<String>,
    pub(crate) files: Vec<(String, Arc<[u8]>)>,
    /// The port at the host; inside it is the image's, or this one too where the container has no network of its own.
    pub(crate) port: u16,
    pub(crate) network: Network,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// Its own, with one port mapped.
    Own,
    /// The host's.
    Host,
}

/// Where the files of an order are, inside.
pub(crate) const FILES: &str = "/cloakroom";

/// A container that ends with this value, or with the process.
pub(crate) struct Container {
    id: String,
    docker: Docker,
    host: String,
    image: String,
    /// What the library keeps of the container. Dropped where its `Drop` finds the runtime it needs.
    guard: Option<Box<dyn Any + Send + Sync>>,
    lifeline: Option<Lifeline>,
}

impl Container {
    /// Starts a container, pulling its image if the engine has none. Whether the server is ready is not looked at.
    pub(crate) async fn run(order: Order) -> Verdict<Self> {
        let name = format!("{}:{}", order.image.name, order.image.tag);
        let docker = docker_client_instance().await.map_err(|error| failed(&name, &error))?;
        remove_leftovers(&docker).await;
        let mut request = GenericImage::new(order.image.name.clone(), order.image.tag.clone())
            .with_label(LABEL, owner::mark())
            .with_startup_timeout(Duration::from_secs(60));
        request = match order.network {
            Network::Own => request.with_mapped_port(order.port, order.image.port.tcp()),
            Network::Host => request.with_network("host"),
        };
        for (variable, value) in order.image.environment {
            request = request.with_env_var(*variable, *value);
        }
        for (path, content) in &order.files {
            request = request.with_copy_to(format!("{FILES}/{path}"), content.to_vec());
        }
        let command = order.image.command.iter().map(ToString::to_string).chain(order.arguments);
        let container = request.with_cmd(command).start().await.map_err(|error| failed(&name, &error))?;
        let host = container.get_host().await.map_err(|error| failed(&name, &error))?.to_string();
        let id = container.id().to_owned();
        let lifeline = Lifeline::to_container(&id);
        Ok(Self {
            docker,
            // A name may lead to ::1, where the engine of some machines does not listen.
            host: if host == "localhost" { "127.0.0.1".into() } else { host },
            image: name,
            guard: Some(Box::new(container)),
            lifeline: lifeline.ok(),
            id,
        })
    }

    /// The address of the machine that the engine runs on.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Name and tag.
    pub(crate) fn image(&self) -> &str {
        &self.image
    }

    pub(crate) async fn stop(&self) -> Verdict {
        let options = StopContainerOptionsBuilder::new().t(STOP_SECONDS).build();
        self.done("stop", self.docker.stop_container(&self.id, Some(options)).await)
    }

    pub(crate) async fn start(&self) -> Verdict {
        self.done("start", self.docker.start_container(&self.id, None::<StartContainerOptions>).await)
    }

    pub(crate) async fn pause(&self) -> Verdict {
        self.done("pause", self.docker.pause_container(&self.id).await)
    }

    pub(crate) async fn resume(&self) -> Verdict {
        self.done("resume", self.docker.unpause_container(&self.id).await)
    }

    pub(crate) async fn kill(&self) -> Verdict {
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        self.done("kill", self.docker.kill_container(&self.id, Some(options)).await)?;
        // The engine notices by itself, and refuses to start what it has not seen end.
        loop {
            let state = self.docker.inspect_container(&self.id, None).await;
            let state = state.map_err(|error| failed(&self.image, &error))?.state;
            if state.and_then(|state| state.running) != Some(true) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The last lines of what the server wrote.
    pub(crate) async fn log(&self) -> String {
        use futures_util::StreamExt;
        use testcontainers::bollard::query_parameters::LogsOptionsBuilder;

        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("20").build();
        let lines = self.docker.logs(&self.id, Some(options));
        lines.filter_map(|line| async { line.ok().map(|line| line.to_string()) }).collect().await
    }

    /// What a command writes that is run inside; empty if it cannot be run.
    pub(crate) async fn output(&self, command: &[&str]) -> String {
        use futures_util::StreamExt;
        use testcontainers::bollard::exec::{CreateExecOptions, StartExecResults};

        let options = CreateExecOptions {
            cmd: Some(command.to_vec()),
            attach_stdout: Some(true),
            ..Default::default()
        };
        let Ok(exec) = self.docker.create_exec(&self.id, options).await else {
            return String::new();
        };
        match self.docker.start_exec(&exec.id, None).await {
            Ok(StartExecResults::Attached { output, .. }) => {
                output.filter_map(|line| async { line.ok().map(|line| line.to_string()) }).collect().await
            }
            _ => String::new(),
        }
    }

    fn done(&self, what: &str, result: Result<(), testcontainers::bollard::errors::Error>) -> Verdict {
        result.map_err(|error| {
            Failure::new(format!("a container can be told to {what}"), format!("{}: {error}", self.image))
        })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let (id, docker, guard) = (self.id.clone(), self.docker.clone(), self.guard.take());
        // Waited for: a process that ends right after its last test would leave the container behind.
        background::block_on(async move {
            remove(&docker, &id).await;
            drop(guard);
        });
        if let Some(mut lifeline) = self.lifeline.take() {
            lifeline.cut();
        }
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container").field("image", &self.image).finish_non_exhaustive()
    }
}

fn failed(image: &str, error: &dyn std::error::Error) -> Failure {
    let mut seen = format!("{image}: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        seen += &format!(": {error}");
        source = error.source();
    }
    Failure::new("a container can be started", seen)
}

async fn remove(docker: &Docker, id: &str) {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    // Gone already is as good.
    let _ = docker.remove_container(id, Some(options)).await;
}

/// Removes the containers of runs on this machine that have ended without doing so themselves.
async fn remove_leftovers(docker: &Docker) {
    let filters = [("label".to_owned(), vec![LABEL.to_owned()])].into();
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    for container in docker.list_containers(Some(options)).await.unwrap_or_default() {
        let mark = container.labels.as_ref().and_then(|labels| labels.get(LABEL));
        if let (Some(id), Some(mark)) = (&container.id, mark)
            && owner::is_gone(mark)
        {
            remove(docker, id).await;
        }
    }
}
