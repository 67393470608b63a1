namespace Samepage.Engine.Records;

/// <summary>What the records say of a page, for observers. As of the last visit to its space.</summary>
public enum PageKind : byte
{
    /// <summary>It has no record: never seen present, or not in an area that may be merged.</summary>
    Untracked,

    /// <summary>Mapped to a frame.</summary>
    Merged,

    /// <summary>Given back to the kernel's zero page.</summary>
    Zero,

    /// <summary>Unchanged for a while, and like no other.</summary>
    Unique,

    /// <summary>Written lately, or merged and written again and again so that it is left alone for a while.</summary>
    Volatile,

    /// <summary>Waits to be looked at again: it could not be merged at once.</summary>
    Waiting,

    /// <summary>Another process maps it too, after fork.</summary>
    SharedAlready,

    /// <summary>Was merged, and is private memory inside a mapping of frames: written back by copy-on-write.</summary>
    Broken,

    /// <summary>Was not there when it was looked at: swapped out, or discarded.</summary>
    Absent,

    /// <summary>Left alone for its content until it is written.</summary>
    Odd,
}
