namespace Samepage.Engine;

/// <summary>How content is found by its digest.</summary>
public enum IndexKind
{
    /// <summary>A hash table: the faster and the smaller of the two, docs/engine-figures.md.</summary>
    Hash,

    /// <summary>A red-black tree on arrays: no growth ever moves what is in it.</summary>
    Tree,
}

/// <summary>What an engine is made with; nothing of it changes later.</summary>
public sealed record EngineOptions
{
    /// <summary>How frames and unique pages are found.</summary>
    public IndexKind Index { get; init; } = IndexKind.Hash;

    /// <summary>The most native memory for records and indexes, bytes. Pages and processes beyond it are passed over (H2).</summary>
    public long MetadataBytesMax { get; init; } = long.MaxValue;

    /// <summary>Planned pages that are handed to the machine while others are looked up, at most; 1 at least. A visit begins with a sixteenth of them, and doubles that each time:
    /// soon there is something to do, later a call's own cost is little, and at the end of a visit not much is left to wait for.</summary>
    internal int PagesPerFlight { get; init; } = 4096;

    /// <summary>Neighbouring pages that are read at once, at most.</summary>
    internal int PagesPerRead { get; init; } = 256;

    /// <summary>Digests are cut down to these bits, so that a test can have many contents of one digest.</summary>
    internal ulong DigestMask { get; init; } = ulong.MaxValue;

    /// <summary>What is deliberately wrong, so that tests can show that they notice.</summary>
    internal EngineFaults Faults { get; init; }
}
