//! What to do at the end of a request: one pure decision, no I/O and no clock.

/// Whether a request's changes are saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Save {
    /// Saves if something differs from what was loaded.
    #[default]
    IfChanged,
    /// Saves in any case, also an empty new session.
    Always,
    /// Saves nothing. An explicit `destroy`, which acts at once, stays done.
    Never,
}

/// Where the session of a request stands, as far as its record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing is stored: no cookie came, or its session is unknown, expired or destroyed.
    Fresh,
    /// A record was loaded or written by this request.
    Stored,
    /// The session may not be written: it is gone, has moved, or cannot be read.
    Refused,
}

/// All that the decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) standing: Standing,
    /// Something differs from what is stored.
    pub(crate) changed: bool,
    /// There is no data now.
    pub(crate) empty: bool,
    /// A handler asked for a new id for a stored session.
    pub(crate) new_id: bool,
    /// A handler moved the session's end or changed its cookie's options.
    pub(crate) cookie_stale: bool,
    /// The idle time is low enough, or `rolling` is on.
    pub(crate) renewal_due: bool,
    /// Every write begins the idle time anew, as the format has it.
    pub(crate) writes_renew: bool,
    /// A renewal after a mere read is the store's business alone.
    pub(crate) renews_in_silence: bool,
    /// A write that changes nothing of the cookie need not be heard of either: the cookie has no end to move.
    pub(crate) writes_in_silence: bool,
    /// The ticket was signed by an older key.
    pub(crate) old_signature: bool,
    pub(crate) save: Save,
    pub(crate) allow_empty: bool,
    /// Destroyed by this request: the browser's ticket is to be taken back.
    pub(crate) destroyed: bool,
    /// The response is a server error, and such responses save nothing.
    pub(crate) unsaved_error: bool,
}

/// What happens in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing.
    Nothing,
    /// Writes the record anew with a new renewal time and no other change.
    Renew,
    /// Stores a new session under a new id.
    Create,
    /// Writes the changes over what was loaded.
    Replace {
        /// Begin the idle time anew as well, since that is due anyway.
        renew: bool,
    },
    /// Stores the session under its new id and leaves a tombstone under the old one.
    Move,
    /// Takes the ticket back from the browser; the record is already gone.
    Forget,
}

/// What the browser hears if the plan succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ticket {
    /// Nothing: it has the right one.
    Keep,
    /// The id with a new lifetime.
    Send,
    /// The removal of what it has.
    TakeBack,
}

/// Decides what the end of a request does to the store and to the browser's cookie.
pub(crate) const fn decide(facts: &Facts) -> (Plan, Ticket) {
    match facts.standing {
        // Not even a removal: whoever won the race has sent, or will send, the right cookie.
        Standing::Refused => (Plan::Nothing, Ticket::Keep),
        Standing::Fresh => {
            let wanted = match facts.save {
                Save::Never => false,
                Save::Always => true,
                Save::IfChanged => (facts.changed && !facts.empty) || (facts.allow_empty && !facts.destroyed),
            };
            if wanted && !facts.unsaved_error {
                (Plan::Create, Ticket::Send)
            } else if facts.destroyed {
                (Plan::Forget, Ticket::TakeBack)
            } else {
                (Plan::Nothing, Ticket::Keep)
            }
        }
        Standing::Stored => {
            let reissue = if facts.old_signature { Ticket::Send } else { Ticket::Keep };
            let saves = !matches!(facts.save, Save::Never) && !facts.unsaved_error;
            if !saves {
                (Plan::Nothing, reissue)
            } else if facts.new_id {
                (Plan::Move, Ticket::Send)
            } else if facts.changed || matches!(facts.save, Save::Always) {
                let renew = facts.renewal_due || facts.cookie_stale || facts.writes_renew;
                let heard = renew && (facts.cookie_stale || !facts.writes_in_silence);
                (Plan::Replace { renew }, if heard { Ticket::Send } else { reissue })
            } else if facts.renewal_due {
                (Plan::Renew, if facts.renews_in_silence { reissue } else { Ticket::Send })
            } else {
                (Plan::Nothing, reissue)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Facts = Facts {
        standing: Standing::Fresh,
        changed: false,
        empty: true,
        new_id: false,
        cookie_stale: false,
        renewal_due: false,
        writes_renew: false,
        renews_in_silence: false,
        writes_in_silence: false,
        old_signature: false,
        save: Save::IfChanged,
        allow_empty: false,
        destroyed: false,
        unsaved_error: false,
    };
    const STORED: Facts = Facts { standing: Standing::Stored, empty: false, ..FRESH };

    #[test]
    fn every_row_of_the_decision() {
        use Plan::{Create, Forget, Move, Nothing, Renew, Replace};
        use Ticket::{Keep, Send, TakeBack};
        let filled = Facts { changed: true, empty: false, ..FRESH };
        let changed = Facts { changed: true, ..STORED };
        let rows = [
            // A new session.
            ("new and untouched", FRESH, (Nothing, Keep)),
            ("new with data", filled, (Create, Send)),
            ("new, filled and emptied again", Facts { changed: true, ..FRESH }, (Nothing, Keep)),
            ("new and empty, allowed", Facts { allow_empty: true, ..FRESH }, (Create, Send)),
            ("new and empty, forced", Facts { save: Save::Always, ..FRESH }, (Create, Send)),
            ("new with data, prevented", Facts { save: Save::Never, ..filled }, (Nothing, Keep)),
            ("new with data, server error", Facts { unsaved_error: true, ..filled }, (Nothing, Keep)),
            ("new with an id of its own but no data", Facts { new_id: true, ..FRESH }, (Nothing, Keep)),
            // A destroyed session.
            ("destroyed", Facts { destroyed: true, ..FRESH }, (Forget, TakeBack)),
            ("destroyed, then filled", Facts { destroyed: true, ..filled }, (Create, Send)),
            (
                "destroyed, prevented",
                Facts { destroyed: true, save: Save::Never, ..filled },
                (Forget, TakeBack),
            ),
            (
                "destroyed, empty allowed",
                Facts { destroyed: true, allow_empty: true, ..FRESH },
                (Forget, TakeBack),
            ),
            (
                "destroyed, server error",
                Facts { destroyed: true, unsaved_error: true, ..FRESH },
                (Forget, TakeBack),
            ),
            // A stored session.
            ("read only", STORED, (Nothing, Keep)),
            ("changed", changed, (Replace { renew: false }, Keep)),
            ("emptied", Facts { empty: true, ..changed }, (Replace { renew: false }, Keep)),
            ("changed and due", Facts { renewal_due: true, ..changed }, (Replace { renew: true }, Send)),
            ("given another ttl", Facts { cookie_stale: true, ..changed }, (Replace { renew: true }, Send)),
            ("read and due", Facts { renewal_due: true, ..STORED }, (Renew, Send)),
            (
                "read and due, in silence",
                Facts { renewal_due: true, renews_in_silence: true, ..STORED },
                (Renew, Keep),
            ),
            (
                "read and due, in silence, with an old signature",
                Facts { renewal_due: true, renews_in_silence: true, old_signature: true, ..STORED },
                (Renew, Send),
            ),
            (
                "changed where every write renews",
                Facts { writes_renew: true, ..changed },
                (Replace { renew: true }, Send),
            ),
            (
                "changed where every write renews, in silence",
                Facts { writes_renew: true, writes_in_silence: true, ..changed },
                (Replace { renew: true }, Keep),
            ),
            (
                "given another cookie where writes are silent",
                Facts { writes_in_silence: true, cookie_stale: true, ..changed },
                (Replace { renew: true }, Send),
            ),
            ("read where every write renews", Facts { writes_renew: true, ..STORED }, (Nothing, Keep)),
            ("read, forced", Facts { save: Save::Always, ..STORED }, (Replace { renew: false }, Keep)),
            ("changed, prevented", Facts { save: Save::Never, ..changed }, (Nothing, Keep)),
            ("due, prevented", Facts { save: Save::Never, renewal_due: true, ..STORED }, (Nothing, Keep)),
            ("changed, server error", Facts { unsaved_error: true, ..changed }, (Nothing, Keep)),
            ("new id", Facts { new_id: true, ..STORED }, (Move, Send)),
            ("new id and changed", Facts { new_id: true, ..changed }, (Move, Send)),
            ("new id, prevented", Facts { new_id: true, save: Save::Never, ..STORED }, (Nothing, Keep)),
            ("read with an old signature", Facts { old_signature: true, ..STORED }, (Nothing, Send)),
            (
                "changed with an old signature",
                Facts { old_signature: true, ..changed },
                (Replace { renew: false }, Send),
            ),
            (
                "old signature, prevented",
                Facts { old_signature: true, save: Save::Never, ..STORED },
                (Nothing, Send),
            ),
        ];
        for (name, facts, expected) in rows {
            assert_eq!(decide(&facts), expected, "{name}");
        }
    }

    #[test]
    fn a_refused_session_neither_writes_nor_sends_anything_whatever_else_holds() {
        for bits in 0..=0xff_u32 {
            let bit = |n: u32| bits >> n & 1 == 1;
            for save in [Save::IfChanged, Save::Always, Save::Never] {
                let facts = Facts {
                    standing: Standing::Refused,
                    changed: bit(0),
                    empty: bit(1),
                    new_id: bit(2),
                    cookie_stale: bit(3),
                    renewal_due: bit(4),
                    writes_renew: bit(0),
                    renews_in_silence: bit(1),
                    writes_in_silence: bit(2),
                    old_signature: bit(5),
                    allow_empty: bit(6),
                    destroyed: bit(7),
                    unsaved_error: false,
                    save,
                };
                assert_eq!(decide(&facts), (Plan::Nothing, Ticket::Keep));
            }
        }
    }
}
