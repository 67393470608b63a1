namespace Samepage.Engine;

/// <summary>What an area is, as far as it decides whether it may be merged.</summary>
[Flags]
public enum AreaTraits
{
    /// <summary>Plain private memory that nobody can access.</summary>
    None = 0,

    /// <summary>It can be read.</summary>
    Readable = 1 << 0,

    /// <summary>It can be written.</summary>
    Writable = 1 << 1,

    /// <summary>It can be executed.</summary>
    Executable = 1 << 2,

    /// <summary>Writes are seen by others.</summary>
    Shared = 1 << 3,

    /// <summary>It shows a file.</summary>
    FileBacked = 1 << 4,

    /// <summary>It has a purpose of its own: a stack, the kernel's own pages.</summary>
    Special = 1 << 5,

    /// <summary>Device or I/O memory.</summary>
    Device = 1 << 6,

    /// <summary>Raw page frames without bookkeeping.</summary>
    RawFrames = 1 << 7,

    /// <summary>Pages of a huge-page file system.</summary>
    HugeTlb = 1 << 8,

    /// <summary>Must not be expanded when remapped.</summary>
    DontExpand = 1 << 9,

    /// <summary>Must not be copied at fork.</summary>
    DontCopy = 1 << 10,

    /// <summary>Left out of core dumps.</summary>
    DontDump = 1 << 11,

    /// <summary>Reads as zeros in a forked child.</summary>
    WipeOnFork = 1 << 12,

    /// <summary>Locked in memory.</summary>
    Locked = 1 << 13,

    /// <summary>Grows by itself: a stack.</summary>
    Growing = 1 << 14,

    /// <summary>Sealed against being changed.</summary>
    Sealed = 1 << 15,

    /// <summary>Something that nobody has thought through.</summary>
    Unknown = 1 << 16,

    /// <summary>Its program asked for it to be merged (MADV_MERGEABLE).</summary>
    Advised = 1 << 17,

    /// <summary>It has a protection key: the program's threads may reach it only now and then.</summary>
    Keyed = 1 << 18,

    /// <summary>The kernel may drop what it holds (MAP_DROPPABLE).</summary>
    Droppable = 1 << 19,

    /// <summary>Somebody's userfaultfd answers its faults.</summary>
    Watched = 1 << 20,

    /// <summary>It was mapped without reservation, and the machine lets nobody map any more so.</summary>
    Unreserved = 1 << 21,

    /// <summary>It cannot be written, and holds nothing but the zero page: a reservation, a guard.</summary>
    Empty = 1 << 22,
}

/// <summary>Whether an area may be merged at all (A2). What cannot is passed over; advice on it is ignored, not refused.</summary>
public static class AreaEligibility
{
    /// <summary>Whatever the mapping that replaces an area would not have by itself, or could not carry on, stands in the way.</summary>
    private static readonly (AreaTraits Trait, string Reason)[] Obstacles =
    [
        (AreaTraits.Shared, "shared memory: its writes are seen by others"),
        (AreaTraits.FileBacked, "memory of a file"),
        (AreaTraits.Device, "device or I/O memory"),
        (AreaTraits.RawFrames, "raw page frames"),
        (AreaTraits.HugeTlb, "huge pages of hugetlbfs"),
        (AreaTraits.Special, "memory with a purpose of its own"),
        (AreaTraits.Growing, "a stack"),
        (AreaTraits.DontExpand, "memory that must not be expanded"),
        (AreaTraits.DontDump, "memory that is left out of core dumps"),
        (AreaTraits.WipeOnFork, "memory that fork wipes"),
        (AreaTraits.Locked, "locked memory"),
        (AreaTraits.Sealed, "sealed memory"),
        (AreaTraits.Keyed, "memory with a protection key"),
        (AreaTraits.Droppable, "memory that the kernel may drop"),
        (AreaTraits.Watched, "memory whose faults a userfaultfd answers"),
        (AreaTraits.Unreserved, "memory without reservation, of which there can be no more (vm.overcommit_memory is 2)"),
        (AreaTraits.Empty, "memory that cannot be written, and holds nothing"),
        (AreaTraits.Unknown, "a flag that is not known to be harmless"),
    ];

    /// <summary>What a program sets apart it may have reasons for, keys say, and it is left alone; unless it asked for merging all the same, as virtual machine
    /// monitors do for the memory of their guests. That fork does not copy memory is no such mark: heaps are so, for speed.</summary>
    private const AreaTraits SetApart = AreaTraits.DontDump;

    private const AreaTraits Code = AreaTraits.Writable | AreaTraits.Executable;

    /// <summary>Says what stands in the way.</summary>
    /// <returns>The reason; null when the area may be merged.</returns>
    public static string? WhyNot(AreaTraits traits)
    {
        foreach ((AreaTraits trait, string reason) in Obstacles)
        {
            if ((traits & trait) != 0 && ((traits & AreaTraits.Advised) == 0 || (trait & SetApart) == 0))
                return reason;
        }

        // Where a processor has protection keys, to make it such again may take one (execute-only memory); and it is a mark of secrets.
        return (traits & Code) == Code ? "code that can be written" : (traits & (AreaTraits.Executable | AreaTraits.Readable)) == AreaTraits.Executable ? "code that cannot be read" : null;
    }

    /// <inheritdoc cref="WhyNot"/>
    /// <summary>Whether nothing stands in the way.</summary>
    /// <returns>True when the area may be merged.</returns>
    public static bool IsMergeable(AreaTraits traits) => WhyNot(traits) is null;
}
