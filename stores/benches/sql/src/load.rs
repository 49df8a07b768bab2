//! Sixteen visitors, each on a connection and with a session of its own, who ask again as soon as they are answered.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::{Builder, Runtime},
    task::JoinSet,
};

use crate::Failure;

/// How many visitors there are.
pub(crate) const CONNECTIONS: usize = 16;

/// The visitors of one application, on a thread of their own.
pub(crate) struct Load {
    runtime: Runtime,
    visitors: Vec<Visitor>,
}

struct Visitor {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Load {
    /// Lets each visitor begin a session, and then ask for `path`.
    pub(crate) fn new(address: SocketAddr, path: &str) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let visitors = runtime.block_on(async {
            let mut visitors = Vec::new();
            for _ in 0..CONNECTIONS {
                visitors.push(Visitor::new(address, path).await?);
            }
            Ok::<_, Failure>(visitors)
        })?;
        Ok(Self { runtime, visitors })
    }

    /// Returns how many requests were answered in a second.
    pub(crate) fn measure(&mut self, span: Duration) -> Result<f64, Failure> {
        let visitors = std::mem::take(&mut self.visitors);
        self.runtime.block_on(async {
            let stop = Arc::new(AtomicBool::new(false));
            let mut asking = JoinSet::new();
            let began = Instant::now();
            for mut visitor in visitors {
                let stop = Arc::clone(&stop);
                asking.spawn(async move {
                    let mut answered = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        visitor.ask().await?;
                        answered += 1;
                    }
                    Ok::<_, Failure>((visitor, answered))
                });
            }
            tokio::time::sleep(span).await;
            stop.store(true, Ordering::Relaxed);
            let mut sum = 0;
            while let Some(done) = asking.join_next().await {
                let (visitor, answered) = done??;
                self.visitors.push(visitor);
                sum += answered;
            }
            Ok(sum as f64 / began.elapsed().as_secs_f64())
        })
    }
}

impl Visitor {
    async fn new(address: SocketAddr, path: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut visitor = Self { stream, request: request("/create", ""), buffer: vec![0; 4096] };
        let head = visitor.ask().await?;
        let set =
            head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).ok_or("no cookie was set")?;
        visitor.request = request(path, set.split(';').next().unwrap_or_default());
        Ok(visitor)
    }

    /// Asks once and returns the head of the answer.
    async fn ask(&mut self) -> Result<&str, Failure> {
        self.stream.write_all(&self.request).await?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err("the connection was closed".into());
            }
            filled += read;
            let text = std::str::from_utf8(&self.buffer[..filled])?;
            let Some(end) = text.find("\r\n\r\n") else { continue };
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if filled >= end + 4 + length.trim().parse::<usize>()? {
                break;
            }
        }
        let text = std::str::from_utf8(&self.buffer[..filled])?;
        if text.starts_with("HTTP/1.1 200") { Ok(text) } else { Err(format!("an answer was {text}").into()) }
    }
}

fn request(path: &str, cookie: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\ncookie: {cookie}\r\n\r\n").into_bytes()
}
