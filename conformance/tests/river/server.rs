//! A little server for tests: keys, values, expiry, compare-and-swap, over TCP. `river <port> [file]`.
//!
//! A message is its length and its fields, each with a length before it, all lengths four bytes, big-endian. A request
//! is the operation, the key, the expected value, the new value and the ttl in milliseconds; an answer is a word and a
//! value. Without a file nothing is kept; with one, each change is in it before it is answered, and outlives a kill.

use std::{
    collections::HashMap,
    env,
    fs::File,
    io::{self, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::ExitCode,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

/// Each value, and when it dies, since 1970.
type Table = HashMap<Vec<u8>, (Vec<u8>, Duration)>;

/// What is stored, and where changes are written to.
struct Rows {
    table: Table,
    log: Option<File>,
}

fn main() -> ExitCode {
    let port = env::args().nth(1).and_then(|port| port.parse::<u16>().ok());
    let Some(listener) = port.and_then(|port| TcpListener::bind(("127.0.0.1", port)).ok()) else {
        eprintln!("usage: river <free port> [file]");
        return ExitCode::from(2);
    };
    let rows = match Rows::open(env::args().nth(2)) {
        Ok(rows) => Arc::new(Mutex::new(rows)),
        Err(error) => {
            eprintln!("the file: {error}");
            return ExitCode::FAILURE;
        }
    };
    for stream in listener.incoming().map_while(Result::ok) {
        let rows = Arc::clone(&rows);
        thread::spawn(move || serve(&stream, &rows));
    }
    ExitCode::SUCCESS
}

/// The time since 1970, which does not go back while the server runs.
fn now() -> Duration {
    static START: LazyLock<(Instant, Duration)> =
        LazyLock::new(|| (Instant::now(), SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()));
    START.1 + START.0.elapsed()
}

impl Rows {
    /// Reads what the file has, up to a change that a kill has cut off.
    fn open(path: Option<String>) -> io::Result<Self> {
        let mut table = Table::new();
        let Some(path) = path else { return Ok(Self { table, log: None }) };
        let log = File::options().create(true).append(true).read(true).open(path)?;
        let mut changes = BufReader::new(&log);
        while let Ok(change) = read(&mut changes) {
            if let [key, value, dies] = change.as_slice() {
                let dies = <[u8; 8]>::try_from(dies.as_slice()).map(u64::from_be_bytes).unwrap_or_default();
                table.insert(key.clone(), (value.clone(), Duration::from_micros(dies)));
            }
        }
        Ok(Self { table, log: Some(log) })
    }

    fn insert(&mut self, key: &[u8], value: &[u8], dies: Duration) -> io::Result<()> {
        if let Some(log) = &mut self.log {
            let dies = u64::try_from(dies.as_micros()).unwrap_or(u64::MAX);
            write(log, &[key, value, &dies.to_be_bytes()])?;
        }
        self.table.insert(key.to_vec(), (value.to_vec(), dies));
        Ok(())
    }

    /// A removed value is one that died long ago.
    fn remove(&mut self, key: &[u8]) -> io::Result<()> {
        self.insert(key, b"", Duration::ZERO)
    }
}

/// Answers one connection until it ends.
fn serve(stream: &TcpStream, rows: &Mutex<Rows>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut requests = BufReader::new(stream);
    loop {
        let fields = read(&mut requests)?;
        let [operation, key, expected, value, ttl] = fields.as_slice() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let ttl = <[u8; 8]>::try_from(ttl.as_slice()).map(u64::from_be_bytes).unwrap_or_default();
        let row = (value.as_slice(), Duration::from_millis(ttl));
        let (word, found) = answer(rows, operation, key, expected, row)?;
        write(&mut &*stream, &[word.as_bytes(), &found])?;
    }
}

fn answer(
    rows: &Mutex<Rows>,
    operation: &[u8],
    key: &[u8],
    expected: &[u8],
    (value, ttl): (&[u8], Duration),
) -> io::Result<(&'static str, Vec<u8>)> {
    let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
    let now = now();
    rows.table.retain(|_, (_, dies)| *dies > now);
    let live = rows.table.get(key).map(|(value, _)| value.clone());
    let is_expected = live.as_deref() == Some(expected);
    let dies = now + ttl;
    let found = match (operation, live) {
        (b"get", Some(live)) => return Ok(("done", live)),
        (b"replace" | b"remove", Some(live)) if !is_expected => return Ok(("conflict", live)),
        (b"create", Some(live)) => return Ok(("conflict", live)),
        (b"set", _) | (b"create", None) | (b"replace", Some(_)) => rows.insert(key, value, dies),
        (b"destroy" | b"remove", Some(_)) => rows.remove(key),
        (b"touch", Some(live)) => rows.insert(key, &live, dies),
        (b"ping", _) => Ok(()),
        _ => return Ok(("gone", Vec::new())),
    };
    found.map(|()| ("done", Vec::new()))
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
