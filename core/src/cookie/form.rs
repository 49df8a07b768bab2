//! The cookies of another format: what the engine asks of a codec that is not the native one.

use std::fmt;

use bytes::Bytes;
use http::HeaderMap;

use super::{Candidates, CookieOptions, Ticket};
use crate::{error::Result, headers::HeaderEdits, id::SessionId, record::Millis, store::Ttl};

/// Reads and writes the cookies of a format that is not our own: one value, or several that belong together.
///
/// The native cookie has a codec of its own and is no trait object: it is on the way of every request.
pub(crate) trait CookieForm: fmt::Debug + Send + Sync {
    /// Tells whether the browser sends the cookie with a request for `path`.
    fn covers(&self, path: &str) -> bool;

    /// Collects what could be ours, by name alone. Verifies nothing: a request that never loads costs no hash.
    fn read(&self, headers: &HeaderMap) -> Candidates;

    /// Returns the ticket in the candidate at `at`.
    ///
    /// # Errors
    /// What is wrong with it, [`Rejection::Forged`] or [`Rejection::Strange`].
    fn verify(&self, candidates: &Candidates, at: usize) -> Result<Ticket, Rejection>;

    /// Hands out a ticket.
    fn send(&self, ticket: &Outgoing<'_>, response: &mut HeaderEdits);

    /// Takes the ticket back, wherever it was set.
    fn take_back(&self, options: Option<&CookieOptions>, response: &mut HeaderEdits);

    /// Answers a ticket that leads to no session of this request's. Most formats say nothing.
    fn refuse(&self, _: Rejection, _: &mut HeaderEdits) {}

    /// Returns the names of the cookies this form sets.
    fn names(&self) -> Vec<&str>;

    /// Checks options of one session against this cookie.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the option.
    fn check_options(&self, options: &CookieOptions) -> Result<()>;
}

/// Why a ticket leads to no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// Nobody who has the keys made it.
    Forged,
    /// Its signature is good, and what is signed is nothing that this application would have made: another one's, which
    /// may well know it.
    Strange,
    /// Its session is one that the application's check refuses.
    Invalid,
}

/// What goes out to a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) id: &'a SessionId,
    /// The stored bytes, for a form that carries them itself.
    pub(crate) record: &'a Bytes,
    pub(crate) lives: Ttl,
    pub(crate) now: Millis,
    /// What this session's cookie does otherwise than configured.
    pub(crate) options: Option<&'a CookieOptions>,
    /// What the format keeps beside the data, as it was loaded.
    pub(crate) extra: Option<&'a str>,
}
