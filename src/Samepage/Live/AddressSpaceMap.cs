using System.Diagnostics;
using Samepage.Agent;
using Samepage.Engine;
using Samepage.Linux.Frames;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>A stretch of a target's memory in which an operation may work: one mapping, with the advice that its replacement must carry.</summary>
internal readonly record struct Segment(ulong Start, ulong End, AreaKind Kind, OperationFlags Advice);

/// <summary>What a target's mappings are, and which of them may be merged.</summary>
internal sealed class AddressSpaceMap(int pid, FramePool pool)
{
    /// <summary>What a mapping may show in VmFlags and still be merged: all that its replacement has by itself, or carries on, or does not need.</summary>
    /// <remarks>rd wr mr mw me ac: ordinary writable memory. sd: soft-dirty, kept by the kernel. mg, hg, nh: advice, carried on. uw: tracked by us.
    /// nr: no reservation. Whatever else stands there (locked, no-fork, no-dump, wipe-on-fork, growing, sealed, I/O …) is not merged.</remarks>
    private static readonly HashSet<string> Carried = ["rd", "wr", "mr", "mw", "me", "ac", "sd", "mg", "hg", "nh", "uw", "nr"];

    private static readonly Dictionary<string, bool> KnownFlags = [];
    private readonly List<Mapping> _mappings = [];

    /// <summary>Segments by rising address.</summary>
    public List<Segment> Segments { get; } = [];

    /// <summary>Mappings of the process, all of them: <c>vm.max_map_count</c> bounds these.</summary>
    public int MappingCount { get; private set; }

    /// <summary>When the mappings were read, as a timestamp of <see cref="Stopwatch"/>.</summary>
    public long ReadAt { get; private set; }

    /// <summary>Bytes held in transparent huge pages, which are left whole.</summary>
    public ulong HugeBytes { get; private set; }

    /// <summary>Reads the mappings with their flags.</summary>
    /// <param name="agentStart">The agent's own mapping, left out.</param>
    /// <param name="agentEnd">Its end.</param>
    /// <returns>False when the process is gone.</returns>
    public bool TryRefresh(ulong agentStart, ulong agentEnd)
    {
        if (!Mapping.TryReadAll($"/proc/{pid}/smaps", _mappings))
            return false;
        ReadAt = Stopwatch.GetTimestamp();
        MappingCount = _mappings.Count;
        Segments.Clear();
        HugeBytes = 0;
        foreach (Mapping mapping in _mappings)
        {
            HugeBytes += mapping.AnonymousHugeBytes;
            if (mapping.Start >= agentStart && mapping.End <= agentEnd)
                continue;
            if (mapping.Inode == pool.Inode && mapping.Device == pool.Device)
                Segments.Add(new Segment(mapping.Start, mapping.End, AreaKind.Merged, AdviceOf(mapping)));
            else if (IsMergeable(mapping))
                Segments.Add(new Segment(mapping.Start, mapping.End, AreaKind.Mergeable, AdviceOf(mapping)));
        }

        return true;
    }

    /// <summary>Notes what our own merges have made of the segments, so that mappings need not be read again for them.</summary>
    /// <param name="merged">Ranges that are mappings of frames now, by rising address.</param>
    public void NoteMerged(List<(ulong Start, ulong End)> merged)
    {
        if (merged.Count == 0)
            return;
        MappingCount += 2 * merged.Count;
        List<Segment> before = [.. Segments];
        Segments.Clear();
        int next = 0;
        foreach (Segment segment in before)
        {
            ulong at = segment.Start;
            while (segment.Kind == AreaKind.Mergeable && next < merged.Count && merged[next].Start < segment.End)
            {
                (ulong start, ulong end) = merged[next];
                if (end > segment.End || start < at)
                    break;
                if (start > at)
                    Segments.Add(segment with { Start = at, End = start });
                Segments.Add(segment with { Start = start, End = end, Kind = AreaKind.Merged });
                at = end;
                next++;
            }

            if (at < segment.End)
                Segments.Add(segment with { Start = at });
        }
    }

    private static bool IsMergeable(in Mapping mapping) =>
        mapping is { Inode: 0, Shared: false, Readable: true, Writable: true, Executable: false, Name: "" or "[heap]" } && HasOnlyCarriedFlags(mapping.Flags);

    private static bool HasOnlyCarriedFlags(string flags)
    {
        if (!KnownFlags.TryGetValue(flags, out bool carried))
            KnownFlags.Add(flags, carried = flags.Length > 0 && flags.Split(' ', StringSplitOptions.RemoveEmptyEntries).All(Carried.Contains));
        return carried;
    }

    private static OperationFlags AdviceOf(in Mapping mapping) =>
        (mapping.Has("mg") ? OperationFlags.Mergeable : 0) | (mapping.Has("hg") ? OperationFlags.HugePage : 0) | (mapping.Has("nh") ? OperationFlags.NoHugePage : 0);
}
