namespace Samepage.Simulation;

/// <summary>Deliberate faults of the machine and of what carries plans out: each must be noticed by an invariant. For tests alone.</summary>
[Flags]
internal enum MachineFaults
{
    None = 0,

    /// <summary>Nothing is compared once the page is out of everybody's reach (D3).</summary>
    NoComparison = 1 << 0,

    /// <summary>The comparison is made before the page is out of reach (D1).</summary>
    CompareBeforeProtect = 1 << 1,

    /// <summary>Pages that a device holds are moved all the same (D2).</summary>
    NoPinCheck = 1 << 2,

    /// <summary>A child forked in the middle of an exchange is left with an empty page.</summary>
    MissChildsHole = 1 << 3,

    /// <summary>The mapping of frames is not locked where the memory was (D7).</summary>
    ForgetLock = 1 << 4,

    /// <summary>Frames are mapped so that the program can write them (D8).</summary>
    FrameWritable = 1 << 5,

    /// <summary>Who waits is let go before anything is there again.</summary>
    WakeTooEarly = 1 << 6,

    /// <summary>A page goes to the zero page without a look at it.</summary>
    ZeroWithoutLooking = 1 << 7,

    /// <summary>A page that is given back is copied while it can still be written.</summary>
    UnmergeUnprotected = 1 << 8,

    /// <summary>A discarded page of a mapping of frames shows the frame again.</summary>
    DiscardShowsFrame = 1 << 9,

    /// <summary>All domains draw on one pool.</summary>
    OnePoolForAll = 1 << 10,

    /// <summary>What the program did to the mapping meanwhile is not looked at before it is replaced (D4).</summary>
    MappingUnchecked = 1 << 11,

    /// <summary>A write to a frame does not copy it.</summary>
    WriteIntoFrame = 1 << 12,

    /// <summary>Who waits for an exchange is never woken.</summary>
    ForgetToWake = 1 << 13,

    /// <summary>What was replaced is not freed (D9).</summary>
    KeepReplaced = 1 << 14,

    /// <summary>A discard in the middle of an exchange is undone by it.</summary>
    DiscardUndone = 1 << 15,

    /// <summary>Mappings of frames are not watched in forked children (F1).</summary>
    ChildUnwatched = 1 << 16,

    /// <summary>Areas are listed without a look at what they are (A2).</summary>
    EverythingMergeable = 1 << 17,

    /// <summary>All pages are watched anew some time after those that were written have been collected: what is written in between is lost.</summary>
    CollectThenProtect = 1 << 18,

    /// <summary>Frames are freed and used again while they are mapped.</summary>
    UnmappedAlways = 1 << 19,

    /// <summary>A page that is given back is left out of the copy: it comes back empty.</summary>
    UnmergeLosesPage = 1 << 20,

    /// <summary>What cannot be merged is dropped instead of moved back.</summary>
    NothingMovedBack = 1 << 21,
}
