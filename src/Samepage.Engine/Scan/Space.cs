using Samepage.Engine.Records;

namespace Samepage.Engine.Scan;

/// <summary>What the engine keeps of one address space: its areas, its slabs, and how its visits went.</summary>
internal sealed class Space(SpaceId id, Domain domain)
{
    public readonly List<Area> Areas = [];
    public readonly SortedDictionary<ulong, int> Slabs = [];
    public readonly SpaceCounts Counts = new();

    public SpaceId Id => id;

    public Domain Domain => domain;

    /// <summary>Visits since it was taken in.</summary>
    public long Visits { get; set; }

    /// <summary>Visits in a row in which nothing of it was merged and nothing was put off.</summary>
    public int QuietVisits { get; set; }

    /// <summary>Something of it was put off in this visit.</summary>
    public bool Deferred { get; set; }

    /// <summary>Visits in a row in which something was put off: after a while it counts as settled, and the machine says what stands in the way.</summary>
    public int DeferredVisits { get; set; }

    /// <summary>The area that holds a page; false when none does.</summary>
    public bool TryFindArea(ulong page, out Area area)
    {
        int low = 0, high = Areas.Count - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            Area candidate = Areas[middle];
            if (page < candidate.Range.Start.Value)
            {
                high = middle - 1;
            }
            else if (page >= candidate.Range.End)
            {
                low = middle + 1;
            }
            else
            {
                area = candidate;
                return true;
            }
        }

        area = default;
        return false;
    }
}
