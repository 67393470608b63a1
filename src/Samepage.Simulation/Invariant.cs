namespace Samepage.Simulation;

/// <summary>What must hold at every moment of a run, or, where that is said, at rest.</summary>
public enum Invariant
{
    /// <summary>Each process reads exactly what it last wrote.</summary>
    EachReadsWhatItWrote,

    /// <summary>No frame is writable through any mapping, and none ever holds anything but what it was made with.</summary>
    FramesNeverChange,

    /// <summary>A frame is mapped by processes of its own domain alone.</summary>
    DomainsAreApart,

    /// <summary>What a device holds is not replaced: no physical page that is pinned leaves the address space behind its program's back.</summary>
    PinnedPagesStay,

    /// <summary>Protection, locks and advice of every page are those that its program asked for.</summary>
    AreasStayAsAsked,

    /// <summary>Only memory that may be merged is merged (A2).</summary>
    OnlyEligibleIsMerged,

    /// <summary>Physical pages and swap slots are free, mapped, pinned or frames of a pool; nothing is counted twice and nothing is lost.</summary>
    MemoryIsConserved,

    /// <summary>From a physical page every mapping of it is found (F3).</summary>
    ReverseMapIsComplete,

    /// <summary>When the engine has come back from a call, nobody waits, and nothing is left half done.</summary>
    NobodyWaits,

    /// <summary>A frame is written or freed only while nobody maps it.</summary>
    FramesAreFreedUnmapped,

    /// <summary>The engine's own trees, records and counters agree with each other.</summary>
    EngineIsConsistent,

    /// <summary>The engine's counters agree with a recount of the machine (G10). At rest.</summary>
    CountersEqualARecount,

    /// <summary>No frame is left with less than two users. At rest.</summary>
    NoFrameIsLonely,

    /// <summary>No two equal pages of a domain that could share are apart. At rest.</summary>
    NothingEqualIsApart,

    /// <summary>The cursor visits each slot once in a pass, and one that was added during the pass behind all that waited (A3, B2).</summary>
    TheCursorKeepsItsOrder,

    /// <summary>Nothing that has been given back is a frame still, or watched.</summary>
    NoTraceIsLeft,
}

/// <summary>An invariant does not hold.</summary>
public sealed class BrokenInvariantException(Invariant invariant, string details) : Exception($"{invariant}: {details}")
{
    /// <summary>Which.</summary>
    public Invariant Invariant => invariant;
}
