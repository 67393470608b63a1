using Samepage.Engine;

namespace Samepage.Live;

/// <summary>Ranges of addresses in whole pages that do not overlap, by rising address.</summary>
/// <param name="joinsAdjacent">Ranges that touch become one, as those that overlap always do.</param>
internal sealed class RangeSet(bool joinsAdjacent)
{
    /// <summary>Ranges that are kept: as many mappings as a process has by default, 1 MiB. What would be one more is not added.</summary>
    public const int Most = 65536;

    private readonly List<Pages> _ranges = [];

    /// <summary>Adds a range; overlapping ones become one.</summary>
    public void Add(ulong start, ulong end)
    {
        int first = FirstEndingBehind(joinsAdjacent && start > 0 ? start - 1 : start), behind = first;
        for (; behind < _ranges.Count && (joinsAdjacent ? _ranges[behind].Start <= end : _ranges[behind].Start < end); behind++)
            (start, end) = (Math.Min(start, _ranges[behind].Start), Math.Max(end, _ranges[behind].End));
        if (behind > first)
        {
            _ranges[first] = new Pages(start, end);
            _ranges.RemoveRange(first + 1, behind - first - 1);
        }
        else if (_ranges.Count < Most)
        {
            _ranges.Insert(first, new Pages(start, end));
        }
    }

    /// <summary>Whether one range holds all of [start, end).</summary>
    public bool Contains(ulong start, ulong end) => FirstEndingBehind(start) is var at && at < _ranges.Count && _ranges[at].Start <= start && end <= _ranges[at].End;

    /// <summary>Whether a border lies within a range, not at its ends.</summary>
    public bool HasWithin(ulong border) => FirstEndingBehind(border) is var at && at < _ranges.Count && _ranges[at].Start < border;

    /// <summary>Whether a border lies within a range or at its ends.</summary>
    public bool Touches(ulong border) =>
        FirstEndingBehind(border) is var at && ((at < _ranges.Count && _ranges[at].Start <= border) || (at > 0 && _ranges[at - 1].End == border));

    private int FirstEndingBehind(ulong address) => Ranges.FirstEndingBehind(_ranges, address / 4096);

    private readonly record struct Pages(ulong Start, ulong End) : IRanged
    {
        public PageRun Range => new(new PageNumber(Start / 4096), (long)((End - Start) / 4096));
    }
}
