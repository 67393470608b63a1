using Samepage.Engine.Records;

namespace Samepage.Engine.Scan;

/// <summary>What the engine keeps of one address space: its slot, its areas, its slabs, how far its visit has come, and how visits went.</summary>
internal sealed class Space(SpaceId id, Domain domain)
{
    /// <summary>What a slot is counted as, whatever it holds.</summary>
    public const long Bytes = 512;

    public readonly List<Area> Areas = [];
    public readonly SlabTable Slabs = new();
    public readonly SpaceCounts Counts = new();

    /// <summary>Without write tracking: what was present when the visit began.</summary>
    public readonly List<WrittenRun> Present = [];

    /// <summary>With write tracking: ranges that have come since the last visit.</summary>
    public readonly List<Area> Grown = [];

    public SpaceId Id => id;

    public Domain Domain => domain;

    /// <summary>Its neighbours in the list of slots.</summary>
    public Space? Previous { get; set; }

    /// <inheritdoc cref="Previous"/>
    public Space? Next { get; set; }

    /// <summary>It was removed while the machine was at work; it goes as soon as the call has ended.</summary>
    public bool IsLeaving { get; set; }

    /// <summary>A visit has begun and not ended.</summary>
    public bool InVisit { get; set; }

    /// <summary>The page that the visit goes on with.</summary>
    public ulong NextPage { get; set; }

    /// <summary>The areas were listed outside of a visit, and differed: the next visit has to look for records outside of them.</summary>
    public bool AreasChanged { get; set; }

    /// <summary>The engine has lost sight of pages: the next visit collects all that are present, written or not.</summary>
    public bool ListsEverything { get; set; }

    /// <summary>Visits since it was taken in.</summary>
    public long Visits { get; set; }

    /// <summary>When the visit before this one began, and when the first page at rest may be looked at again; ticks of <see cref="PageHistory"/>.</summary>
    public uint SeenAt { get; set; }

    /// <inheritdoc cref="SeenAt"/>
    public uint RestsUntil { get; set; }

    /// <summary>Merged pages that a write, or a discard, has taken from their frames, noticed since it was taken in.</summary>
    public long Breaks { get; set; }

    /// <summary>Broken mappings are given back from this visit on.</summary>
    public long GiveBackAfter { get; set; }

    /// <summary>Visits in a row in which nothing more of it was merged and nothing was put off.</summary>
    public int QuietVisits { get; set; }

    /// <summary>Pages merged or zeroed at the end of the last visit, and of the one before.</summary>
    public long GainedLast { get; set; }

    /// <inheritdoc cref="GainedLast"/>
    public long GainedBefore { get; set; }

    /// <summary>Pages of this visit whose fate was new.</summary>
    public long News { get; set; }

    /// <summary>Something of it was put off in this visit.</summary>
    public bool Deferred { get; set; }

    /// <summary>Visits in a row in which something was put off: after a while it counts as settled, and the machine says what stands in the way.</summary>
    public int DeferredVisits { get; set; }

    /// <summary>The area that holds a page; false when none does.</summary>
    public bool TryFindArea(ulong page, out Area area)
    {
        int at = Ranges.FirstEndingBehind(Areas, page);
        bool found = at < Areas.Count && Areas[at].Range.Start.Value <= page;
        area = found ? Areas[at] : default;
        return found;
    }
}
