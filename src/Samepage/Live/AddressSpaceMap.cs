using System.Diagnostics;
using Samepage.Agent;
using Samepage.Engine;
using Samepage.Linux.Frames;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>A stretch of a target's memory in which an operation may work: one mapping, with the advice that its replacement must carry.</summary>
/// <param name="Start">First byte.</param>
/// <param name="End">One past the last byte.</param>
/// <param name="Kind">What it holds.</param>
/// <param name="Advice">What the program advised.</param>
/// <param name="Offset">Bytes into the pool; meaningless but for a mapping of frames.</param>
/// <param name="IsFixed">A mapping of frames that the program has sealed since, mseal(2), or given a protection key: nothing can take its place, or nothing would look like it.</param>
/// <param name="Flags">Its VmFlags.</param>
internal readonly record struct Segment(ulong Start, ulong End, AreaKind Kind, OperationFlags Advice, ulong Offset, bool IsFixed = false, string Flags = "")
{
    /// <summary>The frame that a mapping of frames has at an address.</summary>
    public FrameId FrameAt(ulong address) => new((uint)((Offset + (address - Start)) / 4096));
}

/// <summary>What a target's mappings are, and which of them may be merged.</summary>
/// <remarks>One thread at a time reads and changes it, whoever works on the process. Any other looks at it by <see cref="Observe"/>.</remarks>
/// <param name="executor">The agent's thread by which it is looked at as long as there is an agent: where that is gone, so is the program that was taken in.</param>
/// <param name="pool">Where its frames lie.</param>
internal sealed class AddressSpaceMap(int executor, FramePool pool)
{
    private readonly object _changing = new();
    private List<Mapping> _mappings = [], _mappingsBefore = [];
    private List<Segment> _segmentsBefore = [];

    /// <summary>What the mapping of frames is given of what the area has, and what takes its place of what that has then.</summary>
    public static readonly IReadOnlyDictionary<string, OperationFlags> Carried = new Dictionary<string, OperationFlags>
    {
        ["mg"] = OperationFlags.Mergeable,
        ["hg"] = OperationFlags.HugePage,
        ["nh"] = OperationFlags.NoHugePage,
        ["dc"] = OperationFlags.DontFork,
        ["dd"] = OperationFlags.DontDump,
        ["rr"] = OperationFlags.Random,
        ["sr"] = OperationFlags.Sequential,
        ["nr"] = OperationFlags.NoReserve,
        ["lo"] = OperationFlags.Locked,
        ["lf"] = OperationFlags.OnFault,
    };

    /// <summary>Areas that the kernel has refused to move, left alone.</summary>
    public RefusedAreas Refused { get; } = new();

    /// <summary>Only what the program has advised to be mergeable may be merged; otherwise all that can be.</summary>
    public bool AdvisedOnly { get; set; }

    /// <summary>What the agent can do besides what it must: memory that needs the rest is left alone.</summary>
    public AgentAbilities Abilities { get; set; } = AgentAbilities.All;

    /// <summary>Its abilities when the segments were read: what their advice asks for it could do then.</summary>
    public AgentAbilities ReadFor { get; private set; } = AgentAbilities.All;

    /// <summary>Segments by rising address.</summary>
    public List<Segment> Segments { get; private set; } = [];

    /// <summary>Mappings of the process, all of them: <c>vm.max_map_count</c> bounds these.</summary>
    public int MappingCount { get; private set; }

    /// <summary>The mappings as they were last read, ours among them.</summary>
    public IReadOnlyList<Mapping> Mappings => _mappings;

    /// <summary>When the mappings were read, as a timestamp of <see cref="Stopwatch"/>.</summary>
    public long ReadAt { get; private set; }

    /// <summary>Bytes held in transparent huge pages, which are left whole.</summary>
    public ulong HugeBytes { get; private set; }

    /// <summary>Reads the mappings with their flags.</summary>
    /// <param name="agentStart">The agent's own mapping, left out.</param>
    /// <param name="agentEnd">Its end.</param>
    /// <param name="thread">A thread by which to look when the agent has left.</param>
    /// <returns>False when the process is gone.</returns>
    public bool TryRefresh(ulong agentStart, ulong agentEnd, int? thread = null)
    {
        // The lists of before serve again; what is read may be waited for, so nobody else is kept meanwhile.
        (List<Mapping> mappings, List<Segment> segments) = (_mappingsBefore, _segmentsBefore);
        if (!Mapping.TryReadAll($"/proc/{thread ?? executor}/smaps", mappings))
            return false;
        ReadAt = Stopwatch.GetTimestamp();
        MappingCount = mappings.Count;
        segments.Clear();
        ulong huge = 0;
        bool reservesAll = Overcommit.ReservesAll;
        AgentAbilities abilities = Abilities;
        OperationFlags forbidden = ((abilities & AgentAbilities.Names) != 0 ? 0 : OperationFlags.Named) | ((abilities & AgentAbilities.Code) != 0 ? 0 : OperationFlags.Executable);
        Refused.BeginLook();
        foreach (Mapping mapping in mappings)
        {
            huge += mapping.AnonymousHugeBytes;
            if (mapping.Start >= agentStart && mapping.End <= agentEnd)
                continue;
            if (pool.Has(mapping))
                segments.Add(new Segment(mapping.Start, mapping.End, AreaKind.Merged, AdviceOf(mapping) & ~forbidden, mapping.Offset, mapping.ProtectionKey != 0 || mapping.Has("sl"), mapping.Flags));
            else if (AreaEligibility.IsMergeable(MappingTraits.Of(mapping, reservesAll)) && (!AdvisedOnly || mapping.Has("mg")) && CanBeMerged(mapping) && !Refused.Has(mapping))
                segments.Add(new Segment(mapping.Start, mapping.End, AreaKind.Mergeable, AdviceOf(mapping), 0, Flags: mapping.Flags));
        }

        HugeBytes = huge;
        lock (_changing)
        {
            (_mappingsBefore, _mappings) = (_mappings, mappings);
            (_segmentsBefore, Segments) = (Segments, segments);
        }

        ReadFor = abilities;
        Refused.EndLook();
        return true;
    }

    /// <summary>Looks at segments and mappings while nobody changes them. Any thread; what looks must be quick.</summary>
    public T Observe<T>(Func<IReadOnlyList<Segment>, IReadOnlyList<Mapping>, T> look)
    {
        lock (_changing)
            return look(Segments, _mappings);
    }

    /// <summary>Notes what our own merges have made of the segments, so that mappings need not be read again for them.</summary>
    /// <param name="merged">Ranges that are mappings of frames now, by rising address, and where in the pool their frames begin.</param>
    public void NoteMerged(List<(ulong Start, ulong End, ulong Offset)> merged)
    {
        if (merged.Count == 0)
            return;
        MappingCount += 2 * merged.Count;
        List<Segment> segments = _segmentsBefore;
        segments.Clear();
        int next = 0;
        foreach (Segment segment in Segments)
        {
            ulong at = segment.Start;
            while (segment.Kind == AreaKind.Mergeable && next < merged.Count && merged[next].Start < segment.End)
            {
                (ulong start, ulong end, ulong offset) = merged[next];
                if (end > segment.End || start < at)
                    break;
                if (start > at)
                    segments.Add(segment with { Start = at, End = start });
                segments.Add(segment with { Start = start, End = end, Kind = AreaKind.Merged, Offset = offset });
                at = end;
                next++;
            }

            if (at < segment.End)
                segments.Add(segment with { Start = at });
        }

        lock (_changing)
            (_segmentsBefore, Segments) = (Segments, segments);
    }

    private bool CanBeMerged(in Mapping mapping) =>
        (!mapping.Executable || (Abilities & AgentAbilities.Code) != 0) && ((Abilities & AgentAbilities.Names) != 0 || !MappingTraits.IsNamed(mapping));

    /// <summary>What must be carried of a mapping's flags and name, and whether its protection is in the way of a move.</summary>
    public static OperationFlags AdviceOf(in Mapping mapping)
    {
        OperationFlags advice = (mapping is { Readable: true, Writable: true, Executable: false } ? 0 : OperationFlags.Protected) | (mapping.Executable ? OperationFlags.Executable : 0)
            | (MappingTraits.IsNamed(mapping) ? OperationFlags.Named : 0);
        foreach ((string flag, OperationFlags carried) in Carried)
            advice |= mapping.Has(flag) ? carried : 0;
        return advice;
    }
}
