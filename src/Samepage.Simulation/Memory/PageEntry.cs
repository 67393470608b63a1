namespace Samepage.Simulation.Memory;

/// <summary>What a program has asked of a page of its address space: the area that it lies in is the longest run of neighbours that are alike.</summary>
[Flags]
internal enum AreaFlags : ushort
{
    /// <summary>Nothing is mapped there.</summary>
    None = 0,
    Mapped = 1 << 0,
    Readable = 1 << 1,
    Writable = 1 << 2,
    Executable = 1 << 3,

    /// <summary>Shared with other processes on purpose.</summary>
    Shared = 1 << 4,

    /// <summary>Of a device: I/O or raw page numbers.</summary>
    Device = 1 << 5,

    /// <summary>Of the pool of huge pages.</summary>
    HugeTlb = 1 << 6,

    /// <summary>Locked in memory, mlock(2).</summary>
    Locked = 1 << 7,

    /// <summary>Not copied to children, <c>MADV_DONTFORK</c>.</summary>
    NoFork = 1 << 8,

    /// <summary>Empty in children, <c>MADV_WIPEONFORK</c>.</summary>
    WipeOnFork = 1 << 9,

    /// <summary>Must not grow or be copied.</summary>
    NoExpand = 1 << 10,

    /// <summary>Its owner advised that it may be merged, <c>MADV_MERGEABLE</c>.</summary>
    Advised = 1 << 11,

    /// <summary>Ordinary memory.</summary>
    Plain = Mapped | Readable | Writable,
}

/// <summary>What a page-table entry says.</summary>
internal enum EntryState : byte
{
    /// <summary>Nothing is there.</summary>
    None,

    /// <summary>A physical page, its number in the entry's target.</summary>
    Present,

    /// <summary>A swap slot, its number in the entry's target.</summary>
    Swapped,

    /// <summary>The kernel's zero page.</summary>
    Zero,
}

/// <summary>Marks of a page-table entry.</summary>
[Flags]
internal enum EntryFlags : ushort
{
    None = 0,

    /// <summary>The hardware lets the program write.</summary>
    Writable = 1 << 0,

    /// <summary>Write-protected for tracking: not written since it was last collected.</summary>
    Tracked = 1 << 1,

    /// <summary>Part of a transparent huge page.</summary>
    Huge = 1 << 2,

    /// <summary>The page is its owner's alone, as far as fork goes: it may be moved.</summary>
    Exclusive = 1 << 3,

    /// <summary>Registered with MISSING: whoever touches an empty entry waits.</summary>
    Missing = 1 << 4,

    /// <summary>Registered with MINOR: an empty entry in a mapping of frames was discarded, and reads as zeros.</summary>
    Watched = 1 << 5,

    /// <summary>Write-protected while it is given back: whoever writes waits.</summary>
    Protected = 1 << 6,

    /// <summary>Discarded by its program while an exchange was under way.</summary>
    Dropped = 1 << 7,
}

/// <summary>One page of one address space: its area, its page-table entry, and its place in the reverse map.</summary>
internal struct PageEntry
{
    public AreaFlags Area;
    public EntryState State;
    public EntryFlags Flags;

    /// <summary>The frame of the pool that the mapping has here, plus one; 0 where memory is anonymous.</summary>
    public uint Backing;

    /// <summary>Physical page or swap slot.</summary>
    public int Target;

    /// <summary>Neighbours in the reverse map of the target; -1 at its ends.</summary>
    public int Next, Previous;

    public readonly bool Has(EntryFlags flag) => (Flags & flag) != 0;

    public readonly bool In(AreaFlags flag) => (Area & flag) != 0;

    public void Set(EntryFlags flag, bool on) => Flags = on ? Flags | flag : Flags & ~flag;
}
