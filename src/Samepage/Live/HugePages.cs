using System.Diagnostics;
using System.IO.Hashing;
using Samepage.Agent;
using Samepage.Engine;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>The transparent huge pages of one process, in areas whose program asked for merging: the memory of virtual machines, most of all.</summary>
/// <remarks>
/// <para>They are not watched: the first write to a watched huge page splits it, and a program must not pay for being looked at. A new one is reported as
/// written once; from then on its content is read now and then, and it is reported again when it has changed and then stood still between two looks. What the engine
/// takes for unchanged may so be stale; it stays a hint, as everything is that was read: the comparison after the move decides. Only a merge splits them.</para>
/// <para>Looking takes at most a fiftieth of a processor, and ends when the process has run no more since all was looked at twice.</para>
/// <para>One thread at a time: the attendant that has its process's <see cref="Lane.Hold"/>.</para>
/// </remarks>
internal sealed class HugePages
{
    private const ulong Page = 4096;
    private const ulong Bytes = 2UL << 20;
    private const int Share = 50;
    private static readonly TimeSpan LookMost = TimeSpan.FromMilliseconds(20);

    /// <summary>What is read, by each thread that reads: a read may be left behind in the middle.</summary>
    [ThreadStatic]
    private static byte[]? s_content;
    private readonly Dictionary<ulong, Seen> _seen = [];
    private readonly List<ulong> _order = [];
    private readonly HashSet<ulong> _split = [];
    private readonly List<PageRegion> _regions = [];
    private long _lastLook = Stopwatch.GetTimestamp();
    private long _processorTicks, _looksSinceItRan;
    private int _next;

    /// <summary>There are some that are looked at now and then, whether the process runs or not.</summary>
    public bool HasAny => _seen.Count > 0;

    /// <summary>Adds those that are new, and those that have changed and stand still again, to what was written.</summary>
    /// <param name="space">Their process.</param>
    /// <param name="written">What else was written, by rising address, as is what results.</param>
    public void Collect(LiveSpace space, List<WrittenRun> written)
    {
        int before = written.Count;
        if (!space.IsIdle)
            Find(space, written);
        Look(space, written);
        if (written.Count > before)
            written.Sort((one, other) => one.Range.Start.Value.CompareTo(other.Range.Start.Value));
    }

    /// <summary>Those in some areas are to be reported again.</summary>
    public void Forget(Area[] areas)
    {
        foreach (Area area in areas)
        {
            for (ulong start = (area.Range.Start.Value * Page + Bytes - 1) / Bytes * Bytes; start < area.Range.End * Page && _seen.Count > 0; start += Bytes)
                _ = _seen.Remove(start);
        }
    }

    /// <summary>A merge has split those in a range.</summary>
    public void NoteSplit(ulong start, ulong length)
    {
        for (ulong huge = start / Bytes * Bytes; huge < start + length; huge += Bytes)
        {
            if (_seen.ContainsKey(huge))
                _split.Add(huge);
        }
    }

    /// <summary>Makes those that merging has split whole again, as far as the kernel will: for a process that has been given back. Where pages have gone since, it
    /// would take more memory than before, and is left.</summary>
    public void MakeWhole(LiveSpace space)
    {
        int most = 5;
        foreach (ulong start in _split)
        {
            _regions.Clear();
            _ = space.Pagemap.CollectPopulated(start, start + Bytes, _regions);
            if (_regions.Sum(region => (long)(region.End - region.Start)) != (long)Bytes)
                continue;
            // A page that is in use for a moment is in the way, and is tried again; where that has not helped once, the kernel does not want to.
            int tries = 0;
            while (tries < most && !PidFd.TryCollapse(space.PidFd, start, Bytes))
                Thread.Sleep(tries++);
            if (tries == most)
                most = 1;
        }

        _split.Clear();
    }

    private static bool IsAsked(in Segment segment) => segment.Kind == AreaKind.Mergeable && (segment.Advice & OperationFlags.Mergeable) != 0;

    private void Find(LiveSpace space, List<WrittenRun> written)
    {
        HashSet<ulong> gone = [.. _seen.Keys];
        foreach (Segment segment in space.Map.Segments)
        {
            if (!IsAsked(segment) || segment.End - segment.Start < Bytes)
                continue;
            _regions.Clear();
            _ = space.Pagemap.CollectHuge(segment.Start, segment.End, _regions);
            foreach (PageRegion region in _regions)
            {
                // One may lie across the border of the area: its part within is too small to be seen as whole.
                for (ulong start = (region.Start + Bytes - 1) / Bytes * Bytes; start + Bytes <= region.End; start += Bytes)
                {
                    if (!gone.Remove(start) && _seen.TryAdd(start, default))
                        written.Add(Whole(start));
                }
            }
        }

        foreach (ulong start in gone)
            _seen.Remove(start);
        _order.Clear();
        _order.AddRange(_seen.Keys.Order());
    }

    private void Look(LiveSpace space, List<WrittenRun> written)
    {
        if (_seen.Count == 0 || !ProcessStat.TryRead(space.Pid, out ProcessStat stat))
            return;
        if (stat.ProcessorTicks != _processorTicks)
            (_processorTicks, _looksSinceItRan) = (stat.ProcessorTicks, 0);
        byte[] content = s_content ??= GC.AllocateUninitializedArray<byte>((int)Bytes);
        long began = Stopwatch.GetTimestamp(), most = Math.Min((began - _lastLook) / Share, LookMost.Ticks * Stopwatch.Frequency / TimeSpan.TicksPerSecond);
        // What a look has cost is paid off before the next.
        for (long ended = began; ended - began < most && _looksSinceItRan < 2L * _seen.Count; ended = _lastLook = Stopwatch.GetTimestamp())
        {
            _looksSinceItRan++;
            ulong start = _order[_next = (_next + 1) % _order.Count];
            if (!_seen.TryGetValue(start, out Seen seen) || new RemoteMemory(space.Pid).Read(start, content) != content.Length)
                continue;
            ulong digest = XxHash3.HashToUInt64(content);
            if (seen.Digest == digest && seen.IsNews)
                written.Add(Whole(start));
            _seen[start] = new Seen(digest, IsNews: seen.Digest != digest && seen.Digest != 0);
        }
    }

    private static WrittenRun Whole(ulong start) => new(new PageRun(new PageNumber(start / Page), (long)(Bytes / Page)), IsZeroPage: false);

    /// <param name="Digest">Of its content when it was last looked at; 0 when it was not yet.</param>
    /// <param name="IsNews">It has changed since it was reported.</param>
    private readonly record struct Seen(ulong Digest, bool IsNews);
}
