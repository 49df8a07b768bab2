//! The cookie that carries the id: its options, and the rules that every mistake in them is held to.

use crate::{
    error::{Error, Result},
    ids::IdShape,
    keyring::Keyring,
};

mod attribute;
mod codec;
mod form;
mod options;
mod read;
#[cfg(test)]
mod tests;

#[cfg(feature = "node")]
pub(crate) use self::read::first_values;
pub use self::{
    attribute::{Priority, SameSite},
    options::CookieOptions,
};
pub(crate) use self::{
    codec::{CookieCodec, Lifetime, Ticket},
    form::{CookieForm, Outgoing, Rejection},
    read::Candidates,
};

/// The longest name and value together that a browser keeps, in bytes (RFC 6265bis, section 5.6).
const MAX_PAIR: usize = 4096;

/// The longest attribute value that a browser does not ignore, in bytes (RFC 6265bis, section 5.6).
const MAX_ATTRIBUTE: usize = 1024;

/// The longest host name, in bytes (RFC 1035, section 2.3.4), and the longest part of one.
const MAX_HOST: usize = 253;
const MAX_LABEL: usize = 63;

/// The beginnings of a name that browsers give a meaning to, whatever their case. A longer one comes before a shorter
/// one that it begins with.
const PREFIXES: [&str; 4] = ["__Host-Http-", "__Http-", "__Host-", "__Secure-"];

/// The options of the session cookie.
///
/// The default is the strictest cookie there is (RFC 6265bis, section 4.1.3.2): `__Host-sid`, with `Secure`,
/// `HttpOnly`, `SameSite=Lax` and `Path=/`, for this host alone. Its `Max-Age` is the session's ttl.
///
/// No method fails. Everything is checked when the layer is built, and a mistake is an error there that names the
/// option (`cookie.path`) and the cure.
///
/// ```
/// use cloakroom_core::{CookieConfig, SameSite};
///
/// let shared = CookieConfig::new().name("__Secure-sid").domain("example.com").same_site(SameSite::Strict);
/// # let _ = shared;
/// ```
#[derive(Clone, Debug)]
pub struct CookieConfig {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) domain: Option<String>,
    pub(crate) same_site: Option<SameSite>,
    pub(crate) secure: bool,
    /// Plain http in development: neither `Secure` nor what it promises.
    pub(crate) insecure: bool,
    pub(crate) http_only: bool,
    pub(crate) partitioned: bool,
    pub(crate) priority: Option<Priority>,
    pub(crate) lifetime: Lifetime,
    /// The name may be one that Node programs send though it is no token, such as `shop:sid`.
    loose_name: bool,
}

impl Default for CookieConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl CookieConfig {
    /// Creates the default: `__Host-sid`, `Secure`, `HttpOnly`, `SameSite=Lax`, `Path=/`.
    #[must_use]
    pub fn new() -> Self {
        Self {
            name: "__Host-sid".to_owned(),
            path: "/".to_owned(),
            domain: None,
            same_site: Some(SameSite::Lax),
            secure: true,
            insecure: false,
            http_only: true,
            partitioned: false,
            priority: None,
            lifetime: Lifetime::Ttl,
            loose_name: false,
        }
    }

    /// Sets the name: letters, digits and ``!#$%&'*+-.^_`|~`` (a token, RFC 9110, section 5.6.2); with the value at
    /// most 4096 bytes.
    ///
    /// Browsers enforce what four prefixes promise, in any case of letters: `__Secure-` a cookie with `Secure`,
    /// `__Host-` besides no [`domain`](Self::domain) and the path `/`, `__Http-` and `__Host-Http-` besides
    /// `HttpOnly`. A name that breaks its promise is an error. Case matters otherwise: `sid` and `SID` are two
    /// cookies. The name is part of what [`Keyring`] signs, so a new name ends the sessions of all signed cookies.
    ///
    /// # Risk
    /// Under a name without `__Host-`, a neighbouring subdomain or a plain http page can plant a cookie of its own in
    /// front of ours (RFC 6265bis, section 8.6). That logs users out or into the intruder's session.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the path under which the browser sends the cookie: `/app` covers `/app` and `/app/x`, not `/apple`.
    ///
    /// It begins with `/` and holds at most 1024 bytes of what a request's path may hold (RFC 3986, section 3.3),
    /// anything else as `%xx`, and neither `;` nor `,`: the one ends the attribute, and at the other some gateways
    /// cut a header in two. Outside the path there is no session. A path other than `/` needs another
    /// [`name`](Self::name) than the default.
    ///
    /// # Risk
    /// A path keeps nothing apart: a script on another path of the same host can reach the cookie's pages
    /// (RFC 6265bis, section 8.5).
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Sends the cookie to all hosts under this one too: `example.com` covers `www.example.com`.
    ///
    /// A host name of at most 253 bytes, without scheme or port, in punycode if need be, and no IP address. A leading
    /// dot is dropped and capitals become small letters, as browsers do (RFC 6265bis, section 5.6.3). Needs another
    /// [`name`](Self::name) than the default. Whether the name is one that browsers refuse for being a public suffix
    /// (`co.uk`) is not checked.
    ///
    /// # Risk
    /// Every host under the domain, also one that others run or that has been taken over, receives its users'
    /// sessions and can plant its own. Leave it out unless several hosts must share a session.
    #[must_use]
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Sets which requests from other sites carry the cookie; [`SameSite::Lax`] unless set.
    ///
    /// # Risk
    /// [`SameSite::None`] takes away the browser's own defence against cross-site request forgery.
    #[must_use]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = Some(same_site);
        self
    }

    /// Sets whether the cookie is hidden from scripts; `true` unless set.
    ///
    /// # Risk
    /// With `false` any script on the page, so any cross-site scripting hole, can take the session away.
    #[must_use]
    pub fn http_only(mut self, http_only: bool) -> Self {
        self.http_only = http_only;
        self
    }

    /// Sets whether a page that is embedded in other sites has one cookie for each of them (`Partitioned`, CHIPS);
    /// `false` unless set. Needs `Secure`, and is of use with [`SameSite::None`].
    #[must_use]
    pub fn partitioned(mut self, partitioned: bool) -> Self {
        self.partitioned = partitioned;
        self
    }

    /// Sets which cookies a browser drops first when a site has too many; no attribute unless set.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Sets whether the browser sends the cookie over https alone; `true` unless set, but in the cookies that the
    /// programs of another [`Profile`](crate::Profile) use.
    ///
    /// Must stay on under a name with a prefix. For development over plain http, which drops both together, call
    /// [`Builder::insecure`](crate::Builder::insecure) instead.
    ///
    /// # Risk
    /// With `false` whoever can read the network can take every session. Behind a proxy that ends TLS it is **not**
    /// needed: what counts is what the browser speaks.
    #[must_use]
    pub fn secure(mut self, secure: bool) -> Self {
        self.secure = secure;
        self
    }

    /// Drops `Secure`, and with it the `__Host-` or `__Secure-` before the name: the default is then called `sid`.
    #[must_use]
    pub(crate) fn insecure(mut self) -> Self {
        self.insecure = true;
        self
    }

    /// Creates what the cookies of Node programs are unless configured: `HttpOnly` and `Path=/`, and nothing else.
    pub(crate) fn of_node(name: &str) -> Self {
        Self { name: name.to_owned(), same_site: None, secure: false, loose_name: true, ..Self::new() }
    }

    /// Leaves `Max-Age` away, so that the cookie ends with the browser. The record in the store keeps its ttl.
    ///
    /// A browser that restores its windows at the next start commonly restores such cookies too.
    #[must_use]
    pub fn browser_session(mut self) -> Self {
        self.lifetime = Lifetime::BrowserSession;
        self
    }

    /// Sets the cookie's `Max-Age` or `Expires` to the session's ttl: the other way of
    /// [`browser_session`](Self::browser_session), for a [`Profile`](crate::Profile) whose cookie has none by default.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.lifetime = Lifetime::Ttl;
        self
    }

    /// Checks the options and prepares everything that does not change from one cookie to the next.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for the first option that is wrong, by the name the user knows
    /// it by.
    pub(crate) fn build(&self, keys: Option<&Keyring>, ids: IdShape) -> Result<CookieCodec> {
        let checked = self.checked()?;
        let name = checked.name.clone();
        let signer = keys.map(|keys| keys.signer("keys")).transpose()?;
        let codec = CookieCodec::new(checked, ids, signer)?;
        check_pair(&name, codec.value_len())?;
        Ok(codec)
    }

    /// Returns the options as they are sent: the name without prefixes where the cookie is insecure, the domain in its
    /// normal form.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub(crate) fn checked(&self) -> Result<Self> {
        let name = self.effective_name()?.to_owned();
        check_path(&self.path)?;
        let domain = self.domain.as_deref().map(host_name).transpose()?;
        let checked = Self { name, domain, secure: self.secure && !self.insecure, ..self.clone() };
        checked.check_promises()?;
        Ok(checked)
    }

    /// Tells whether the browser sends the cookie with a request for `path` (RFC 6265bis, section 5.1.4).
    ///
    /// `path` is the one the browser asked for, before any router has cut off a prefix. A query is ignored. What is no
    /// path (`*`, an authority, nothing at all) counts as `/`.
    pub(crate) fn covers(&self, path: &str) -> bool {
        if self.path == "/" {
            return true;
        }
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let path = if path.starts_with('/') { path } else { "/" };
        path.strip_prefix(&*self.path)
            .is_some_and(|rest| rest.is_empty() || self.path.ends_with('/') || rest.starts_with('/'))
    }

    /// Returns the attributes, each with `; ` before it, all but `Max-Age`.
    fn attributes(&self) -> String {
        let mut attributes = format!("; Path={}", self.path);
        if let Some(domain) = &self.domain {
            attributes.push_str("; Domain=");
            attributes.push_str(domain);
        }
        if self.secure {
            attributes.push_str("; Secure");
        }
        if self.http_only {
            attributes.push_str("; HttpOnly");
        }
        if let Some(same_site) = self.same_site {
            attributes.push_str("; SameSite=");
            attributes.push_str(same_site.as_str());
        }
        if self.partitioned {
            attributes.push_str("; Partitioned");
        }
        if let Some(priority) = self.priority {
            attributes.push_str("; Priority=");
            attributes.push_str(priority.as_str());
        }
        attributes
    }

    /// Returns the name as it is sent: as configured, or without its prefixes when the cookie is insecure.
    fn effective_name(&self) -> Result<&str> {
        const FIELD: &str = "cookie.name";
        let fits = |byte| is_token(byte) || (self.loose_name && is_sent_by_node(byte));
        if !self.name.bytes().all(fits) {
            return Err(Error::config(FIELD, "must be a token: letters, digits and !#$%&'*+-.^_`|~ only"));
        }
        let mut bare = self.name.as_str();
        // Again and again: what stands behind a prefix may look like one itself.
        while let Some((_, rest)) = split_prefix(bare) {
            bare = rest;
        }
        if bare.is_empty() {
            return Err(Error::config(
                FIELD,
                "must not be empty, nor a prefix alone: call it `__Host-sid`, for example",
            ));
        }
        Ok(if self.insecure { bare } else { &self.name })
    }

    /// Holds the options to what the name's prefix, `SameSite=None` and `Partitioned` promise to browsers.
    fn check_promises(&self) -> Result<()> {
        let prefix = split_prefix(&self.name).map_or("", |(prefix, _)| prefix);
        let host = prefix.starts_with("__Host-");
        if host && self.path != "/" {
            return Err(Error::config(
                "cookie.path",
                "must be `/` under a name with `__Host-`: name the cookie `__Secure-…` instead, or leave the path",
            ));
        }
        if host && self.domain.is_some() {
            return Err(Error::config(
                "cookie.domain",
                "must be absent under a name with `__Host-`: name the cookie `__Secure-…` instead, or leave the \
                 domain out",
            ));
        }
        if !prefix.is_empty() && !self.secure {
            return Err(Error::config(
                "cookie.secure",
                "must stay on under a name with a prefix: call `insecure()` on the builder for development, which \
                 drops both",
            ));
        }
        if prefix.contains("Http-") && !self.http_only {
            return Err(Error::config(
                "cookie.http_only",
                "must stay on under a name with `__Http-` or `__Host-Http-`: choose another name, or leave it on",
            ));
        }
        if self.same_site == Some(SameSite::None) && !self.secure {
            return Err(Error::config(
                "cookie.same_site",
                "must not be `None` on an insecure cookie, browsers drop it: remove `insecure()`, or use `Lax`",
            ));
        }
        if self.partitioned && !self.secure {
            return Err(Error::config(
                "cookie.partitioned",
                "must not be on for an insecure cookie, browsers drop it: remove `insecure()`, or turn it off",
            ));
        }
        Ok(())
    }
}

/// Holds a cookie to what browsers keep.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) naming `cookie.name`.
pub(crate) fn check_pair(name: &str, value_len: usize) -> Result<()> {
    if name.len() + value_len > MAX_PAIR {
        return Err(Error::config(
            "cookie.name",
            format!(
                "is {} bytes long: use at most {}, since browsers drop a cookie whose name and value exceed {MAX_PAIR}",
                name.len(),
                MAX_PAIR - value_len
            ),
        ));
    }
    Ok(())
}

/// Tells whether a name may hold this byte (RFC 9110, section 5.6.2).
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Tells whether the cookies of Node programs have names with this byte besides: browsers keep them and send them back.
const fn is_sent_by_node(byte: u8) -> bool {
    matches!(byte, b':' | b'/' | b'?' | b'@' | b'[' | b']' | b'{' | b'}' | b'(' | b')' | b'<' | b'>')
}

/// Tells whether a cookie's path may hold this byte: what a request's path may, but `;` and `,`.
const fn is_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'/' | b'-'
                | b'.'
                | b'_'
                | b'~'
                | b'%'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b'='
                | b':'
                | b'@'
        )
}

/// Splits off the prefix that a browser sees in a name, spelt as in [`PREFIXES`], whatever the case in the name.
fn split_prefix(name: &str) -> Option<(&'static str, &str)> {
    PREFIXES.iter().find_map(|prefix| {
        let (head, rest) = name.split_at_checked(prefix.len())?;
        head.eq_ignore_ascii_case(prefix).then_some((*prefix, rest))
    })
}

fn check_path(path: &str) -> Result<()> {
    let cure = if !path.starts_with('/') {
        "must begin with `/`"
    } else if path.len() > MAX_ATTRIBUTE {
        "must be at most 1024 bytes long: browsers ignore a longer one"
    } else if path.contains(['?', '#']) {
        "must be a path alone, without a query or a fragment: leave out `?` or `#` and what follows"
    } else if !path.bytes().all(is_path) {
        "must hold only what a request's path holds, and neither `;` nor `,`: write other characters as `%xx`"
    } else if path.split('/').any(|part| matches!(part, "." | "..")) {
        "must not have a part `.` or `..`: browsers resolve them before they compare, so it would never match"
    } else {
        return Ok(());
    };
    Err(Error::config("cookie.path", cure))
}

/// Returns a configured domain as browsers understand it: without a leading dot, in small letters.
fn host_name(domain: &str) -> Result<String> {
    let host = domain.strip_prefix('.').unwrap_or(domain);
    let well_formed = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let cure = if host.is_empty() {
        "must not be empty: leave it out for a cookie of this host alone"
    } else if !host.is_ascii() {
        "must be ASCII: write an international name in punycode (`xn--…`)"
    } else if host.contains([':', '/']) {
        "must be a host name alone, without scheme, port or path; for an IP address leave it out"
    } else if host.len() > MAX_HOST || !host.split('.').all(well_formed) {
        "must be a host name such as `example.com`: parts of 1 to 63 letters, digits or inner `-`, 253 bytes in all"
    } else if host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        "must be a host name, not an IP address: leave it out for a cookie of this host alone"
    } else {
        return Ok(host.to_ascii_lowercase());
    };
    Err(Error::config("cookie.domain", cure))
}
