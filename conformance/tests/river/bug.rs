//! The bug classes of a store with a server, one mutant each.

/// A way to get the talk with a server wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The control: it must pass every case.
    Nothing,
    /// The status is set when the store is opened, and never again.
    StatusNeverChanges,
    /// A prober is for others.
    StatusNeverRecovers,
    /// Each attempt of the prober is the start of an outage.
    ProbesMoveTheStart,
    /// The status is what an operation has seen last, and comes late.
    StatusComesLate,
    /// The server answers the prober, and only then is there much to do.
    StatusRisesLate,
    /// One failure, or two, may be chance; and each takes its time.
    FourFailuresAreAnOutage,
    /// The status is right, but what was connected again has to warm up.
    WarmsUpAfterTheReturn,
    /// What cannot be found in an outage is gone.
    OutageIsGone,
    /// An outage is called a backend error.
    OutageIsABackendError,
    /// The prober has a connection of its own, and the broken one is handed out once more.
    BrokenConnectionIsHandedOut,
    /// Nobody waits for an answer with a watch in hand.
    AnswersAreWaitedForForEver,
    /// The driver waits without giving way to anybody.
    WaitsBlockTheThread,
    /// A connection on which nobody waited for the answer is used again, and so the answer to another question comes.
    AnswersAreMixedUp,
    /// A request whose answer did not come is sent again.
    LostRepliesAreSentAgain,
    /// A request whose answer did not come has surely been carried out.
    LostRepliesAreSuccesses,
    /// Whoever calls in an outage tries to connect.
    ReconnectsInAStorm,
    /// Each connection is asked before it is used.
    AsksBeforeEachCall,
    /// Connections are asked now and then before they are used.
    AsksBeforeEveryThirdCall,
    /// What is in the way is looked at, and looked at again.
    LooksTwiceAtConflicts,
    /// What has been read is kept.
    ReadsAreCached,
    /// A replaced value that is not there is created.
    ReplaceCreates,
    /// Compare, and swap a moment later.
    ReplaceReadsFirst,
    /// A ttl is only ever made longer.
    TouchOnlyLengthens,
    /// Something runs over after some thousands of calls.
    LateCallsAreLost,
}

impl Bug {
    /// Whether the connection is made anew by whoever calls, instead of by the prober.
    pub(crate) const fn connects_when_called(self) -> bool {
        matches!(self, Self::StatusNeverChanges | Self::StatusComesLate | Self::LostRepliesAreSentAgain)
    }
}
