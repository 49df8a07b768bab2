//! Asks a server over its own protocol whether it is ready, and what it is.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::failure::{Failure, Verdict};

/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(1);

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a connection stays open that nobody behind it takes, at most.
const MOMENT: Duration = Duration::from_millis(100);

/// The protocol of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Redis,
    Postgres,
    Mysql,
    Mongo,
    /// What is said cannot be read: that a connection is accepted, and not ended at once, is all there is to see.
    Tls,
    /// That a connection is accepted is all there is to see.
    Unknown,
}

/// What a server says of itself; empty where it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Product {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// Where to ask, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) wire: Wire,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) login: Option<(String, String)>,
}

impl Question {
    /// Asks until the server is ready, for at most `patience`.
    pub(crate) async fn wait(&self, patience: Duration) -> Verdict<Product> {
        let start = Instant::now();
        loop {
            match self.ask().await {
                Ok(product) => return Ok(product),
                Err(why) if start.elapsed() >= patience => {
                    let seen = format!(
                        "{}:{} did not answer within {} s: {why}",
                        self.host,
                        self.port,
                        patience.as_secs()
                    );
                    return Err(Failure::new("a server answers once it has been started", seen));
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Waits until the server no longer answers.
    pub(crate) async fn wait_gone(&self, patience: Duration) -> Verdict {
        let start = Instant::now();
        while TcpStream::connect((self.host.as_str(), self.port)).await.is_ok() && self.ask().await.is_ok() {
            if start.elapsed() >= patience {
                let seen = format!("{}:{} still answers", self.host, self.port);
                return Err(Failure::new("a server that was stopped no longer answers", seen));
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Asks once.
    pub(crate) async fn ask(&self) -> Result<Product, String> {
        let asked = timeout(ANSWER, async {
            let address = (self.host.as_str(), self.port);
            let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
            match self.wire {
                Wire::Redis => self.redis(&mut stream).await,
                Wire::Postgres => postgres(&mut stream).await,
                Wire::Mysql => mysql(&mut stream).await,
                Wire::Mongo => mongo(&mut stream).await,
                Wire::Tls => kept_open(&mut stream).await,
                Wire::Unknown => Ok(Product::default()),
            }
        });
        asked.await.unwrap_or_else(|_| Err("no answer".into()))
    }

    async fn redis(&self, stream: &mut TcpStream) -> Result<Product, String> {
        if let Some((user, password)) = self.login.as_ref().filter(|(_, password)| !password.is_empty()) {
            let words: &[&str] =
                if user.is_empty() { &["AUTH", password] } else { &["AUTH", user, password] };
            redis_call(stream, words).await?;
        }
        let pong = redis_call(stream, &["PING"]).await?;
        // Loading its data, or waiting for its master.
        if pong.starts_with("-LOADING") || pong.starts_with("-MASTERDOWN") {
            return Err(pong);
        }
        let info = redis_call(stream, &["INFO", "server"]).await?;
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
        };
        Ok(match (field("valkey_version:"), field("redis_version:")) {
            (Some(version), _) => Product { name: "Valkey".into(), version },
            (None, Some(version)) => Product { name: "Redis".into(), version },
            // It wants a password that we were not told: ready all the same.
            (None, None) => Product { name: "Redis".into(), version: String::new() },
        })
    }
}

/// Makes one call of Redis and returns its answer: the text of a simple answer with its sign, or of a bulk string.
pub(crate) async fn redis_call(stream: &mut TcpStream, words: &[&str]) -> Result<String, String> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request += &format!("${}\r\n{word}\r\n", word.len());
    }
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let line = read_line(stream).await?;
    match line.strip_prefix('$').map(str::parse::<usize>) {
        Some(Ok(length)) => {
            let body = read_exactly(stream, length + 2).await?;
            Ok(String::from_utf8_lossy(&body[..length]).into_owned())
        }
        _ => Ok(line),
    }
}

async fn read_line(stream: &mut TcpStream) -> Result<String, String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(read_exactly(stream, 1).await?);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

async fn read_exactly(stream: &mut TcpStream, length: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Waits a moment for a connection to be ended: an engine accepts for a container in which nobody listens yet.
async fn kept_open(stream: &mut TcpStream) -> Result<Product, String> {
    match timeout(MOMENT, stream.read(&mut [0])).await {
        Ok(Ok(0)) => Err("it hangs up".into()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(_)) | Err(_) => Ok(Product::default()),
    }
}

/// A startup message for a user that need not exist: a server that is ready asks for a password or refuses the user,
/// one that is not says so with the code 57P03.
async fn postgres(stream: &mut TcpStream) -> Result<Product, String> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    body.extend(b"user\0cloakroom_probe\0database\0postgres\0\0");
    let length = u32::try_from(body.len() + 4).map_err(|error| error.to_string())?;
    let mut message = length.to_be_bytes().to_vec();
    message.extend(body);
    stream.write_all(&message).await.map_err(|error| error.to_string())?;
    let head = read_exactly(stream, 5).await?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]).clamp(4, 10_000) as usize;
    let body = read_exactly(stream, length - 4).await?;
    let not_yet = head[0] == b'E' && find(&body, b"57P03").is_some();
    let name = "PostgreSQL".into();
    if not_yet { Err("it is starting up".into()) } else { Ok(Product { name, version: String::new() }) }
}

/// The server speaks first: its version stands in the greeting.
async fn mysql(stream: &mut TcpStream) -> Result<Product, String> {
    let head = read_exactly(stream, 4).await?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
    let body = read_exactly(stream, length.min(10_000)).await?;
    match body.split_first() {
        Some((10, greeting)) => {
            let end = greeting.iter().position(|&byte| byte == 0).unwrap_or(greeting.len());
            let version = String::from_utf8_lossy(&greeting[..end]).into_owned();
            // MariaDB writes 5.5.5- in front, for clients from before it was MariaDB.
            let version = version.trim_start_matches("5.5.5-");
            let name = if version.contains("MariaDB") { "MariaDB" } else { "MySQL" };
            let number = version.split('-').next().unwrap_or_default();
            Ok(Product { name: name.into(), version: number.to_owned() })
        }
        _ => Err("it greets with an error".into()),
    }
}

/// `{buildInfo: 1, $db: "admin"}` as an OP_MSG.
async fn mongo(stream: &mut TcpStream) -> Result<Product, String> {
    const OP_MSG: u32 = 2013;
    let mut document = vec![0; 4];
    document.extend(b"\x10buildInfo\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0");
    let length = u32::try_from(document.len()).map_err(|error| error.to_string())?;
    document[..4].copy_from_slice(&length.to_le_bytes());
    let mut message = Vec::new();
    for number in [16 + 5 + length, 1, 0, OP_MSG, 0] {
        message.extend(number.to_le_bytes());
    }
    message.push(0);
    message.extend(document);
    stream.write_all(&message).await.map_err(|error| error.to_string())?;
    let head = read_exactly(stream, 4).await?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]).clamp(4, 100_000) as usize;
    let body = read_exactly(stream, length - 4).await?;
    // What stands in for MongoDB says in `version` which one it stands for.
    let (name, version) = match text_field(&body, "secantusVersion") {
        Some(own) => ("SecantusDB", Some(own)),
        None if find(&body, b"ecantus").is_some() => ("SecantusDB", None),
        None => ("MongoDB", text_field(&body, "version")),
    };
    Ok(Product { name: name.into(), version: version.unwrap_or_default() })
}

/// The text under `name` in a document of BSON: its kind, its name, four bytes of length, and the text up to a zero.
fn text_field(document: &[u8], name: &str) -> Option<String> {
    let head = [b"\x02", name.as_bytes(), b"\0"].concat();
    let text = document.get(find(document, &head)? + head.len() + 4..)?;
    let end = text.iter().position(|&byte| byte == 0)?;
    Some(String::from_utf8_lossy(&text[..end]).into_owned())
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_server_that_hangs_up_at_once_is_not_ready_whatever_it_speaks() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let question = Question { wire: Wire::Tls, host: "127.0.0.1".into(), port, login: None };
        let hang_up = async { drop(listener.accept().await.unwrap()) };
        assert!(tokio::join!(question.ask(), hang_up).0.is_err());
        let (answer, _open) = tokio::join!(question.ask(), listener.accept());
        assert!(answer.is_ok(), "{answer:?}");
    }

    #[test]
    fn a_text_is_found_in_a_document_by_its_whole_name() {
        let document = b"\x02secantusVersion\0\x06\0\0\x000.5.3\0\x02version\0\x06\0\0\x008.0.4\0\0";
        assert_eq!(text_field(document, "version").as_deref(), Some("8.0.4"));
        assert_eq!(text_field(document, "secantusVersion").as_deref(), Some("0.5.3"));
        assert_eq!(text_field(document, "Version"), None);
    }
}
