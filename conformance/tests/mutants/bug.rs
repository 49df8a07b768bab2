//! The bug classes, one mutant each.

macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident,)*) => {
        /// A way to get a store wrong. Each has its line in `pinned.txt`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Bug { $($(#[$doc])* $bug,)* }

        impl Bug {
            pub(crate) const ALL: &[Self] = &[$(Self::$bug),*];
        }
    };
}

bugs! {
    /// The control: it must pass every case.
    Nothing,
    /// The control with a connection that breaks: it must pass every case, too.
    NothingInAnOutage,

    // get, set, destroy
    ReadsTakeTheValue,
    AbsentIsEmpty,
    EmptyIsAbsent,
    ValuesAreText,
    ValuesAreTrimmed,
    ValuesEndAtNul,
    ValuesEndAt64KiB,
    TooLargeLosesTheOldValue,
    TooLargeIsABackendError,
    ErrorsQuoteTheKey,
    SetWritesInPlace,
    SetIgnoresEmptyValues,
    OneBufferForAllValues,
    DestroyIsAlwaysTrue,
    DestroyIsNeverTrue,
    DestroyByPrefix,
    DestroyByPattern,
    DestroyedForEver,
    NeverConnected,
    AbilitiesHidden,
    AbilitiesUndeclared,
    AbilitiesOfAnotherStore,
    DebugShowsValues,
    LogsKeys,
    LogsValuesAtTrace,
    LogsUsers,

    // keys
    KeysFolded,
    KeysCutAt32,
    KeysSanitized,
    KeysFoundByPrefix,
    LongKeysAreCut,
    LongKeysAreAbsent,

    // expiry
    TtlIgnored,
    TtlRoundedDown,
    TtlOf32Bits,
    TtlTooShortIsAnError,
    TtlOfAllIsOne,
    SetKeepsTheTtl,
    ReadsRenew,
    ExpiredIsDestroyed,
    ExpiredBlocksSet,
    ExpiredFlickers,

    // two handles, dropped calls
    OpeningRaces,
    ReadsAreCached,
    SetDeletesFirst,
    SetExpiresLater,
    SetIsTorn,
    SetWritesOthersBack,
    DestroyBlanksFirst,
    DestroyReadsFirst,
    RepliesAreMixedUp,

    // create
    CreateSaysFalse,
    CreateOverwrites,
    CreateOverwritesEmpty,
    CreateRefusesExpired,
    CreateRefusesDestroyed,
    CreateForgetsTheTtl,
    CreateRenews,
    CreateReadsFirst,
    CreateBlanksFirst,
    CreateStoresApart,

    // replace
    ReplaceCreates,
    ReplaceRevivesExpired,
    ReplaceReadsFirst,
    ReplaceIgnoresExpected,
    ReplaceComparesPrefixes,
    ReplaceComparesLengths,
    ReplaceCollates,
    ReplaceIsAppliedTwice,
    ReplaceKeepsTheTtl,
    ReplaceOfTheSameIsNothing,
    ReplaceHitsTwins,
    ReplaceDeletesFirst,
    ConflictIsStale,
    ConflictRenews,

    // remove
    RemoveIgnoresExpected,
    RemoveComparesLengths,
    RemoveLeavesTheValue,
    RemoveOfAbsentIsDone,
    RemoveConflictPersists,
    RemoveHitsTwins,
    RemoveReadsFirst,
    RemoveBlanksFirst,

    // touch
    TouchDoesNothing,
    TouchNeverShortens,
    TouchCreates,
    TouchRevivesExpired,
    TouchOfTheSameTtlIsFalse,
    TouchWritesBackWhatItRead,
    TouchReadsFirst,
    TouchTakesTheValueOut,
    TouchHitsTwins,

    // indexed
    UnknownUserIsAnError,
    ListsTheNewestOnly,
    ListsDeadKeys,
    ListsKeysTwice,
    BindNeedsAValue,
    BindKeepsTheTtl,
    BindNeverExpires,
    BindTakesAnyUser,
    BindCutsUsers,
    ListingDropsWhatWaits,
    DestroyUnbinds,
    BindAdds,
    BindTouches,
    SetUnbinds,
    UsersFolded,
    IndexPerHandle,
    DestroyUserByPrefix,
    DestroyUserIgnoresExcept,
    DestroyUserSparesOneForAnyExcept,
    DestroyUserLeavesOne,
    DestroyUserCountsDead,
    DestroyUserDropsTheIndexLast,
    DestroyUserTakesExpiredBindings,
    DestroyUserUnbinds,
    BatchesOf1000,

    // admin
    ScanFoldsKeys,
    ScanYieldsExpired,
    ScanOfOnePage,
    ScanByOffset,
    ScanByPrefix,
    ScanByLike,
    LenCountsRows,
    ClearCountsRows,
    ClearLeavesOne,
    ClearByPrefix,
    SweepEatsLive,
    SweepIgnoresItsLimit,
    SweepCountsOneTooMany,
    SweepRevives,
    ScanHoldsTheStore,
    ClearKeepsTheBindings,
    SweepUnbinds,
    SweepDropsWhatWaits,

    // status
    StatusIsNotForwarded,
    StatusNeverFalls,
    StatusFallsLate,
    StatusFallsOnOneHandleOnly,
    StatusFallsWithoutAnOutage,
    StatusNeverRecovers,
    StatusRecoversByCallsOnly,
    StatusMovesItsStart,
    StatusBlocksWhenUnread,

    // operations in an outage
    OutageIsNoSession,
    OutageServesWhatWasRead,
    OutageSwallowsWrites,
    OutageIsABackendError,
    OutageHangs,
    OutageTearsWrites,
    OutageTearsConditionalWrites,
    OutageSendsWritesLater,
    OutageBreaksTheNextCall,
    OutageLosesData,
    OutageLosesTheIndex,
    OutageMeetsNoCondition,
    OutageEmptiesTheIndex,
    OutageEmptiesTheStore,
    OutageLogsKeys,
}

impl Bug {
    /// Whether the mutant has no bug.
    pub(crate) const fn is_control(self) -> bool {
        matches!(self, Self::Nothing | Self::NothingInAnOutage)
    }

    /// Whether the bug is about the connection.
    pub(crate) fn is_of_the_link(self) -> bool {
        self == Self::NothingInAnOutage || self as usize >= Self::StatusIsNotForwarded as usize
    }
}
