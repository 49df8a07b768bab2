//! Gets a server: by its address, in a container, as a program; or says how each of the three could be mended.

use std::env;

use crate::{
    failure::{Failure, Verdict},
    fault_proxy::FaultProxy,
    port::{self, Port},
    server::{
        Server,
        address::{Parts, shown},
        container::{self, Container, Network, Order},
        kind::{Image, Kind},
        local::{self, Extras, filled},
        members,
        probe::{Question, Wire},
        process::Process,
        running::{Body, Inner, Node, Running, Sharing},
    },
};

/// How often a start is tried again when somebody took the port meanwhile.
const TRIES: usize = 3;

/// Starts a server that nobody else uses.
pub(crate) async fn own(server: &Server) -> Verdict<Running> {
    let kind = server.kind;
    check_environment(server)?;
    let running = if let Some(url) = from_environment(server) {
        by_address(server, url, Sharing::Own).await?
    } else {
        anew(server).await?
    };
    say(kind, &running);
    Ok(running)
}

/// Prints how the server came to run.
pub(crate) fn say(kind: Kind, running: &Running) {
    let version = running.version();
    eprintln!("{}: {}, {} {version}", kind.name(), running.way(), running.product());
}

/// The address of a server that the environment names, for one of the usual making.
pub(crate) fn from_environment(server: &Server) -> Option<String> {
    let url = in_environment(server.kind)?;
    (server.is_usual() && !server.kind.has_members()).then_some(url)
}

fn in_environment(kind: Kind) -> Option<String> {
    env::var(kind.variable()).ok().filter(|url| !url.trim().is_empty())
}

/// Refuses an address that could not be used, and that whoever set it believes to be.
pub(crate) fn check_environment(server: &Server) -> Verdict {
    let kind = server.kind;
    if !kind.has_members() || server.is_private || in_environment(kind).is_none() {
        return Ok(());
    }
    let (variable, name) = (kind.variable(), kind.name());
    Err(Failure::new(
        format!(
            "a {name} is one that the suite has started: its members are stopped one by one, and tell their \
                 clients of one another, so that no proxy can stand before them"
        ),
        format!("{variable} is set; unset it"),
    ))
}

/// Takes the server at `url`: for the caller alone behind a proxy, for all as it is.
pub(crate) async fn by_address(server: &Server, url: String, sharing: Sharing) -> Verdict<Running> {
    let kind = server.kind;
    let way = format!("address from {}", kind.variable());
    let address = Parts::of(&url).and_then(|parts| Some((parts, parts.host(kind.port())?)));
    let Some((parts, (host, port))) = address else {
        // Many nodes, which nothing here can stop.
        let first = url.split(',').next().unwrap_or_default();
        let product = match Parts::of(first).and_then(|parts| Some((parts, parts.host(kind.port())?))) {
            Some((parts, (host, port))) => question(server, &parts, host, port).wait(ANSWERS).await,
            None => Err(Failure::new("a server's address is a URL", format!("{} is not", kind.variable()))),
        };
        let product = product.map_err(|failure| unanswered(kind, &url, &failure))?;
        return Ok(Running::new(Inner {
            kind,
            url,
            way,
            product,
            nodes: Vec::new(),
            sharing,
            is_durable: false,
        }));
    };
    let asked = question(server, &parts, host.clone(), port);
    let product = asked.wait(ANSWERS).await.map_err(|failure| unanswered(kind, &url, &failure))?;
    if sharing == Sharing::Shared {
        return Ok(Running::new(Inner {
            kind,
            url,
            way,
            product,
            nodes: Vec::new(),
            sharing,
            is_durable: false,
        }));
    }
    let proxy = FaultProxy::before(host, port).await?;
    let url = parts.through("127.0.0.1", proxy.port());
    let through = question(server, &parts, "127.0.0.1".into(), proxy.port());
    let node = Node::new(Body::Proxy(proxy), through, url.clone(), None);
    Ok(Running::new(Inner { kind, url, way, product, nodes: vec![node], sharing, is_durable: false }))
}

/// How long a server that is said to be there may take to answer.
const ANSWERS: std::time::Duration = std::time::Duration::from_secs(5);

fn unanswered(kind: Kind, url: &str, failure: &Failure) -> Failure {
    let rule = format!("a server answers at the address in {}", kind.variable());
    Failure::new(rule, format!("{}: {}", shown(url), failure.seen()))
}

fn question(server: &Server, parts: &Parts<'_>, host: String, port: u16) -> Question {
    let wire = if parts.is_plain() && server.scheme.is_none() { server.kind.wire() } else { Wire::Tls };
    Question { wire, host, port, login: parts.login() }
}

/// Starts one: in a container, else as a program.
async fn anew(server: &Server) -> Verdict<Running> {
    if server.kind.has_members() {
        let started = members::start(server).await?;
        return started.map_err(|(container, program)| no_way(server, &container, &program));
    }
    if server.kind == Kind::Command {
        let node = again(server, How::Program).await?;
        return finish(server, node).await;
    }
    let mut container = Vec::new();
    for image in images(server) {
        match again(server, How::Container(&image)).await {
            Ok(node) => return finish(server, node).await,
            Err(failure) => container.push(failure.seen().to_owned()),
        }
    }
    let program = if server.image.is_some() {
        "not tried, since an image was asked for".to_owned()
    } else {
        match again(server, How::Program).await {
            Ok(node) => return finish(server, node).await,
            Err(failure) => failure.seen().to_owned(),
        }
    };
    Err(no_way(server, &container.join("; "), &program))
}

/// What is said when there is no way to a server.
fn no_way(server: &Server, container: &str, program: &str) -> Failure {
    let kind = server.kind;
    let (name, package) = (kind.name(), kind.package());
    let start = format!(
        "start a container engine that has the image or can pull it, and see that `docker info` answers; or install \
         the program, `apt-get install {package}` on Debian"
    );
    let tried = format!("container: {container}\n  program: {program}");
    // The others are never one that somebody else has started.
    if !server.is_usual() || kind.has_members() {
        return Failure::new(format!("{name} can be started, in one of two ways: {start}"), tried);
    }
    let variable = kind.variable();
    Failure::new(
        format!(
            "{name} is at hand, in one of three ways: set {variable} to the address of a server; or {start}"
        ),
        format!("{variable} is not set\n  {tried}"),
    )
}

#[derive(Clone, Copy)]
enum How<'a> {
    Container(&'a Image),
    Program,
}

/// Tries again with another port if somebody else has taken the one that was free.
async fn again(server: &Server, how: How<'_>) -> Verdict<Started> {
    let mut tries = 0;
    loop {
        let port = port::free()?;
        let started = match how {
            How::Container(image) => container_node(server, image, port).await,
            How::Program => program_node(server, port).await,
        };
        let started = match started {
            Ok(started) => started.node.ready().await.map(|_| started),
            Err(failure) => Err(failure),
        };
        tries += 1;
        match started {
            Err(failure) if tries < TRIES && is_taken(&failure) => {}
            done => return done.map_err(|failure| Failure::new(server.kind.name(), failure.seen())),
        }
    }
}

fn is_taken(failure: &Failure) -> bool {
    let seen = failure.seen().to_lowercase();
    ["already in use", "already allocated", "address in use"].iter().any(|words| seen.contains(words))
}

/// A node, and the words for how it was started.
pub(crate) struct Started {
    pub(crate) node: Node,
    pub(crate) way: String,
}

async fn finish(server: &Server, started: Started) -> Verdict<Running> {
    let mut product = started.node.ready().await?;
    if server.kind == Kind::Postgres {
        product.version = started.node.version().await;
    }
    Ok(Running::new(Inner {
        kind: server.kind,
        url: started.node.url().to_owned(),
        way: started.way,
        product,
        nodes: vec![started.node],
        sharing: Sharing::Own,
        is_durable: server.is_durable,
    }))
}

fn images(server: &Server) -> Vec<Image> {
    let mut images = server.kind.images();
    if let Some((name, tag)) = &server.image {
        images.truncate(1);
        for image in &mut images {
            image.name.clone_from(name);
            image.tag.clone_from(tag);
            // Another image of the same family has its own name for its program.
            image.command = if name.contains("valkey") { &["valkey-server"] } else { image.command };
        }
    }
    images
}

async fn container_node(server: &Server, image: &Image, port: Port) -> Verdict<Started> {
    let mut arguments = own_arguments(server.kind);
    arguments.extend(filled(&server.arguments, image.port, container::FILES));
    let (image, files) = (image.clone(), server.files.clone());
    let order = Order { image, arguments, files, port: port.number(), network: Network::Own };
    let container = Container::run(order).await?;
    let way = format!("container {}", container.image());
    let host = container.host().to_owned();
    Ok(Started { node: node(server, Body::Container(container), host, port), way })
}

fn own_arguments(kind: Kind) -> Vec<String> {
    match kind {
        Kind::Redis | Kind::RedisCluster | Kind::RedisSentinel => {
            super::kind::REDIS_ARGS.map(ToOwned::to_owned).to_vec()
        }
        _ => Vec::new(),
    }
}

async fn program_node(server: &Server, port: Port) -> Verdict<Started> {
    let extras = Extras { arguments: &server.arguments, files: &server.files };
    let process: Process = match server.kind {
        Kind::Command => local::run_command(&server.program, port.number(), extras).await?,
        kind => local::run(kind, port.number(), extras).await?,
    };
    let way = format!("program {}", process.path().display());
    Ok(Started { node: node(server, Body::Process(process), "127.0.0.1".into(), port), way })
}

fn node(server: &Server, body: Body, host: String, held: Port) -> Node {
    let port = held.number();
    let url = match server.kind {
        Kind::Command => server.url.replace("{port}", &port.to_string()),
        kind => kind.url(&host, port),
    };
    let url = match (&server.scheme, url.split_once("://")) {
        (Some(scheme), Some((_, rest))) => format!("{scheme}://{rest}"),
        _ => url,
    };
    let wire = if server.scheme.is_some() { Wire::Tls } else { server.kind.wire() };
    Node::new(body, Question { wire, host, port, login: None }, url, Some(held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_any_way_the_failure_names_the_three() {
        let text = no_way(&Server::redis(), "no engine", "there is no redis-server").to_string();
        for words in ["CLOAKROOM_TEST_REDIS_URL", "docker info", "apt-get install redis-server", "no engine"]
        {
            assert!(text.contains(words), "{words} in {text}");
        }
        for server in [Server::redis().private(), Server::redis_cluster()] {
            let text = no_way(&server, "no engine", "there is no redis-server").to_string();
            assert!(text.contains("two ways") && !text.contains("CLOAKROOM_TEST"), "{text}");
        }
    }
}
