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

    // keys
    KeysFolded,
    KeysCutAt32,
    KeysSanitized,
    KeysFoundByPrefix,

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
}
