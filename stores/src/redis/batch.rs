//! One connection, on which commands that are sent at about the same time travel together.

use std::{
    io,
    mem::take,
    sync::{Arc, Mutex, PoisonError},
};

use redis::{Cmd, Pipeline, RedisResult, Value, aio::MultiplexedConnection};
use tokio::{sync::oneshot, task::yield_now};

/// How many commands travel together at most. While a server works at these the next ones are collected; with all in one
/// batch it would have nothing to do before, and everybody else nothing meanwhile.
const MOST: usize = 24;

/// A connection that writes the commands of many requests at a time.
///
/// The driver writes a command as soon as it has it, and for a small command that write, and the server's own for its
/// reply, cost more than all the rest. So here the first command waits until the thread has run what else can run now:
/// other requests, whose commands go with it. With nothing else to run that is at once.
pub(super) struct Batching {
    connection: MultiplexedConnection,
    next: Mutex<Batch>,
}

/// Commands, and where their replies go, in the same order.
#[derive(Default)]
struct Batch {
    commands: Pipeline,
    replies: Vec<oneshot::Sender<RedisResult<Value>>>,
}

/// What a command that was added finds.
enum Added {
    /// It begins a batch, which somebody must send soon.
    First,
    /// Somebody will send it.
    Later,
    /// With it a batch is full.
    Full(Batch),
}

impl Batching {
    pub(super) fn new(connection: MultiplexedConnection) -> Arc<Self> {
        Arc::new(Self { connection, next: Mutex::default() })
    }

    /// The connection itself, for commands that travel by themselves.
    pub(super) fn alone(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// Sends a command once and returns its reply, or the error that the server replied.
    pub(super) async fn send(self: &Arc<Self>, command: Cmd) -> RedisResult<Value> {
        let (reply, replied) = oneshot::channel();
        // Tasks of their own, so that a request that is given up takes nobody else's command along.
        match self.add(command, reply) {
            Added::First => drop(tokio::spawn(Arc::clone(self).send_soon())),
            Added::Full(batch) => drop(tokio::spawn(batch.send(self.alone()))),
            Added::Later => {}
        }
        // Nobody drops a batch but a runtime that ends.
        replied.await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::BrokenPipe).into()))
    }

    fn add(&self, command: Cmd, reply: oneshot::Sender<RedisResult<Value>>) -> Added {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.commands.add_command(command);
        next.replies.push(reply);
        match next.replies.len() {
            1 => Added::First,
            MOST.. => Added::Full(take(&mut next)),
            _ => Added::Later,
        }
    }

    async fn send_soon(self: Arc<Self>) {
        yield_now().await;
        // Empty if it became full meanwhile, or what was begun since.
        let batch = take(&mut *self.next.lock().unwrap_or_else(PoisonError::into_inner));
        batch.send(self.alone()).await;
    }
}

impl Batch {
    /// Sends the commands and hands their replies out. Whoever waits no longer is no reason not to.
    async fn send(self, mut connection: MultiplexedConnection) {
        if self.replies.is_empty() {
            return;
        }
        let values = connection.send_packed_commands(&self.commands, 0, self.replies.len()).await;
        let mut values = values.map(Vec::into_iter);
        for reply in self.replies {
            let value = match &mut values {
                // As many as there are commands; the driver counts.
                Ok(values) => values.next().unwrap_or_default().extract_error(),
                Err(error) => Err(error.clone()),
            };
            _ = reply.send(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::atomic::{AtomicUsize, Ordering},
        task::{Context, Poll},
        time::Duration,
    };

    use redis::{AsyncConnectionConfig, IntoConnectionInfo};
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

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

    /// A connection to a server of one word: it answers each command with that command's last argument, or with an error
    /// if that is `wrong`, and hangs up at `bye`. Besides, how many writes there were.
    async fn connect() -> (Arc<Batching>, Arc<AtomicUsize>) {
        let (ours, theirs) = duplex(1 << 16);
        tokio::spawn(serve(theirs));
        let writes = Arc::new(AtomicUsize::new(0));
        let ours = Counting { stream: ours, writes: Arc::clone(&writes) };
        let info = "redis://server/?protocol=resp3".into_connection_info().expect("an address");
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(10)));
        let made = MultiplexedConnection::new_with_config(info.redis_settings(), ours, config).await;
        let (connection, driver) = made.expect("it answers everything");
        tokio::spawn(driver);
        writes.store(0, Ordering::Relaxed);
        (Batching::new(connection), writes)
    }

    async fn serve(mut stream: DuplexStream) {
        let (mut input, mut chunk) = (Vec::new(), [0; 4096]);
        while let Ok(read @ 1..) = stream.read(&mut chunk).await {
            input.extend_from_slice(&chunk[..read]);
            while let Some((used, word)) = command(&input) {
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
        let (connection, writes) = connect().await;
        let replies = all(&connection, (0..10 * MOST).map(|number| number.to_string())).await;
        for (number, reply) in replies.into_iter().enumerate() {
            assert_eq!(reply, Ok(Value::SimpleString(number.to_string())));
        }
        let writes = writes.load(Ordering::Relaxed);
        assert!(writes <= MOST, "{writes} writes");
    }

    #[tokio::test]
    async fn one_that_the_server_refuses_spoils_no_other() {
        let (connection, _) = connect().await;
        let words = ["one", "wrong", "two"].map(str::to_owned);
        let replies = all(&connection, words.into_iter()).await;
        assert_eq!(replies[0], Ok(Value::SimpleString("one".to_owned())));
        assert_eq!(replies[1].as_ref().unwrap_err().detail(), Some("wrong"));
        assert_eq!(replies[2], Ok(Value::SimpleString("two".to_owned())));
    }

    #[tokio::test]
    async fn a_request_that_is_given_up_takes_no_other_command_along() {
        let (connection, _) = connect().await;
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
    async fn all_that_wait_hear_of_the_end_of_the_connection() {
        let (connection, _) = connect().await;
        let words = ["one", "bye", "two"].map(str::to_owned);
        let replies = all(&connection, words.into_iter()).await;
        assert!(replies.iter().all(|reply| reply.as_ref().is_err_and(redis::RedisError::is_io_error)));
        assert!(connection.send(echo("late")).await.is_err());
    }
}
