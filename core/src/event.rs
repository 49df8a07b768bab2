//! What the engine tells an operator: `tracing` events that carry a short hash of the key and nothing else.

use crate::{error::Error, id::Key};

/// Target of every event, for filters.
pub(crate) const TARGET: &str = "cloakroom";

pub(crate) fn created(key: &Key) {
    tracing::debug!(target: TARGET, session = %key.fingerprint(), "session created");
}

pub(crate) fn saved(key: &Key, conflicts: u32) {
    tracing::debug!(target: TARGET, session = %key.fingerprint(), conflicts, "session saved");
}

pub(crate) fn cycled(old: &Key, new: &Key) {
    tracing::info!(target: TARGET, session = %old.fingerprint(), now = %new.fingerprint(), "session moved to a new id");
}

pub(crate) fn destroyed(key: &Key) {
    tracing::info!(target: TARGET, session = %key.fingerprint(), "session destroyed");
}

pub(crate) fn gone(key: &Key) {
    tracing::info!(
        target: TARGET,
        session = %key.fingerprint(),
        "session ended while a request was under way; its changes are dropped"
    );
}

pub(crate) fn moved(key: &Key) {
    tracing::debug!(target: TARGET, session = %key.fingerprint(), "request came with an id that has just been replaced");
}

pub(crate) fn unknown(key: &Key) {
    tracing::debug!(target: TARGET, session = %key.fingerprint(), "unknown or expired id presented; not adopted");
}

pub(crate) fn invalid(key: &Key) {
    tracing::info!(target: TARGET, session = %key.fingerprint(), "session refused by the application's check");
}

pub(crate) fn hostile_cookie() {
    tracing::warn!(target: TARGET, "malformed or forged session cookie ignored");
}

pub(crate) fn strange_cookie() {
    tracing::debug!(target: TARGET, "signed cookie holds no session of this application's; left as it is");
}

pub(crate) fn corrupt(key: &Key, error: &Error) {
    tracing::error!(
        target: TARGET,
        session = %key.fingerprint(),
        %error,
        "stored session cannot be read; left as it is, and the visitor is anonymous"
    );
}

pub(crate) fn outage(error: &Error) {
    tracing::warn!(target: TARGET, %error, "session store is down");
}

pub(crate) fn large(key: &Key, bytes: usize) {
    tracing::warn!(target: TARGET, session = %key.fingerprint(), bytes, "session is larger than the soft limit");
}

pub(crate) fn save_failed(error: &Error) {
    tracing::error!(target: TARGET, %error, "session could not be saved at the end of its request");
}

pub(crate) fn renewal_failed(key: &Key, error: &Error) {
    tracing::warn!(target: TARGET, session = %key.fingerprint(), %error, "session could not be renewed");
}

pub(crate) fn unbound(key: &Key, error: &Error) {
    tracing::warn!(target: TARGET, session = %key.fingerprint(), %error, "index entry could not be renewed");
}

pub(crate) fn left_over(key: &Key, error: &Error) {
    tracing::error!(
        target: TARGET,
        session = %key.fingerprint(),
        %error,
        "an unfinished commit could not be undone; its record ends with its ttl"
    );
}

pub(crate) fn last_writer_wins() {
    tracing::warn!(
        target: TARGET,
        "the store cannot compare and swap: parallel requests may lose updates, and a logout may be undone; \
         use require_strict() to refuse such a store"
    );
}
