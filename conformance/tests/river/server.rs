//! A little server for tests: keys, values, expiry, compare-and-swap, over TCP. `river <port>`.
//!
//! A message is its length and its fields, each with a length before it, all lengths four bytes, big-endian. A request
//! is the operation, the key, the expected value, the new value and the ttl in milliseconds; an answer is a word and a
//! value. Nothing is kept on disk.

use std::{
    collections::HashMap,
    env,
    io::{self, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

type Table = HashMap<Vec<u8>, (Vec<u8>, Instant)>;
type Rows = Arc<Mutex<Table>>;

fn main() -> ExitCode {
    let port = env::args().nth(1).and_then(|port| port.parse::<u16>().ok());
    let Some(listener) = port.and_then(|port| TcpListener::bind(("127.0.0.1", port)).ok()) else {
        eprintln!("usage: river <free port>");
        return ExitCode::from(2);
    };
    let rows = Rows::default();
    for stream in listener.incoming().map_while(Result::ok) {
        let rows = Arc::clone(&rows);
        thread::spawn(move || serve(&stream, &rows));
    }
    ExitCode::SUCCESS
}

/// Answers one connection until it ends.
fn serve(stream: &TcpStream, rows: &Rows) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut requests = BufReader::new(stream);
    loop {
        let fields = read(&mut requests)?;
        let [operation, key, expected, value, ttl] = fields.as_slice() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let ttl = <[u8; 8]>::try_from(ttl.as_slice()).map(u64::from_be_bytes).unwrap_or_default();
        let (word, found) = answer(rows, operation, key, expected, value, Duration::from_millis(ttl));
        write(&mut &*stream, &[word.as_bytes(), &found])?;
    }
}

fn lock(rows: &Rows) -> MutexGuard<'_, Table> {
    rows.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(
    rows: &Rows,
    operation: &[u8],
    key: &[u8],
    expected: &[u8],
    value: &[u8],
    ttl: Duration,
) -> (&'static str, Vec<u8>) {
    let mut rows = lock(rows);
    let now = Instant::now();
    rows.retain(|_, (_, dies)| *dies > now);
    let live = rows.get(key).map(|(value, _)| value.clone());
    let is_expected = live.as_deref() == Some(expected);
    let row = (value.to_vec(), now + ttl);
    match (operation, live) {
        (b"get", Some(live)) => ("done", live),
        (b"set", _) => {
            rows.insert(key.to_vec(), row);
            ("done", Vec::new())
        }
        (b"create", None) => {
            rows.insert(key.to_vec(), row);
            ("done", Vec::new())
        }
        (b"replace" | b"remove", Some(live)) if !is_expected => ("conflict", live),
        (b"create", Some(live)) => ("conflict", live),
        (b"replace", Some(_)) => {
            rows.insert(key.to_vec(), row);
            ("done", Vec::new())
        }
        (b"destroy" | b"remove", Some(_)) => {
            rows.remove(key);
            ("done", Vec::new())
        }
        (b"touch", Some(live)) => {
            rows.insert(key.to_vec(), (live, now + ttl));
            ("done", Vec::new())
        }
        (b"ping", _) => ("done", Vec::new()),
        _ => ("gone", Vec::new()),
    }
}

fn read(from: &mut impl Read) -> io::Result<Vec<Vec<u8>>> {
    let mut message = vec![0; length(from)?];
    from.read_exact(&mut message)?;
    let mut rest = message.as_slice();
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let mut field = vec![0; length(&mut rest)?];
        rest.read_exact(&mut field)?;
        fields.push(field);
    }
    Ok(fields)
}

fn length(from: &mut impl Read) -> io::Result<usize> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    usize::try_from(u32::from_be_bytes(length)).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn write(to: &mut impl Write, fields: &[&[u8]]) -> io::Result<()> {
    let mut body = Vec::new();
    for field in fields {
        body.extend(u32::try_from(field.len()).unwrap_or_default().to_be_bytes());
        body.extend(*field);
    }
    let mut message = u32::try_from(body.len()).unwrap_or_default().to_be_bytes().to_vec();
    message.extend(body);
    to.write_all(&message)
}
