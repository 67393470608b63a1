using Samepage.Engine.Records;

namespace Samepage.Engine.Scan;

/// <summary>Collects single decisions, and makes runs of them: neighbouring pages that go to neighbouring frames become one run.</summary>
internal sealed class Plans
{
    private readonly Dictionary<int, List<Entry>> _entries = [];

    /// <summary>Pages that wait to be carried out.</summary>
    public int Count { get; private set; }

    public void Add(SpaceId space, ulong page, PageRef record, PlanKind kind, FrameId frame, bool compared = false, PageHistory history = default)
    {
        if (!_entries.TryGetValue(space.Value, out List<Entry>? entries))
            _entries.Add(space.Value, entries = []);
        entries.Add(new Entry(page, record, kind, frame, compared, history));
        Count++;
    }

    /// <summary>The spaces that something is planned for, in the order of their numbers: the same decisions give the same plan.</summary>
    public int[] Spaces() => [.. _entries.Where(pair => pair.Value.Count > 0).Select(pair => pair.Key).Order()];

    /// <summary>Takes what is planned for a space: entries by rising page, and the runs that they make.</summary>
    /// <param name="space">The space.</param>
    /// <param name="runs">The caller's to keep.</param>
    public Entry[] Take(int space, out List<PlannedRun> runs)
    {
        Entry[] entries = [.. _entries[space]];
        _entries[space].Clear();
        Count -= entries.Length;
        if (!IsSorted(entries))
            Array.Sort(entries, static (a, b) => a.Page.CompareTo(b.Page));
        runs = [];
        for (int i = 0; i < entries.Length;)
        {
            int count = 1;
            while (i + count < entries.Length && entries[i + count].Page == entries[i].Page + (ulong)count && entries[i + count].Kind == entries[i].Kind &&
                (entries[i].Kind != PlanKind.Merge || entries[i + count].Frame.Value == entries[i].Frame.Value + (uint)count))
            {
                count++;
            }

            runs.Add(new PlannedRun(entries[i].Kind, new PageRun(new PageNumber(entries[i].Page), count), entries[i].Frame));
            i += count;
        }

        return entries;
    }

    /// <summary>Drops what is planned for a space and is not to be carried out.</summary>
    /// <returns>What was dropped.</returns>
    public List<Entry> Drop(int space, Predicate<Entry> which)
    {
        List<Entry> dropped = _entries[space].FindAll(which);
        if (dropped.Count > 0)
            _entries[space].RemoveAll(which);
        Count -= dropped.Count;
        return dropped;
    }

    /// <summary>Mostly they are: pages are met by rising address, and their twins often lie in the same order.</summary>
    private static bool IsSorted(ReadOnlySpan<Entry> entries)
    {
        for (int i = 1; i < entries.Length; i++)
        {
            if (entries[i].Page < entries[i - 1].Page)
                return false;
        }

        return true;
    }

    /// <summary>One page's decision.</summary>
    /// <param name="Page">Its number.</param>
    /// <param name="Record">Its record; none where it has none.</param>
    /// <param name="Kind">What to do.</param>
    /// <param name="Frame">The frame to map it to.</param>
    /// <param name="Compared">Its bytes were found to be the frame's when this was decided.</param>
    /// <param name="History">What was known of it, while its digest lies in that place.</param>
    internal readonly record struct Entry(ulong Page, PageRef Record, PlanKind Kind, FrameId Frame, bool Compared, PageHistory History);
}
