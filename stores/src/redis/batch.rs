//! One connection, on which commands that are sent at about the same time travel together.

use std::{
    io,
    mem::{replace, take},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use futures_util::future::{join_all, select};
use redis::{Arg, Cmd, Pipeline, RedisResult, Value, aio::MultiplexedConnection};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot},
    task::{JoinSet, unconstrained, yield_now},
    time::sleep,
};

/// How many commands travel together at most. The server begins to work when it has them, while the next ones gather:
/// with all in one batch it would have nothing to do before, and everybody else nothing meanwhile.
const MOST: usize = 24;

/// How many bytes of commands travel together, and about how many of replies: nobody has a reply before the last of a batch
/// is there. What is larger travels alone.
const ROOM: usize = 64 << 10;

/// After how long another thread sends what waits, if it is free and the one that was to send is busy with something else.
const PAUSE: Duration = Duration::from_millis(1);

/// How many batches may wait in the driver to be written: as many as there are, so that none is kept out of its turn.
pub(super) const IN_LINE: usize = Semaphore::MAX_PERMITS;

/// A connection that is given the commands of many requests at a time.
///
/// The driver writes each command as soon as it has it. For a small one that write, and the server's own for its reply,
/// cost more than all the rest. So the first command waits until a thread of the runtime has nothing else to run, such as
/// requests, whose commands then go with it.
///
/// Commands reach the driver in the order in which they were sent here, and one that was given up before is left out. So
/// nothing is written later, over what its sender has written since. The tasks that send belong to the runtime in which
/// the connection was made, so that no caller depends on the runtime of another; they end with this value.
pub(super) struct Batching {
    connection: MultiplexedConnection,
    line: Arc<Line>,
    runtime: Handle,
    tasks: Mutex<JoinSet<()>>,
}

/// Commands that are about to be sent.
struct Line {
    waiting: Mutex<Waiting>,
    /// Held while a batch leaves the line for the driver, so that none overtakes another.
    leaving: Mutex<()>,
    /// How many commands make a batch, as their replies have been lately.
    enough: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    commands: Vec<Pending>,
    /// How long they are together.
    bytes: usize,
    /// Whether somebody was told that there is enough.
    is_told: bool,
}

/// A command, how long it is, and where its reply goes.
struct Pending {
    command: Cmd,
    bytes: usize,
    reply: oneshot::Sender<RedisResult<Value>>,
}

/// What is to be done about a command in the line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Added {
    /// It is the first: somebody must send it soon.
    First,
    /// With it there is enough for a batch, which somebody must send now.
    Enough,
    /// Nothing.
    Between,
}

impl Batching {
    /// Uses a connection of the runtime this is called in.
    pub(super) fn new(connection: MultiplexedConnection) -> Self {
        let (waiting, leaving) = (Mutex::default(), Mutex::default());
        let line = Arc::new(Line { waiting, leaving, enough: AtomicUsize::new(MOST) });
        Self { connection, line, runtime: Handle::current(), tasks: Mutex::default() }
    }

    /// The connection itself, for commands that travel by themselves.
    pub(super) fn alone(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// Sends a command once and returns its reply, or the error that the server replied.
    pub(super) async fn send(&self, command: Cmd) -> RedisResult<Value> {
        let (reply, replied) = oneshot::channel();
        let added = self.line.add(Pending { bytes: length(&command), command, reply });
        if added != Added::Between {
            let task = empty(Attended(Some(Arc::clone(&self.line))), self.alone(), added);
            let mut tasks = lock(&self.tasks);
            // They need not be remembered once they have ended.
            while tasks.try_join_next().is_some() {}
            tasks.spawn_on(task, &self.runtime);
        }
        // Nobody drops it but a runtime that ends, or a panic, and the connection with it.
        replied.await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::BrokenPipe).into()))
    }
}

impl Line {
    fn add(&self, one: Pending) -> Added {
        let mut waiting = lock(&self.waiting);
        waiting.bytes += one.bytes;
        waiting.commands.push(one);
        let is_enough =
            waiting.bytes >= ROOM || waiting.commands.len() >= self.enough.load(Ordering::Relaxed);
        if is_enough && !replace(&mut waiting.is_told, true) {
            Added::Enough
        } else if waiting.commands.len() == 1 {
            Added::First
        } else {
            Added::Between
        }
    }

    /// Takes the next batch out of the line: one command at least, if there is any.
    fn take(&self) -> Vec<Pending> {
        let mut waiting = lock(&self.waiting);
        let (mut many, mut bytes) = (0, 0);
        for one in waiting.commands.iter().take(self.enough.load(Ordering::Relaxed)) {
            if many > 0 && bytes + one.bytes > ROOM {
                break;
            }
            many += 1;
            bytes += one.bytes;
        }
        if many == waiting.commands.len() {
            return take(&mut *waiting).commands;
        }
        waiting.bytes -= bytes;
        let rest = waiting.commands.split_off(many);
        replace(&mut waiting.commands, rest)
    }

    /// Hands all to the driver that is in the line, in batches, and returns those whose replies are to come.
    fn hand_over(self: &Arc<Self>, connection: &MultiplexedConnection) -> Vec<Sent> {
        let mut sent = Vec::new();
        let _leaving = lock(&self.leaving);
        loop {
            let batch = self.take();
            if batch.is_empty() {
                return sent;
            }
            // From the first poll on the driver has it: in its queue there is always room (see `IN_LINE`), and tokio's budget
            // for a task is set aside. Nobody needs to be woken before the second.
            let mut batch: Sent = Box::pin(unconstrained(send(batch, connection.clone(), Arc::clone(self))));
            if batch.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                sent.push(batch);
            }
        }
    }

    /// Learns how large replies are: large ones count at once, and small ones, which also writes have, little by little.
    fn learn(&self, replies: usize, bytes: usize) {
        let enough = (ROOM * replies / bytes.max(1)).clamp(1, MOST);
        let most = self.enough.load(Ordering::Relaxed) * 2;
        self.enough.store(enough.min(most), Ordering::Relaxed);
    }
}

/// A line, as long as somebody is about to empty it.
struct Attended(Option<Arc<Line>>);

impl Drop for Attended {
    fn drop(&mut self) {
        if let Some(line) = &self.0 {
            // The runtime ends. Nobody would ever answer those that wait: they hear of it when this is dropped, after the lock.
            let _forsaken = take(&mut *lock(&line.waiting));
        }
    }
}

type Sent = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Sends what is in the line, and waits for the replies.
async fn empty(mut line: Attended, connection: MultiplexedConnection, added: Added) {
    if added == Added::First {
        let (idle, late) = (pin!(yield_now()), pin!(sleep(PAUSE)));
        select(idle, late).await;
    }
    let sent = line.0.as_ref().map(|line| line.hand_over(&connection));
    line.0 = None; // It is empty.
    join_all(sent.into_iter().flatten()).await;
}

/// Sends a batch and hands the replies out.
async fn send(batch: Vec<Pending>, mut connection: MultiplexedConnection, line: Arc<Line>) {
    let mut pipe = Pipeline::with_capacity(batch.len());
    let mut replies = Vec::with_capacity(batch.len());
    for Pending { command, reply, .. } in batch {
        if !reply.is_closed() {
            pipe.add_command(command);
            replies.push(reply);
        }
    }
    if replies.is_empty() {
        return;
    }
    match connection.send_packed_commands(&pipe, 0, replies.len()).await {
        // The driver has counted them: there are as many.
        Ok(values) => {
            line.learn(replies.len(), values.iter().map(size).sum());
            for (reply, value) in replies.into_iter().zip(values) {
                // Whoever has given up meanwhile does not want it.
                _ = reply.send(value.extract_error());
            }
        }
        Err(error) => {
            for reply in replies {
                _ = reply.send(Err(error.clone()));
            }
        }
    }
}

fn length(command: &Cmd) -> usize {
    let bytes = |part| if let Arg::Simple(bytes) = part { <[u8]>::len(bytes) } else { 0 };
    command.args_iter().map(bytes).sum()
}

/// How large a reply is, about.
fn size(reply: &Value) -> usize {
    match reply {
        Value::BulkString(bytes) => bytes.len(),
        Value::SimpleString(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        _ => 0,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
