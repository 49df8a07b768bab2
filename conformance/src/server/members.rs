//! Redis servers of several processes: a cluster of six, and a server with two replicas and three sentinels.
//!
//! All of them listen on this machine's own address, inside containers as well, which share its network: what they
//! tell clients of one another is then true for the clients.

use std::{path::PathBuf, time::Duration};

use futures_util::future::try_join_all;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    failure::{Failure, Verdict},
    port::{self, Port},
    server::{
        Server,
        container::{Container, Network, Order},
        kind::{Image, Kind, REDIS_ARGS},
        probe::{Question, Wire, redis_call},
        process::{Folder, Process, Program, Signal, find},
        running::{Body, Inner, Node, Running, Sharing},
    },
};

/// The name under which the sentinels know the server.
const MASTER: &str = "mymaster";

const HOST: &str = "127.0.0.1";

/// How long the members may take to find one another.
const PATIENCE: Duration = Duration::from_secs(60);

/// One process: its port and its arguments, or a configuration that it may write to.
struct Member {
    port: Port,
    how: How,
}

enum How {
    Arguments(Vec<String>),
    Configuration(String),
}

/// Writes its first argument into a file and is a sentinel by it: in the usual images the server is another user than
/// the one that files are copied in by.
const SENTINEL: [&str; 3] =
    ["sh", "-c", "printf '%s' \"$0\" >/tmp/sentinel.conf && exec redis-server /tmp/sentinel.conf --sentinel"];

/// Starts all members: in containers, else as programs.
pub(crate) async fn start(server: &Server) -> Verdict<Result<Running, (String, String)>> {
    let kind = server.kind;
    let mut tried = Vec::new();
    for image in kind.images() {
        let way = format!("containers {}:{}", image.name, image.tag);
        let members = plan(kind)?;
        let nodes = try_join_all(members.into_iter().map(|member| contained(kind, &image, member))).await;
        match joined(kind, nodes, way).await {
            Ok(running) => return Ok(Ok(running)),
            Err(failure) => tried.push(failure.seen().to_owned()),
        }
    }
    let Some(path) = kind.programs().iter().find_map(|name| find(name)) else {
        let names = kind.programs().join(" or ");
        return Ok(Err((tried.join("; "), format!("there is no {names}"))));
    };
    let way = format!("programs {}", path.display());
    let nodes = try_join_all(plan(kind)?.into_iter().map(|member| program(kind, path.clone(), member))).await;
    match joined(kind, nodes, way).await {
        Ok(running) => Ok(Ok(running)),
        Err(failure) => Ok(Err((tried.join("; "), failure.seen().to_owned()))),
    }
}

/// Waits until the members are one server.
async fn joined(kind: Kind, nodes: Verdict<Vec<Node>>, way: String) -> Verdict<Running> {
    let nodes = nodes?;
    let ports: Vec<u16> = nodes.iter().map(Node::port).collect();
    if kind == Kind::RedisCluster {
        join_cluster(&ports).await?;
    }
    settle(kind, &ports).await?;
    let product = nodes[0].ready().await?;
    let reached = match kind {
        Kind::RedisSentinel => &nodes[3..],
        _ => &nodes[..],
    };
    let url = reached.iter().map(Node::url).collect::<Vec<_>>().join(",");
    Ok(Running::new(Inner { kind, url, way, product, nodes, sharing: Sharing::Own, is_durable: false }))
}

/// The members of a server of this kind, those that hold data first.
fn plan(kind: Kind) -> Verdict<Vec<Member>> {
    let free = if kind == Kind::RedisCluster { port::free_with_bus } else { port::free };
    let ports = (0..6).map(|_| free()).collect::<Verdict<Vec<_>>>()?;
    let watched = ports[0].number();
    let member = |(number, held): (usize, Port)| {
        let port = held.number();
        let more = match (kind, number) {
            (Kind::RedisCluster, _) => "--cluster-enabled yes --cluster-config-file nodes.conf \
                 --cluster-node-timeout 1000 --cluster-require-full-coverage no"
                .to_owned(),
            (_, 0) => "--repl-diskless-sync-delay 0".to_owned(),
            (_, 1 | 2) => format!("--repl-diskless-sync-delay 0 --replicaof {HOST} {watched}"),
            _ => {
                return Member {
                    port: held,
                    how: How::Configuration(format!(
                        "port {port}\nbind {HOST}\nsentinel monitor {MASTER} {HOST} {watched} 2\n\
                         sentinel down-after-milliseconds {MASTER} 1000\n\
                         sentinel failover-timeout {MASTER} 5000\nsentinel parallel-syncs {MASTER} 1\n"
                    )),
                };
            }
        };
        let own = format!("--port {port} --bind {HOST} {more}");
        let own = own.split_whitespace().map(ToOwned::to_owned);
        Member {
            port: held,
            how: How::Arguments(REDIS_ARGS.map(ToOwned::to_owned).into_iter().chain(own).collect()),
        }
    };
    Ok(ports.into_iter().enumerate().map(member).collect())
}

fn node(kind: Kind, body: Body, held: Port) -> Node {
    let port = held.number();
    let question = Question { wire: Wire::Redis, host: HOST.into(), port, login: None };
    Node::new(body, question, kind.url(HOST, port), Some(held))
}

async fn contained(kind: Kind, image: &Image, member: Member) -> Verdict<Node> {
    let mut image = image.clone();
    let arguments = match member.how {
        How::Arguments(arguments) => arguments,
        How::Configuration(text) => {
            image.command = &SENTINEL;
            vec![text]
        }
    };
    let order =
        Order { image, arguments, files: Vec::new(), port: member.port.number(), network: Network::Host };
    let node = node(kind, Body::Container(Container::run(order).await?), member.port);
    node.ready().await?;
    Ok(node)
}

async fn program(kind: Kind, path: PathBuf, member: Member) -> Verdict<Node> {
    let folder = Folder::new(&[])?;
    let arguments = match member.how {
        How::Arguments(arguments) => arguments,
        How::Configuration(text) => {
            folder.write("sentinel.conf", text.as_bytes())?;
            ["sentinel.conf", "--sentinel"].map(ToOwned::to_owned).to_vec()
        }
    };
    let program = Program { path, arguments, before: None, last: Signal::Kill, stop: Signal::Term };
    let node = node(kind, Body::Process(Process::run(program, folder).await?), member.port);
    node.ready().await?;
    Ok(node)
}

/// Makes one call to one member.
async fn call(port: u16, words: &[&str]) -> Result<String, String> {
    let mut stream = TcpStream::connect((HOST, port)).await.map_err(|error| error.to_string())?;
    redis_call(&mut stream, words).await
}

/// As [`call`], for what must be done.
async fn tell(port: u16, words: &[&str]) -> Verdict<String> {
    let failed = |seen: String| Failure::new("the members of a cluster do as they are told", seen);
    match call(port, words).await {
        Ok(answer) if answer.starts_with('-') => Err(failed(format!("{}: {answer}", words[..2].join(" ")))),
        Ok(answer) => Ok(answer),
        Err(error) => Err(failed(error)),
    }
}

/// Makes a cluster of six: the first three are masters, each of the others a replica of one.
async fn join_cluster(ports: &[u16]) -> Verdict {
    const SLOTS: usize = 16_384;
    let mut ids = Vec::new();
    for (number, &port) in ports.iter().enumerate() {
        tell(port, &["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await?;
        ids.push(tell(port, &["CLUSTER", "MYID"]).await?);
        if number < 3 {
            let slots = SLOTS * number / 3..SLOTS * (number + 1) / 3;
            let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
            let words: Vec<&str> =
                ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
            tell(port, &words).await?;
        } else {
            tell(ports[0], &["CLUSTER", "MEET", HOST, &port.to_string()]).await?;
        }
    }
    for &port in &ports[1..3] {
        tell(ports[0], &["CLUSTER", "MEET", HOST, &port.to_string()]).await?;
    }
    for &port in ports {
        wait(port, &["CLUSTER", "INFO"], |info| info.contains("cluster_known_nodes:6")).await?;
    }
    for (number, &port) in ports.iter().enumerate().skip(3) {
        let start = Instant::now();
        // Refused until the gossip about the master's slots has come.
        while let Err(failure) = tell(port, &["CLUSTER", "REPLICATE", &ids[number - 3]]).await {
            if start.elapsed() > PATIENCE {
                return Err(failure);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    for &port in &ports[3..] {
        wait(port, &["INFO", "replication"], |info| info.contains("master_link_status:up")).await?;
    }
    Ok(())
}

/// Waits until the members that run agree with one another.
pub(crate) async fn settle(kind: Kind, ports: &[u16]) -> Verdict {
    match kind {
        Kind::RedisCluster => {
            for &port in ports {
                wait(port, &["CLUSTER", "INFO"], |info| info.contains("cluster_state:ok")).await?;
            }
        }
        Kind::RedisSentinel => {
            for &port in &ports[3..] {
                wait(port, &["SENTINEL", "CKQUORUM", MASTER], |answer| answer.starts_with("+OK 3")).await?;
            }
            let start = Instant::now();
            while !has_online_replicas(&ports[..3]).await {
                if start.elapsed() > PATIENCE {
                    return Err(Failure::new("replicas find their master", "none has two of them"));
                }
                sleep(Duration::from_millis(50)).await;
            }
            // Each of them looks at the master every ten seconds only, unless it has news.
            for &port in &ports[3..] {
                let is_known = |answer: &str| answer.contains("num-slaves\r\n$1\r\n2");
                wait_raw(port, &["SENTINEL", "MASTER", MASTER], is_known).await?;
            }
        }
        _ => {}
    }
    Ok(())
}

async fn has_online_replicas(ports: &[u16]) -> bool {
    for &port in ports {
        let info = call(port, &["INFO", "replication"]).await.unwrap_or_default();
        if info.contains("role:master") && info.matches("state=online").count() == 2 {
            return true;
        }
    }
    false
}

async fn wait(port: u16, words: &[&str], is_good: impl Fn(&str) -> bool) -> Verdict {
    let start = Instant::now();
    loop {
        let answer = call(port, words).await.unwrap_or_else(|error| error);
        if is_good(&answer) {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            let seen = format!("{} answers {answer}", words.join(" "));
            return Err(Failure::new("the members of a server find one another", seen));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// As [`wait`], for an answer of many lines as it is sent.
async fn wait_raw(port: u16, words: &[&str], is_good: impl Fn(&str) -> bool) -> Verdict {
    use tokio::io::AsyncReadExt;

    let start = Instant::now();
    loop {
        let asked = async {
            let mut stream = TcpStream::connect((HOST, port)).await.ok()?;
            let head = redis_call(&mut stream, words).await.ok()?;
            let mut rest = vec![0; 16 * 1024];
            let read =
                tokio::time::timeout(Duration::from_secs(1), stream.read(&mut rest)).await.ok()?.ok()?;
            Some(format!("{head}\r\n{}", String::from_utf8_lossy(&rest[..read])))
        };
        if asked.await.is_some_and(|answer| is_good(&answer)) {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            let seen = format!("{} does not answer that all are there", words.join(" "));
            return Err(Failure::new("the members of a server find one another", seen));
        }
        sleep(Duration::from_millis(100)).await;
    }
}
