using System.Collections.Concurrent;
using System.Globalization;
using Samepage.Engine;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>Where we have worked in a process, to be held against what is there when it is given back.</summary>
/// <remarks>
/// <para>A program changes its mappings while it is merged, so only what we touched is compared: an area in which something was merged was one mapping right before, and what is given back
/// must have the flags that the frames in its place had last, for those the program may have changed.</para>
/// <para>A daemon that recovers after another's death knows no areas. It takes it for our doing where memory that it has given back lies next to memory that looks the same.</para>
/// <para>At most <see cref="RangeSet.Most"/> ranges of each kind are remembered, some MiB; what is more is not compared.</para>
/// </remarks>
internal sealed class Footprint
{
    /// <summary>Fewer mappings more are worth a line in the log, and no more: an area whose beginning was merged may keep one.</summary>
    private const int MappingsThatMatter = 64;

    /// <summary>Bytes of what is moved to be one with what was given back before it.</summary>
    private const ulong MovedMost = 16 << 20;

    private static readonly ConcurrentDictionary<string, string> LastingFlags = [];
    private readonly RangeSet _areas = new(joinsAdjacent: false), _given = new(joinsAdjacent: true), _behind = new(joinsAdjacent: false);
    private readonly Dictionary<ulong, Segment> _expected = [];

    /// <summary>Notes the areas in which something was merged, as they looked right before.</summary>
    /// <param name="merged">What was merged, by rising address.</param>
    /// <param name="segments">The process's segments before that, by rising address.</param>
    public void NoteMerged(List<(ulong Start, ulong End, ulong Offset)> merged, List<Segment> segments)
    {
        int at = 0;
        foreach ((ulong start, _, _) in merged)
        {
            while (at < segments.Count && segments[at].End <= start)
                at++;
            if (at < segments.Count && segments[at].Start <= start)
                _areas.Add(segments[at].Start, segments[at].End);
        }
    }

    /// <summary>Notes that a range was given back.</summary>
    public void NoteGiven(ulong start, ulong end) => _given.Add(start, end);

    /// <summary>Notes what is about to be given back, as it looks now.</summary>
    public void Expect(List<Segment> segments)
    {
        foreach (Segment segment in segments)
        {
            if (segment.Kind != AreaKind.Merged || segment.IsFixed)
                continue;
            _given.Add(segment.Start, segment.End);
            if (_expected.Count < RangeSet.Most)
                _expected[segment.Start] = segment;
        }
    }

    /// <summary>Mappings that are to be one with the mapping right before them: those that were given back; where there are none, those behind the beginning of an area that was
    /// given back, if they are short, for their pages must be moved. A huge page would be split for that, and is worth more than a mapping.</summary>
    /// <remarks>A mapping is joined piece by piece, perhaps not all at once: so those behind are remembered, and a border within one is ours from then on.</remarks>
    /// <param name="mappings">All mappings, by rising address.</param>
    public List<Mapping> ToBeJoined(IReadOnlyList<Mapping> mappings)
    {
        List<Mapping> given = [], behind = [];
        for (int i = 1; i < mappings.Count; i++)
        {
            (Mapping low, Mapping high) = (mappings[i - 1], mappings[i]);
            // What is neither charged nor without reservation would be charged from then on: it can be written while it is joined.
            if (high.Shared || (!high.Has("ac") && !high.Has("nr")) || !IsLeftOver(low, high))
                continue;
            if (_given.Contains(high.Start, high.End))
                given.Add(high);
            else if ((_given.Contains(low.Start, low.End) || _behind.HasWithin(high.Start)) && high is { AnonymousHugeBytes: 0, Length: <= MovedMost })
                behind.Add(high);
        }

        if (given.Count > 0)
            return given;
        foreach (Mapping mapping in behind)
            _behind.Add(mapping.Start, mapping.End);
        return behind;
    }

    /// <summary>Says what is not as it was; what was expected is not any more then.</summary>
    /// <param name="mappings">All mappings, by rising address.</param>
    /// <param name="matters">It is worth an exit status.</param>
    /// <returns>A clause; empty when all is.</returns>
    public string Difference(IReadOnlyList<Mapping> mappings, out bool matters)
    {
        int more = 0;
        for (int i = 1; i < mappings.Count; i++)
            more += IsLeftOver(mappings[i - 1], mappings[i]) ? 1 : 0;
        SortedDictionary<string, ulong> flags = DifferentFlags(mappings);
        _expected.Clear();
        matters = more >= MappingsThatMatter || flags.Count > 0;
        List<string> parts = [];
        if (more > 0)
            parts.Add(string.Create(CultureInfo.InvariantCulture, $"{more} mappings more than there were: the kernel has not joined what lies side by side and looks the same"));
        foreach ((string difference, ulong bytes) in flags)
            parts.Add(string.Create(CultureInfo.InvariantCulture, $"{bytes >> 10} KiB {difference}"));
        return string.Join("; ", parts);
    }

    /// <summary>What the flags of what was given back differ in, and in how many bytes of it.</summary>
    private SortedDictionary<string, ulong> DifferentFlags(IReadOnlyList<Mapping> mappings)
    {
        SortedDictionary<string, ulong> found = new(StringComparer.Ordinal);
        int at = 0;
        foreach (Segment expected in _expected.Values.OrderBy(segment => segment.Start))
        {
            while (at < mappings.Count && mappings[at].End <= expected.Start)
                at++;
            // What the program has taken away meanwhile, or put there, is its own.
            for (int i = at; i < mappings.Count && mappings[i].Start < expected.End; i++)
            {
                if (mappings[i].Inode != 0 || Lasting(mappings[i].Flags) == Lasting(expected.Flags))
                    continue;
                ulong bytes = Math.Min(mappings[i].End, expected.End) - Math.Max(mappings[i].Start, expected.Start);
                string[] before = Lasting(expected.Flags).Split(' '), after = Lasting(mappings[i].Flags).Split(' ');
                string difference = string.Join(" and ", [.. before.Except(after).Select(flag => $"without {flag}"), .. after.Except(before).Select(flag => $"with {flag}")]);
                found[$"{difference} in VmFlags, unlike before"] = found.GetValueOrDefault($"{difference} in VmFlags, unlike before") + bytes;
            }
        }

        return found;
    }

    /// <summary>Whether two neighbours look as if they had been one, and we cut it.</summary>
    private bool IsLeftOver(in Mapping low, in Mapping high) =>
        low.End == high.Start && low.Inode == 0 && high.Inode == 0 && low.Name == high.Name && low.ProtectionKey == high.ProtectionKey &&
        (low.Readable, low.Writable, low.Executable, low.Shared) == (high.Readable, high.Writable, high.Executable, high.Shared) &&
        (_areas.HasWithin(high.Start) || _behind.HasWithin(high.Start) || (_given.Touches(high.Start) && !_areas.Touches(high.Start))) && Lasting(low.Flags) == Lasting(high.Flags);

    /// <summary>The flags but for those that come and go by themselves.</summary>
    private static string Lasting(string flags) => LastingFlags.GetOrAdd(flags, static flags =>
        string.Join(' ', flags.Split(' ', StringSplitOptions.RemoveEmptyEntries).Where(IsLasting)));

    private static bool IsLasting(string flag) =>
        !MappingTraits.Flags.TryGetValue(flag, out (FlagFate Fate, AreaTraits Trait) known) || (known.Fate != FlagFate.Harmless && known.Trait != AreaTraits.Watched);
}
