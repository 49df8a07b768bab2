//! The connections of a fault proxy: accepting them, and moving their bytes through the faults.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    time::{Instant, sleep},
};

use super::{Flow, Half, Mode, Shared, pause};

/// Bytes that are moved at once.
const CHUNK: usize = 16 * 1024;

/// Accepts connections while the mode says so, until the proxy is gone.
pub(super) async fn accept(
    listener: TcpListener,
    own: u16,
    mut mode: watch::Receiver<Mode>,
    listening: watch::Sender<bool>,
    shared: Arc<Shared>,
) {
    let mut open = Some(listener);
    loop {
        let wanted = mode.borrow_and_update().listening;
        if wanted && open.is_none() {
            // The port may be held for a moment by connections that are ending.
            open = TcpListener::bind(("127.0.0.1", own)).await.ok();
        } else if !wanted {
            open = None;
        }
        listening.send_replace(open.is_some());
        tokio::select! {
            accepted = next(open.as_ref()) => {
                if let Some(client) = accepted {
                    let (mode, shared) = (mode.clone(), Arc::clone(&shared));
                    tokio::spawn(async move { serve(client, mode, &shared).await });
                }
            }
            () = sleep(Duration::from_millis(20)), if wanted && open.is_none() => {}
            changed = mode.changed() => if changed.is_err() { return },
        }
    }
}

/// The next connection; none, for ever, without a listener.
async fn next(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

/// What the two directions of a connection tell one another.
#[derive(Default)]
struct Turn {
    /// A request has gone up, and no reply has come down since.
    asked: AtomicBool,
    /// The reply to what has gone up is to be lost.
    doomed: AtomicBool,
}

/// Serves one connection until it ends, or is made to.
async fn serve(mut client: TcpStream, mut mode: watch::Receiver<Mode>, shared: &Shared) {
    let counters = &shared.counters;
    counters.connections.fetch_add(1, SeqCst);
    counters.opened.lock().push(Instant::now());
    let (epoch, flow) = {
        let mode = mode.borrow();
        (mode.epoch, mode.flow)
    };
    if flow == Flow::TurnAway {
        end(&client);
        return;
    }
    let Ok(mut server) = TcpStream::connect((shared.host.as_str(), shared.port)).await else {
        end(&client);
        return;
    };
    counters.open.fetch_add(1, SeqCst);
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let turn = Turn::default();
    let (modes, own) = ((mode.clone(), mode.clone()), epoch);
    let is_over = async {
        // Also when the proxy is gone.
        let _ = mode.wait_for(|mode| mode.epoch != own).await;
    };
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let broken = tokio::select! {
        ended = up(from_client, to_server, modes.0, shared, &turn) => ended.is_err(),
        ended = down(from_server, to_client, modes.1, shared, &turn) => ended.is_err(),
        () = is_over => true,
    };
    if broken {
        end(&client);
        end(&server);
    }
    counters.open.fetch_sub(1, SeqCst);
}

/// Makes the end of a connection a reset instead of an orderly one.
fn end(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Requests. An error resets the connection.
async fn up(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut mode: watch::Receiver<Mode>,
    shared: &Shared,
    turn: &Turn,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut seen = Vec::new();
    let mut swallows = false;
    loop {
        let chunk = room(&mode);
        let read = from.read(&mut buffer[..chunk]).await?;
        if read == 0 {
            return Ok(());
        }
        let bytes = &buffer[..read];
        shared.counters.bytes_up.fetch_add(read as u64, SeqCst);
        if !turn.asked.swap(true, SeqCst) {
            seen.clear();
        }
        match lost(shared, &mut seen, bytes) {
            Some(Half::Reply) => turn.doomed.store(true, SeqCst),
            Some(Half::Request) => {
                shared.counters.lost_requests.fetch_add(1, SeqCst);
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            None => {}
        }
        swallows |= passes(&mut mode).await == Flow::Swallow;
        if !swallows {
            to.write_all(bytes).await?;
        }
        throttle(&mode, read).await;
    }
}

/// Replies. An error resets the connection.
async fn down(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut mode: watch::Receiver<Mode>,
    shared: &Shared,
    turn: &Turn,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut swallows = false;
    loop {
        let chunk = room(&mode);
        let read = from.read(&mut buffer[..chunk]).await?;
        if read == 0 {
            return Ok(());
        }
        if turn.doomed.swap(false, SeqCst) {
            shared.counters.lost_replies.fetch_add(1, SeqCst);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let delay = mode.borrow().delay;
        pause(delay).await;
        swallows |= passes(&mut mode).await == Flow::Swallow;
        let left = cut(shared, read);
        shared.counters.bytes_down.fetch_add(left as u64, SeqCst);
        if turn.asked.swap(false, SeqCst) {
            shared.counters.round_trips.fetch_add(1, SeqCst);
        }
        if !swallows {
            to.write_all(&buffer[..left]).await?;
        }
        if left < read {
            to.flush().await?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        throttle(&mode, read).await;
    }
}

/// Waits while everything stands still, and says whether bytes then pass or are lost.
async fn passes(mode: &mut watch::Receiver<Mode>) -> Flow {
    match mode.wait_for(|mode| mode.flow != Flow::Stall).await {
        Ok(mode) => mode.flow,
        // The proxy is gone, and this connection with it.
        Err(_) => Flow::Swallow,
    }
}

/// How many bytes may be read at once: of few a second, a twentieth.
fn room(mode: &watch::Receiver<Mode>) -> usize {
    match mode.borrow().rate {
        0 => CHUNK,
        rate => usize::try_from(rate / 20).unwrap_or(CHUNK).clamp(1, CHUNK),
    }
}

async fn throttle(mode: &watch::Receiver<Mode>, bytes: usize) {
    let rate = mode.borrow().rate;
    if rate > 0 {
        sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
    }
}

/// How many of these bytes of a reply pass before the cut.
fn cut(shared: &Shared, bytes: usize) -> usize {
    let mut faults = shared.faults.lock();
    let Some(left) = faults.cut_after else {
        return bytes;
    };
    if left >= bytes as u64 {
        faults.cut_after = Some(left - bytes as u64);
        return bytes;
    }
    faults.cut_after = None;
    usize::try_from(left).unwrap_or(bytes)
}

/// What is to be lost, now that these bytes of a request have come. `seen` is the end of what came before them.
fn lost(shared: &Shared, seen: &mut Vec<u8>, bytes: &[u8]) -> Option<Half> {
    let mut faults = shared.faults.lock();
    let (half, wanted) = faults.lose.as_ref()?;
    seen.extend_from_slice(bytes);
    if wanted.is_empty() || seen.windows(wanted.len()).any(|window| window == wanted) {
        let half = *half;
        faults.lose = None;
        seen.clear();
        return Some(half);
    }
    seen.drain(..seen.len().saturating_sub(wanted.len()));
    None
}
