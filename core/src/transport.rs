//! How the id travels between client and server: a cookie by default, a header, or a way of your own.

use std::fmt;

use http::{HeaderName, header::AUTHORIZATION};

use crate::{
    cookie::{Candidates, CookieCodec, CookieForm, CookieOptions, Outgoing, Rejection, Ticket},
    engine::RequestHead,
    error::{Error, ErrorKind, Result},
    headers::HeaderEdits,
    id::SessionId,
    ids::IdShape,
    store::Ttl,
};

/// Carries the id between client and server.
///
/// The cookie is built in and the right choice for browsers. [`HeaderTransport`] and [`BearerTransport`] are for
/// clients that are no browsers. Everything else stays as it is: an unknown id is never adopted, and a client is told
/// of an id exactly when a browser would be sent a cookie.
///
/// ```
/// use cloakroom_core::{HeaderEdits, Presented, RequestHead, SessionId, Transport, Ttl};
///
/// /// Takes the id from a header that a gateway sets, and never sends it anywhere.
/// #[derive(Debug)]
/// struct FromGateway;
///
/// impl Transport for FromGateway {
///     fn read(&self, head: &RequestHead<'_>, presented: &mut Presented<'_>) {
///         if let Some(value) = head.headers.get("x-gateway-session") {
///             presented.offer(value.as_bytes());
///         }
///     }
///     fn send(&self, _: &SessionId, _: Ttl, _: &mut HeaderEdits) {}
///     fn take_back(&self, _: &mut HeaderEdits) {}
/// }
/// ```
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Offers every id the request presents, the most likely first. At most four are looked up.
    fn read(&self, head: &RequestHead<'_>, presented: &mut Presented<'_>);

    /// Hands the client its id, which lives for `lives` from now.
    fn send(&self, id: &SessionId, lives: Ttl, response: &mut HeaderEdits);

    /// Tells the client that its id is worth nothing any more.
    fn take_back(&self, response: &mut HeaderEdits);

    /// Names the request header that responses with a session depend on, for `Vary`. `None` if there is none.
    fn varies_on(&self) -> Option<HeaderName> {
        None
    }
}

/// The ids that a request presents, as a [`Transport`] finds them.
#[derive(Debug)]
pub struct Presented<'a> {
    found: &'a mut Candidates,
    shape: IdShape,
}

impl Presented<'_> {
    /// Offers one id. What does not look like an id of this application is noted as hostile and looked up nowhere.
    pub fn offer(&mut self, id: &[u8]) {
        self.found.offer(id, &self.shape);
    }
}

/// Carries the id in a header of the same name both ways: for programs that keep what they are given.
///
/// A client is told to forget its id by an empty value.
#[derive(Clone, Debug)]
pub struct HeaderTransport(HeaderName);

impl HeaderTransport {
    /// Creates a transport over the header `name`, such as `x-session-id`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming `transport` when that is no header's name.
    pub fn new(name: &str) -> Result<Self> {
        HeaderName::try_from(name)
            .map(Self)
            .map_err(|_| Error::config("transport", "must be the name of a header, such as `x-session-id`"))
    }
}

impl Transport for HeaderTransport {
    fn read(&self, head: &RequestHead<'_>, presented: &mut Presented<'_>) {
        for value in head.headers.get_all(&self.0) {
            presented.offer(value.as_bytes());
        }
    }

    fn send(&self, id: &SessionId, _: Ttl, response: &mut HeaderEdits) {
        response.set_secret_header(self.0.clone(), id.expose());
    }

    fn take_back(&self, response: &mut HeaderEdits) {
        response.set_secret_header(self.0.clone(), "");
    }

    fn varies_on(&self) -> Option<HeaderName> {
        Some(self.0.clone())
    }
}

/// Takes the id from `Authorization: Bearer …` (RFC 6750, section 2.1) and hands it out in a header.
#[derive(Clone, Debug)]
pub struct BearerTransport(HeaderTransport);

impl BearerTransport {
    /// Creates a transport that hands ids out in the response header `name`, such as `x-session-id`.
    ///
    /// # Errors
    /// As [`HeaderTransport::new`].
    pub fn new(name: &str) -> Result<Self> {
        HeaderTransport::new(name).map(Self)
    }
}

impl Transport for BearerTransport {
    fn read(&self, head: &RequestHead<'_>, presented: &mut Presented<'_>) {
        for value in head.headers.get_all(AUTHORIZATION) {
            // Other schemes are other people's: they are no sign of hostility.
            if let Some((scheme, id)) = value.as_bytes().split_at_checked(7)
                && scheme.eq_ignore_ascii_case(b"bearer ")
            {
                presented.offer(id.trim_ascii());
            }
        }
    }

    fn send(&self, id: &SessionId, lives: Ttl, response: &mut HeaderEdits) {
        self.0.send(id, lives, response);
    }

    fn take_back(&self, response: &mut HeaderEdits) {
        self.0.take_back(response);
    }

    fn varies_on(&self) -> Option<HeaderName> {
        Some(AUTHORIZATION)
    }
}

/// The transport in use: the profile's cookie, or the application's own.
///
/// The native cookie is no trait object: it is on the way of every request.
#[derive(Debug)]
pub(crate) enum Carrier {
    Cookie(CookieCodec),
    Foreign(Box<dyn CookieForm>),
    Custom { transport: Box<dyn Transport>, shape: IdShape },
}

impl Carrier {
    pub(crate) fn covers(&self, path: &str) -> bool {
        match self {
            Self::Cookie(cookie) => cookie.covers(path),
            Self::Foreign(cookie) => cookie.covers(path),
            Self::Custom { .. } => true,
        }
    }

    pub(crate) fn read(&self, head: &RequestHead<'_>) -> Candidates {
        match self {
            Self::Cookie(cookie) => cookie.read(head.headers),
            Self::Foreign(cookie) => cookie.read(head.headers),
            Self::Custom { transport, shape } => {
                let mut found = Candidates::default();
                transport.read(head, &mut Presented { found: &mut found, shape: *shape });
                found
            }
        }
    }

    /// Returns the ticket in the candidate at `at`.
    ///
    /// # Errors
    /// Why it is none of ours.
    pub(crate) fn verify(&self, candidates: &Candidates, at: usize) -> Result<Ticket, Rejection> {
        let ours = match self {
            Self::Cookie(cookie) => candidates.get(at).and_then(|candidate| cookie.verify(candidate)),
            Self::Foreign(cookie) => return cookie.verify(candidates, at),
            Self::Custom { shape, .. } => {
                let id = candidates.get(at).and_then(|candidate| shape.parse(candidate.as_bytes()));
                id.map(|id| Ticket::new(id, false))
            }
        };
        ours.ok_or(Rejection::Forged)
    }

    pub(crate) fn send(&self, ticket: &Outgoing<'_>, edits: &mut HeaderEdits) {
        match self {
            Self::Cookie(cookie) => edits.set_cookie(cookie.set(ticket.id, ticket.lives, ticket.options)),
            Self::Foreign(cookie) => cookie.send(ticket, edits),
            Self::Custom { transport, .. } => transport.send(ticket.id, ticket.lives, edits),
        }
    }

    /// Answers a ticket that leads to no session.
    pub(crate) fn refuse(&self, why: Rejection, edits: &mut HeaderEdits) {
        if let Self::Foreign(cookie) = self {
            cookie.refuse(why, edits);
        }
    }

    pub(crate) fn take_back(&self, options: Option<&CookieOptions>, edits: &mut HeaderEdits) {
        match self {
            Self::Cookie(cookie) => edits.set_cookie(cookie.remove(options)),
            Self::Foreign(cookie) => cookie.take_back(options, edits),
            Self::Custom { transport, .. } => transport.take_back(edits),
        }
    }

    /// Checks cookie options of one session.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming the option, and [`ErrorKind::Unsupported`] where ids do not travel in cookies.
    pub(crate) fn check_options(&self, options: &CookieOptions) -> Result<()> {
        match self {
            Self::Cookie(cookie) => cookie.check_options(options),
            Self::Foreign(cookie) => cookie.check_options(options),
            Self::Custom { .. } => Err(Error::new(ErrorKind::Unsupported)
                .operation("cookie")
                .hint("this application's ids do not travel in cookies")),
        }
    }

    /// Returns the names of the cookies that are set.
    pub(crate) fn names(&self) -> Vec<&str> {
        match self {
            Self::Cookie(cookie) => vec![&cookie.config().name],
            Self::Foreign(cookie) => cookie.names(),
            Self::Custom { .. } => Vec::new(),
        }
    }

    pub(crate) fn vary(&self, edits: &mut HeaderEdits) {
        match self {
            Self::Cookie(_) | Self::Foreign(_) => edits.vary_on_cookie(),
            Self::Custom { transport, .. } => edits.vary_on(transport.varies_on()),
        }
    }
}
