namespace Samepage.Engine;

/// <summary>Deliberate faults, for tests of the tests. None of them can be reached from outside the project.</summary>
[Flags]
internal enum EngineFaults
{
    None = 0,

    /// <summary>C7: unlinks also pages whose tree has been flushed since.</summary>
    UnlinkOldPages = 1 << 0,

    /// <summary>C3: leaves a page in the unstable index when it is looked at again.</summary>
    KeepUnstablePages = 1 << 1,

    /// <summary>C10: leaves a frame with a single user behind when its second page could not be merged.</summary>
    KeepLonelyFrames = 1 << 2,

    /// <summary>G10: drops records without counting them off.</summary>
    DropWithoutCounting = 1 << 3,

    /// <summary>C11: frees a frame and leaves it findable.</summary>
    KeepDeadNodes = 1 << 4,

    /// <summary>Puts every space into the domain of the first.</summary>
    OneDomain = 1 << 5,

    /// <summary>B5: keeps the records of pages that are gone.</summary>
    KeepPassedRecords = 1 << 6,

    /// <summary>C2: inserts unique pages under another digest than theirs.</summary>
    WrongDigest = 1 << 7,

    /// <summary>D3: takes a page whose content differed for merged.</summary>
    IgnoreDiffers = 1 << 8,

    /// <summary>F1: frees frames without asking whether somebody unseen maps them.</summary>
    FreeMappedFrames = 1 << 9,

    /// <summary>C3: looks among the unique pages only.</summary>
    SkipStableSearch = 1 << 10,

    /// <summary>C4: takes changed pages for unchanged.</summary>
    IgnoreChecksum = 1 << 11,

    /// <summary>C6: proposes pages that fork has shared.</summary>
    MergeShared = 1 << 12,

    /// <summary>A3: puts a new slot before the cursor, so that it is scanned next.</summary>
    SlotBeforeCursor = 1 << 13,

    /// <summary>D8: does not notice that a write has broken a merge.</summary>
    MissBreaks = 1 << 14,

    /// <summary>B2: begins a space anew with each batch.</summary>
    ForgetPlace = 1 << 15,

    /// <summary>G9: never looks at a page again that rests.</summary>
    RestForEver = 1 << 16,

    /// <summary>C10: gives frames up that pages are planned to join.</summary>
    GiveUpPromisedFrames = 1 << 17,
}
