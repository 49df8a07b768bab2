use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;
use redis::{AsyncConnectionConfig, IntoConnectionInfo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    sync::watch,
};

use super::*;

/// Our end of a connection, which counts what it writes.
struct Counting {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A server of one word: it answers each command with that command's last argument, or with an error if that is
/// `wrong`, and hangs up at `bye`.
struct Server {
    /// How often we have written to it.
    writes: Arc<AtomicUsize>,
    /// Whether it reads.
    reads: watch::Sender<bool>,
    /// What it was told.
    words: Arc<Mutex<Vec<String>>>,
}

/// A connection to such a server.
async fn connect() -> (Arc<Batching>, Server) {
    let (ours, theirs) = duplex(1 << 10);
    let (reads, is_reading) = watch::channel(true);
    let words = Arc::default();
    tokio::spawn(serve(theirs, is_reading, Arc::clone(&words)));
    let writes = Arc::new(AtomicUsize::new(0));
    let ours = Counting { stream: ours, writes: Arc::clone(&writes) };
    let info = "redis://server/?protocol=resp3".into_connection_info().expect("an address");
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(Some(Duration::from_secs(10)))
        .set_pipeline_buffer_size(IN_LINE);
    let made = MultiplexedConnection::new_with_config(info.redis_settings(), ours, config).await;
    let (connection, driver) = made.expect("it answers everything");
    tokio::spawn(driver);
    writes.store(0, Ordering::Relaxed);
    lock(&words).clear();
    (Arc::new(Batching::new(connection)), Server { writes, reads, words })
}

async fn serve(
    mut stream: DuplexStream,
    mut is_reading: watch::Receiver<bool>,
    words: Arc<Mutex<Vec<String>>>,
) {
    let (mut input, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        // The one who tells it is gone with the test, or with interest in it.
        _ = is_reading.wait_for(|reads| *reads).await;
        let Ok(read @ 1..) = stream.read(&mut chunk).await else { return };
        input.extend_from_slice(&chunk[..read]);
        while let Some((used, word)) = command(&input) {
            lock(&words).push(word.clone());
            let reply = match &*word {
                "bye" => return,
                "wrong" => "-ERR wrong\r\n".to_owned(),
                _ => format!("+{word}\r\n"),
            };
            input.drain(..used);
            if stream.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// Returns the last argument of the first command, and how long that command is; nothing if it has not all come.
fn command(input: &[u8]) -> Option<(usize, String)> {
    let text = std::str::from_utf8(input).expect("words");
    let mut lines = text.split_inclusive("\r\n").take_while(|line| line.ends_with("\r\n"));
    let (mut used, mut last) = (0, "");
    let first = lines.next()?;
    used += first.len();
    let count: usize = first.trim_end().strip_prefix('*')?.parse().ok()?;
    for _ in 0..count {
        let (length, word) = (lines.next()?, lines.next()?);
        used += length.len() + word.len();
        last = word.trim_end();
    }
    Some((used, last.to_owned()))
}

fn echo(word: &str) -> Cmd {
    let mut command = redis::cmd("ECHO");
    command.arg(word);
    command
}

async fn all(connection: &Arc<Batching>, words: impl Iterator<Item = String>) -> Vec<RedisResult<Value>> {
    let sent: Vec<_> = words
        .map(|word| {
            let connection = Arc::clone(connection);
            tokio::spawn(async move { connection.send(echo(&word)).await })
        })
        .collect();
    let mut replies = Vec::new();
    for one in sent {
        replies.push(one.await.expect("no panic"));
    }
    replies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn commands_of_the_same_moment_are_written_together_and_each_has_its_own_reply() {
    let (connection, server) = connect().await;
    // Begun by a task, and so all in the queue of one thread.
    let begun =
        tokio::spawn(async move { all(&connection, (0..10 * MOST).map(|number| number.to_string())).await });
    let replies = begun.await.expect("no panic");
    for (number, reply) in replies.into_iter().enumerate() {
        assert_eq!(reply, Ok(Value::SimpleString(number.to_string())));
    }
    let writes = server.writes.load(Ordering::Relaxed);
    assert!(writes <= 20, "{writes} writes");
}

#[test]
fn a_batch_has_so_many_commands_and_bytes_and_no_more() {
    let (waiting, leaving) = (Mutex::default(), Mutex::default());
    let line = Line { waiting, leaving, enough: AtomicUsize::new(MOST) };
    let add = |bytes| line.add(Pending { command: echo("word"), bytes, reply: oneshot::channel().0 });
    let lengths =
        || std::iter::from_fn(|| Some(line.take().len()).filter(|&many| many > 0)).collect::<Vec<_>>();
    assert!(add(10) == Added::First);
    assert!((2..MOST).all(|_| add(10) == Added::Between));
    assert!(add(10) == Added::Enough);
    // Nobody needs to be told twice.
    assert!((0..MOST).all(|_| add(10) == Added::Between));
    assert_eq!(lengths(), [MOST, MOST]);
    // Again from the beginning. One that is large travels alone.
    assert!(add(10) == Added::First);
    assert!(add(ROOM) == Added::Enough);
    assert!(add(10) == Added::Between);
    assert_eq!(lengths(), [1, 1, 1]);
    assert!(add(10) == Added::First);
    assert_eq!(lengths(), [1]);
    // With replies of 16 KiB there are four together, and with larger ones each is alone.
    line.learn(3, 3 << 14);
    assert!([10, 10, 10, 10, 10].map(add)[3] == Added::Enough);
    assert_eq!(lengths(), [4, 1]);
    line.learn(1, 1 << 20);
    assert!([10, 10].map(add) == [Added::Enough, Added::Between]);
    assert_eq!(lengths(), [1, 1]);
    // Small ones do not make that forgotten at once.
    line.learn(5, 0);
    assert!([10, 10, 10].map(add) == [Added::First, Added::Enough, Added::Between]);
    assert_eq!(lengths(), [2, 1]);
}

#[tokio::test]
async fn replies_tell_how_large_they_are() {
    let (connection, _server) = connect().await;
    connection.send(echo(&"x".repeat(ROOM / 4))).await.expect("a reply");
    assert_eq!(connection.line.enough.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn one_that_the_server_refuses_spoils_no_other() {
    let (connection, server) = connect().await;
    let words = ["one", "wrong", "two"].map(str::to_owned);
    let replies = all(&connection, words.into_iter()).await;
    assert_eq!(server.writes.load(Ordering::Relaxed), 1, "they travel together");
    assert_eq!(replies[0], Ok(Value::SimpleString("one".to_owned())));
    assert_eq!(replies[1].as_ref().unwrap_err().detail(), Some("wrong"));
    assert_eq!(replies[2], Ok(Value::SimpleString("two".to_owned())));
}

#[tokio::test]
async fn a_request_that_is_given_up_takes_no_other_command_along() {
    let (connection, _server) = connect().await;
    let first = {
        let connection = Arc::clone(&connection);
        tokio::spawn(async move { connection.send(echo("first")).await })
    };
    let second = {
        let connection = Arc::clone(&connection);
        tokio::spawn(async move { connection.send(echo("second")).await })
    };
    yield_now().await;
    first.abort();
    assert_eq!(second.await.expect("no panic"), Ok(Value::SimpleString("second".to_owned())));
}

#[tokio::test]
async fn what_is_given_up_before_it_was_sent_is_not_sent_later() {
    let (connection, _server) = connect().await;
    assert!(connection.send(echo("bye")).now_or_never().is_none());
    assert_eq!(connection.send(echo("word")).await, Ok(Value::SimpleString("word".to_owned())));
}

#[tokio::test]
async fn what_leaves_the_line_is_written_in_its_order_whoever_waits_for_it() {
    let (connection, server) = connect().await;
    // Each command is a batch. They are more than the driver has places unless told otherwise, and more than a task of
    // tokio's may do at a time.
    connection.line.enough.store(1, Ordering::Relaxed);
    server.reads.send_replace(false);
    let words: Vec<String> = (0..400).map(|number| number.to_string()).collect();
    for word in &words {
        connection.line.add(Pending { command: echo(word), bytes: 1, reply: oneshot::channel().0 });
    }
    assert!(connection.line.hand_over(&connection.alone()).is_empty(), "nobody waits any more");
    let mut replies = Vec::new();
    for word in &words {
        let (reply, replied) = oneshot::channel();
        replies.push(replied);
        connection.line.add(Pending { command: echo(word), bytes: 1, reply });
    }
    let sent = connection.line.hand_over(&connection.alone());
    drop(replies);
    server.reads.send_replace(true);
    // Nobody polls these.
    assert_eq!(sent.len(), words.len());
    for _ in 0..1000 {
        if lock(&server.words).len() == words.len() {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(*lock(&server.words), words);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_caller_depends_on_the_runtime_of_another() {
    let (connection, _server) = connect().await;
    let elsewhere = Arc::clone(&connection);
    let abandoned = std::thread::spawn(move || {
        // Begins a batch in a runtime, in none, and is gone.
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        _ = runtime.block_on(async { elsewhere.send(echo("first")).now_or_never() });
        drop(runtime);
        _ = elsewhere.send(echo("second")).now_or_never();
    });
    abandoned.join().expect("no panic");
    let reply = tokio::time::timeout(Duration::from_secs(10), connection.send(echo("third"))).await;
    assert_eq!(reply.expect("it is sent"), Ok(Value::SimpleString("third".to_owned())));
}

#[tokio::test]
async fn nobody_waits_for_a_runtime_that_has_ended() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (connection, _server) = runtime.spawn(connect()).await.expect("no panic");
    runtime.shutdown_background();
    for _ in 0..3 {
        let reply = tokio::time::timeout(Duration::from_secs(10), connection.send(echo("late"))).await;
        assert!(reply.expect("an error at once").is_err_and(|error| error.is_io_error()));
    }
}

#[tokio::test]
async fn all_that_wait_hear_of_the_end_of_the_connection() {
    let (connection, _server) = connect().await;
    let words = ["one", "bye", "two"].map(str::to_owned);
    let replies = all(&connection, words.into_iter()).await;
    assert!(replies.iter().all(|reply| reply.as_ref().is_err_and(redis::RedisError::is_io_error)));
    assert!(connection.send(echo("late")).await.is_err());
}
