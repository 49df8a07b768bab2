//! The address of a server as a URL: its host and port, its user, and the same with another host.

/// The parts of a URL that the suite looks at: `scheme://user:password@host:port/rest`.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    scheme: &'a str,
    user: Option<&'a str>,
    hosts: &'a str,
    rest: &'a str,
}

impl<'a> Parts<'a> {
    /// Splits `url`; `None` if it has no scheme or no host.
    pub(crate) fn of(url: &'a str) -> Option<Self> {
        let (scheme, after) = url.split_once("://")?;
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (authority, rest) = after.split_at(end);
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        (!hosts.is_empty()).then_some(Self { scheme, user, hosts, rest })
    }

    /// The one host and port, the port as given or `default`; `None` if the URL names several hosts.
    pub(crate) fn host(&self, default: u16) -> Option<(String, u16)> {
        if self.hosts.contains(',') {
            return None;
        }
        // An IPv6 address stands in brackets.
        let (host, port) = match self.hosts.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (self.hosts, default),
        };
        Some((host.trim_matches(['[', ']']).to_owned(), port))
    }

    /// User and password, percent-decoded; either may be empty.
    pub(crate) fn login(&self) -> Option<(String, String)> {
        let user = self.user?;
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        Some((decode(user), decode(password)))
    }

    /// The same URL with another host and port.
    pub(crate) fn with_host(&self, host: &str, port: u16) -> String {
        let user = self.user.map(|user| format!("{user}@")).unwrap_or_default();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        format!("{}://{user}{host}:{port}{}", self.scheme, self.rest)
    }

    /// The same URL, so that a proxy at `host` and `port` is all that its client knows of: one of MongoDB would learn the
    /// addresses of a replica set from any of its members, and go around the proxy.
    pub(crate) fn through(&self, host: &str, port: u16) -> String {
        const DIRECT: &str = "directConnection";
        let url = self.with_host(host, port);
        let said = || self.rest.to_ascii_lowercase().contains(&DIRECT.to_ascii_lowercase());
        if self.scheme != "mongodb" || said() {
            return url;
        }
        let separator = match self.rest {
            rest if rest.contains('?') => "&",
            "" => "/?",
            _ => "?",
        };
        format!("{url}{separator}{DIRECT}=true")
    }

    /// Whether what is said on the connection can be read by the suite.
    pub(crate) fn is_plain(&self) -> bool {
        !matches!(self.scheme, "rediss" | "valkeys")
    }
}

/// The address without what is secret about it, to be printed.
pub(crate) fn shown(url: &str) -> String {
    match Parts::of(url) {
        Some(parts) => format!("{}://{}", parts.scheme, parts.hosts),
        None => "an address that is no URL".into(),
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_put_together_with_another_host() {
        let parts = Parts::of("postgres://us%40er:p%3Aw@db.example:6543/app?x=1@2").unwrap();
        assert_eq!(parts.host(5432), Some(("db.example".into(), 6543)));
        assert_eq!(parts.login(), Some(("us@er".into(), "p:w".into())));
        assert_eq!(parts.with_host("127.0.0.1", 1), "postgres://us%40er:p%3Aw@127.0.0.1:1/app?x=1@2");
        assert_eq!(Parts::of("redis://h").unwrap().host(6379), Some(("h".into(), 6379)));
        assert_eq!(Parts::of("redis://[::1]").unwrap().host(6379), Some(("::1".into(), 6379)));
        assert_eq!(Parts::of("redis://[::1]:7").unwrap().host(6379), Some(("::1".into(), 7)));
        assert_eq!(Parts::of("redis://h").unwrap().with_host("::1", 7), "redis://[::1]:7");
    }

    #[test]
    fn a_client_of_mongodb_is_kept_from_going_around_a_proxy() {
        let through = |url: &str| Parts::of(url).unwrap().through("127.0.0.1", 1);
        for (url, expected) in [
            ("mongodb://h", "mongodb://127.0.0.1:1/?directConnection=true"),
            ("mongodb://u:p@h:2/app", "mongodb://u:p@127.0.0.1:1/app?directConnection=true"),
            ("mongodb://h/?replicaSet=rs", "mongodb://127.0.0.1:1/?replicaSet=rs&directConnection=true"),
            ("mongodb://h/?directconnection=false", "mongodb://127.0.0.1:1/?directconnection=false"),
            ("redis://h", "redis://127.0.0.1:1"),
        ] {
            assert_eq!(through(url), expected);
        }
    }

    #[test]
    fn what_is_no_address_of_one_host_is_refused() {
        assert!(Parts::of("localhost:6379").is_none() && Parts::of("redis:///0").is_none());
        assert!(Parts::of("mongodb://a:1,b:2/x").unwrap().host(27017).is_none());
        assert!(Parts::of("redis://h:port").unwrap().host(6379).is_none());
    }

    #[test]
    fn a_shown_address_has_no_password() {
        assert_eq!(shown("redis://me:secret@h:1/2"), "redis://h:1");
        assert_eq!(shown("secret"), "an address that is no URL");
    }
}
