//! The fault proxy before a server that answers each line with its number.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use cloakroom_conformance::FaultProxy;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

/// Longer than anything takes that is to happen, shorter than a test may wait for what is not.
const A_WHILE: Duration = Duration::from_millis(80);

/// Counts the lines that reach it, and answers `line N`.
async fn server() -> (Arc<AtomicU64>, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("the system has a port");
    let port = listener.local_addr().expect("a listener has an address").port();
    let lines = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&lines);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                    let number = counter.fetch_add(1, SeqCst) + 1;
                    if stream.write_all(format!("line {number}\n").as_bytes()).await.is_err() {
                        break;
                    }
                    line.clear();
                }
            });
        }
    });
    (lines, port)
}

async fn proxied() -> (FaultProxy, Arc<AtomicU64>) {
    let (lines, port) = server().await;
    (FaultProxy::before("127.0.0.1", port).await.expect("a proxy can listen"), lines)
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn of(proxy: &FaultProxy) -> io::Result<Self> {
        Ok(Self(BufReader::new(TcpStream::connect(proxy.address()).await?)))
    }

    async fn say(&mut self, line: &str) -> io::Result<()> {
        self.0.write_all(format!("{line}\n").as_bytes()).await
    }

    /// The next line, or an error if the connection ends before there is one.
    async fn hear(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    async fn ask(&mut self, line: &str) -> io::Result<String> {
        self.say(line).await?;
        self.hear().await
    }
}

/// Asks on a connection of its own.
async fn ask(proxy: &FaultProxy, line: &str) -> io::Result<String> {
    Client::of(proxy).await?.ask(line).await
}

#[tokio::test]
async fn everything_passes_and_is_counted() {
    let (proxy, _) = proxied().await;
    let (mut one, mut two) = (Client::of(&proxy).await.unwrap(), Client::of(&proxy).await.unwrap());
    assert_eq!(one.ask("first").await.unwrap(), "line 1");
    assert_eq!(two.ask("second").await.unwrap(), "line 2");
    assert_eq!(one.ask("third").await.unwrap(), "line 3");
    let traffic = proxy.traffic();
    assert_eq!((traffic.connections, traffic.open, traffic.round_trips), (2, 2, 3));
    assert_eq!((traffic.bytes_up, traffic.bytes_down), (19, 21));
    proxy.reset_traffic();
    assert_eq!((proxy.traffic().round_trips, proxy.traffic().open), (0, 2));
}

#[tokio::test]
async fn requests_sent_together_are_one_round_trip() {
    let (proxy, _) = proxied().await;
    let mut client = Client::of(&proxy).await.unwrap();
    client.say("first\nsecond\nthird").await.unwrap();
    for number in 1..=3 {
        assert_eq!(client.hear().await.unwrap(), format!("line {number}"));
    }
    assert_eq!(proxy.traffic().round_trips, 1);
}

#[tokio::test]
async fn a_delay_holds_each_reply_back() {
    let (proxy, lines) = proxied().await;
    let mut client = Client::of(&proxy).await.unwrap();
    proxy.delay(A_WHILE);
    let start = Instant::now();
    assert_eq!(client.ask("first").await.unwrap(), "line 1");
    assert!(start.elapsed() >= A_WHILE);
    assert_eq!(lines.load(SeqCst), 1);
}

#[tokio::test]
async fn a_throttle_spreads_bytes_over_time() {
    let (proxy, _) = proxied().await;
    proxy.throttle(2_000);
    let mut client = Client::of(&proxy).await.unwrap();
    let start = Instant::now();
    client.ask(&"x".repeat(199)).await.unwrap();
    // Of 200 bytes at 100 each, the second waits for the first.
    assert!(start.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_lost_reply_is_that_of_a_request_that_was_applied() {
    let (proxy, lines) = proxied().await;
    let mut client = Client::of(&proxy).await.unwrap();
    client.ask("warm-up").await.unwrap();
    proxy.lose_next_reply();
    assert!(client.ask("first").await.is_err());
    assert_eq!((lines.load(SeqCst), proxy.traffic().lost_replies), (2, 1));
    let mut client = Client::of(&proxy).await.unwrap();
    assert_eq!(client.ask("second").await.unwrap(), "line 3");
}

#[tokio::test]
async fn only_the_reply_to_the_marked_request_is_lost() {
    let (proxy, lines) = proxied().await;
    let mut client = Client::of(&proxy).await.unwrap();
    proxy.lose_reply_to(b"the mark");
    assert_eq!(client.ask("no mark").await.unwrap(), "line 1");
    // The mark comes in two pieces.
    client.0.write_all(b"with the m").await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(client.ask("ark in it").await.is_err());
    assert_eq!(lines.load(SeqCst), 2);
}

#[tokio::test]
async fn a_lost_request_is_not_applied() {
    let (proxy, lines) = proxied().await;
    let mut client = Client::of(&proxy).await.unwrap();
    proxy.lose_request(b"mark");
    assert!(client.ask("mark").await.is_err());
    assert_eq!((lines.load(SeqCst), proxy.traffic().lost_requests), (0, 1));
}

#[tokio::test]
async fn a_cut_lets_so_many_bytes_of_replies_pass() {
    let (proxy, _) = proxied().await;
    let mut client = Client::of(&proxy).await.unwrap();
    proxy.cut_after(10);
    assert_eq!(client.ask("first").await.unwrap(), "line 1");
    assert!(client.ask("second").await.is_err());
    assert_eq!(proxy.traffic().bytes_down, 10);
    let mut client = Client::of(&proxy).await.unwrap();
    assert_eq!(client.ask("third").await.unwrap(), "line 3");
}

#[tokio::test]
async fn what_a_stall_held_back_comes_when_it_ends() {
    let (proxy, lines) = proxied().await;
    let mut client = Client::of(&proxy).await.unwrap();
    client.ask("first").await.unwrap();
    proxy.stall();
    client.say("second").await.unwrap();
    assert!(timeout(A_WHILE, client.hear()).await.is_err());
    assert_eq!(lines.load(SeqCst), 1);
    let mut other = Client::of(&proxy).await.unwrap();
    other.say("third").await.unwrap();
    proxy.heal().await;
    assert!(client.hear().await.unwrap().starts_with("line"));
    assert!(other.hear().await.unwrap().starts_with("line"));
    assert_eq!(lines.load(SeqCst), 3);
}

#[tokio::test]
async fn what_a_half_open_connection_swallowed_never_comes() {
    let (proxy, lines) = proxied().await;
    let mut client = Client::of(&proxy).await.unwrap();
    client.ask("first").await.unwrap();
    proxy.half_open();
    client.say("second").await.unwrap();
    assert!(timeout(A_WHILE, client.hear()).await.is_err());
    proxy.heal().await;
    client.say("third").await.unwrap();
    assert!(timeout(A_WHILE, client.hear()).await.is_err());
    assert_eq!(lines.load(SeqCst), 1);
    let mut other = Client::of(&proxy).await.unwrap();
    assert_eq!(other.ask("fourth").await.unwrap(), "line 2");
}

#[tokio::test]
async fn a_reset_ends_connections_and_takes_new_ones() {
    let (proxy, _) = proxied().await;
    let mut client = Client::of(&proxy).await.unwrap();
    client.ask("first").await.unwrap();
    proxy.reset();
    let error = client.hear().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let mut client = Client::of(&proxy).await.unwrap();
    assert_eq!(client.ask("second").await.unwrap(), "line 2");
}

#[tokio::test]
async fn a_refusal_ends_with_healing_at_the_same_address() {
    let (proxy, _) = proxied().await;
    let mut client = Client::of(&proxy).await.unwrap();
    client.ask("first").await.unwrap();
    let address = proxy.address();
    for _ in 0..3 {
        proxy.refuse().await;
        assert!(client.ask("second").await.is_err());
        let refused = TcpStream::connect(&address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        proxy.heal().await;
        client = Client::of(&proxy).await.unwrap();
        client.ask("third").await.unwrap();
    }
    assert_eq!(proxy.address(), address);
}

#[tokio::test]
async fn those_that_are_turned_away_are_counted() {
    let (proxy, lines) = proxied().await;
    proxy.turn_away();
    for _ in 0..5 {
        assert!(ask(&proxy, "anybody there").await.is_err());
    }
    assert_eq!((proxy.traffic().connections, lines.load(SeqCst)), (5, 0));
    assert_eq!(proxy.most_connections_within(Duration::from_secs(60)), 5);
    proxy.heal().await;
    assert!(Client::of(&proxy).await.unwrap().ask("now").await.is_ok());
}

#[tokio::test]
async fn a_server_that_is_not_there_ends_the_connection() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = unused.local_addr().unwrap().port();
    drop(unused);
    let proxy = FaultProxy::before("127.0.0.1", port).await.unwrap();
    assert!(ask(&proxy, "first").await.is_err());
    assert_eq!(proxy.traffic().open, 0);
}

#[tokio::test]
async fn the_last_clone_takes_the_proxy_with_it() {
    let (proxy, _) = proxied().await;
    let mut client = Client::of(&proxy).await.unwrap();
    let clone = proxy.clone();
    drop(proxy);
    assert_eq!(client.ask("first").await.unwrap(), "line 1");
    drop(clone);
    assert!(client.ask("second").await.is_err());
}
