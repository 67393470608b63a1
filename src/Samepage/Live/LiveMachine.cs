using System.Diagnostics;
using Samepage.Agent;
using Samepage.Engine;
using Samepage.Linux;
using Samepage.Linux.Frames;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;
using Samepage.Linux.Userfault;

namespace Samepage.Live;

/// <summary>The engine's machine on real processes.</summary>
/// <remarks>One OS thread makes all calls; plans are carried out by several, each process by one of them, because ptrace belongs to the thread that
/// seized. See ARCHITECTURE.md for the life of a page.</remarks>
internal sealed class LiveMachine : IMachine, IDisposable
{
    private const ulong Page = 4096;

    /// <summary>Fewer pages are read by the scanner at once: to wake somebody takes as long.</summary>
    private const int FewPages = 32;

    private static readonly TimeSpan LookIsFresh = TimeSpan.FromMilliseconds(250);
    private const ulong SpanGap = 64UL << 20;
    private readonly Dictionary<int, LiveSpace> _spaces = [];
    private readonly Dictionary<int, FramePool> _pools = [];
    private readonly ForkWatch _forks = new();
    private readonly Hands _hands = new();
    private readonly List<PageRegion> _regions = [];
    private readonly PageReader _reader = new(), _aidesReader = new();
    private readonly Aide _aide = new();
    private List<SpacePlan> _begun = [];
    private Task _reading = Task.CompletedTask;
    private (DomainId Domain, Task<bool> Written) _writing;

    /// <inheritdoc/>
    public int PageSize => (int)Page;

    /// <inheritdoc/>
    public bool TracksWrites => true;

    /// <summary>The processes taken in.</summary>
    public IReadOnlyCollection<LiveSpace> Spaces => _spaces.Values;

    public LiveSpace this[SpaceId space] => _spaces[space.Value];

    /// <summary>The frame pool of a domain, made when first asked for.</summary>
    /// <exception cref="SyscallException">It cannot be made.</exception>
    public FramePool PoolOf(DomainId domain)
    {
        if (!_pools.TryGetValue(domain.Value, out FramePool? pool))
            _pools.Add(domain.Value, pool = FramePool.Create());
        return pool;
    }

    /// <summary>Takes over the pool of a daemon that has died, for a domain that has none. Nothing new can be merged in that domain.</summary>
    public void Adopt(DomainId domain, FramePool pool) => _pools.Add(domain.Value, pool);

    /// <summary>Whether a domain has a pool.</summary>
    public bool HasPool(DomainId domain) => _pools.ContainsKey(domain.Value);

    /// <summary>Gives the pool of a domain up in which nobody is.</summary>
    public void Forget(DomainId domain)
    {
        if (_pools.Remove(domain.Value, out FramePool? pool))
            pool.Dispose();
    }

    /// <summary>True when a mapping is of one of our pools: in a process that was not taken in, it came by fork.</summary>
    public FramePool? PoolOf(in Mapping mapping)
    {
        foreach (FramePool pool in _pools.Values)
        {
            if (pool.Has(mapping))
                return pool;
        }

        return null;
    }

    public void Add(LiveSpace space)
    {
        _spaces.Add(space.Id.Value, space);
        _forks.Add(space);
    }

    public void Remove(SpaceId id)
    {
        if (!_spaces.Remove(id.Value, out LiveSpace? space))
            return;
        _forks.Remove(space);
        _forks.Inherit(space);
        space.Dispose();
    }

    /// <inheritdoc/>
    public bool TryListAreas(SpaceId id, List<Area> areas, out bool changed)
    {
        LiveSpace space = _spaces[id.Value];
        changed = false;
        // Without its executor it has called exec, or is about to end.
        if (PidFd.HasEnded(space.PidFd) || (!space.IsIdle && !Directory.Exists($"/proc/{space.Pid}/task/{space.Session.ExecutorThread}")))
            return false;
        bool list = space.MustList;
        if (!list && !space.AreasFromMap)
            return true;
        if (list && !Refresh(space))
            return false;
        (space.MustList, space.AreasFromMap) = (false, false);
        List<Area> listed = [];
        foreach (Segment segment in space.Map.Segments)
        {
            Area area = new(new PageRun(new PageNumber(segment.Start / Page), (long)((segment.End - segment.Start) / Page)), segment.Kind);
            if (area.Kind == AreaKind.Mergeable && listed.Count > 0 && listed[^1].Kind == AreaKind.Mergeable && listed[^1].Range.End == area.Range.Start.Value)
                listed[^1] = new Area(new PageRun(listed[^1].Range.Start, listed[^1].Range.Count + area.Range.Count), AreaKind.Mergeable);
            else
                listed.Add(area);
        }

        for (int i = 0; i < listed.Count; i++)
        {
            if (list && listed[i].Kind == AreaKind.Mergeable &&
                Userfaultfd.TrackWrites(space.Session.T, listed[i].Range.Start.Value * Page, (ulong)listed[i].Range.Count * Page) is var errno && errno != Errno.None)
            {
                if (errno == Errno.ESRCH)
                    return false;
                listed.RemoveAt(i--); // EBUSY: another userfaultfd has it; EINVAL: it changed just now
            }
        }

        changed = !listed.SequenceEqual(areas);
        areas.Clear();
        areas.AddRange(listed);
        return true;
    }

    /// <inheritdoc/>
    public bool TryCollectWritten(SpaceId id, List<Area> areas, bool everything, List<WrittenRun> written)
    {
        written.Clear();
        LiveSpace space = _spaces[id.Value];
        if (everything)
            return TryListPopulated(space, areas, written);
        foreach ((ulong start, ulong end) in space.IsIdle ? [] : Spans(areas, AreaKind.Mergeable))
        {
            _regions.Clear();
            if (space.Pagemap.CollectWritten(start, end, _regions) == Errno.ESRCH)
                return false;
            AddWritten(written);
        }

        space.Huge.Collect(space, written);
        return true;
    }

    /// <inheritdoc/>
    public bool TryCollectMerged(SpaceId id, List<Area> areas, bool everything, List<MergedRun> merged, out bool unchanged)
    {
        merged.Clear();
        LiveSpace space = _spaces[id.Value];
        unchanged = space.IsIdle && !everything;
        if (unchanged)
            return true;
        int segment = 0;
        foreach ((ulong start, ulong end) in Spans(areas, AreaKind.Merged))
        {
            _regions.Clear();
            if (space.Pagemap.CollectFilePages(start, end, _regions) == Errno.ESRCH)
                return false;
            foreach (PageRegion region in _regions)
                AddMerged(space.Map.Segments, ref segment, region, merged);
        }

        return true;
    }

    /// <inheritdoc/>
    public void Read(SpaceId id, PageRun range, Span<byte> content, Span<PageFact> facts)
    {
        LetBeRead(id, range);
        _reader.Read(_spaces[id.Value], range, content, facts);
    }

    /// <inheritdoc/>
    public void BeginRead(SpaceId id, PageRun range, Memory<byte> content, Memory<PageFact> facts)
    {
        LetBeRead(id, range);
        LiveSpace space = _spaces[id.Value];
        _reading = Task.CompletedTask;
        if (range.Count >= FewPages)
            _reading = _aide.Begin(() => _aidesReader.Read(space, range, content.Span, facts.Span));
        else
            _reader.Read(space, range, content.Span, facts.Span);
    }

    /// <inheritdoc/>
    public void EndRead() => _reading.GetAwaiter().GetResult();

    /// <summary>Sees to it that no page of a range is moved out, or will be before somebody has read it.</summary>
    /// <remarks>Whoever touches a page that is moved out waits for its executor, perhaps for ever. That must be nobody who looks after others. Hands wait for an executor only so long;
    /// so what was begun ends first, and nothing is begun while anything is read (<see cref="BeginExecute"/>).</remarks>
    private void LetBeRead(SpaceId id, PageRun range)
    {
        if (MayBeMovedOut(id, range))
            EndExecute();
    }

    /// <summary>Whether a page is in what was begun, or lies between two runs that may be moved out together.</summary>
    private bool MayBeMovedOut(SpaceId id, PageRun range)
    {
        int plan = _begun.FindIndex(plan => plan.Space == id);
        if (plan < 0)
            return false;
        List<PlannedRun> runs = _begun[plan].Runs;
        int at = Ranges.FirstEndingBehind(runs, range.Start.Value);
        return at < runs.Count && (runs[at].Range.Start.Value < range.End || (at > 0 && runs[at].Range.Start.Value - runs[at - 1].Range.End <= Stretches.PagesBetween));
    }

    /// <inheritdoc/>
    public void BeginWriteFrames(DomainId domain, FrameId first, ReadOnlyMemory<byte> content)
    {
        FramePool pool = _pools[domain.Value];
        _writing = (domain, _aide.Begin(() => pool.TryWrite(first.Value, content.Span)));
    }

    /// <inheritdoc/>
    public bool EndWriteFrames()
    {
        (DomainId domain, Task<bool> written) = _writing;
        if (written.GetAwaiter().GetResult())
            return true;
        foreach (LiveSpace space in _spaces.Values.Where(space => space.Domain == domain))
            space.Obstacle = _pools[domain.Value].Refusal;
        return false;
    }

    /// <inheritdoc/>
    public bool TryReadFrame(DomainId domain, FrameId frame, Span<byte> content) => _pools[domain.Value].TryRead(frame.Value, content);

    /// <inheritdoc/>
    public void FindUnmapped(DomainId domain, FrameId first, Span<bool> unmapped) => _pools[domain.Value].FindUnmapped(first.Value, unmapped);

    /// <inheritdoc/>
    public void FreeFrames(DomainId domain, FrameId first, int count) => _pools[domain.Value].Punch(first.Value, count);

    /// <inheritdoc/>
    public void BeginExecute(List<SpacePlan> plans)
    {
        EndRead();
        _begun = plans;
        _hands.Begin(plans.Count, i => Execute(plans[i].Space, plans[i].Runs, plans[i].Outcomes));
    }

    /// <inheritdoc/>
    public void EndExecute()
    {
        _hands.End();
        _begun = [];
    }

    /// <inheritdoc/>
    public void Execute(SpaceId id, List<PlannedRun> plan, Span<PageOutcome> outcomes)
    {
        LiveSpace space = _spaces[id.Value];
        outcomes.Fill(space.MustLeave ? PageOutcome.Deferred : PageOutcome.Gone);
        if (space.MustLeave)
            return;
        // The advice of every mapping is looked at now, right before the threads are held: what is replaced must look the same. (Protection and
        // locks the move itself compares.) A look that is only just past serves again: one costs as much as a program has mappings.
        if (Stopwatch.GetElapsedTime(space.Map.ReadAt) > LookIsFresh && !Refresh(space))
            return;
        PlanExecution execution = new(space, MappingLimit.ForMerging(MappingLimit.Read()));
        execution.Run(plan, outcomes);
        space.AreasFromMap = true;
        if (execution.Unmerged)
            space.ForgetLook();
    }

    /// <summary>Gives a process its own copy of everything back.</summary>
    /// <returns>False when it could not be done; why stands in the space's obstacle.</returns>
    public static bool UnmergeAll(LiveSpace space)
    {
        for (int round = 0, refused = 0; round < 200 && refused < 40 && space.Unanswered < 3; round++)
        {
            if (PidFd.HasEnded(space.PidFd) || !Refresh(space))
                return true;
            // Memory that is tracked looks different to the kernel, and what is given back could not join it.
            foreach (Segment segment in space.Map.Segments.Where(segment => segment.Kind == AreaKind.Mergeable))
                Userfaultfd.StopTracking(space.Session.T, segment.Start, segment.End - segment.Start);
            List<AgentOperation> operations = UnmergeOperations(space.Map.Segments);
            if (operations.Count == 0)
            {
                if (!space.Map.Segments.Exists(segment => segment.IsFixed))
                    return true;
                space.Obstacle = "it has sealed memory that was merged before (mseal), or given it a protection key: nothing can be put in its place; it stays as it is, and right, until the program ends";
                break;
            }

            if (!HasRoom(space) || !TryMindPins(space, operations))
                break;
            int tried = space.Run(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(operations));
            if (operations.Take(tried).Any(operation => operation.Done > 0))
                continue;
            if (tried > 0)
            {
                refused++;
                Errno errno = (Errno)operations[0].Error;
                space.Obstacle = errno == Errno.ENOMEM
                    ? "ENOMEM: the process has no room for a mapping more (vm.max_map_count, RLIMIT_AS, RLIMIT_DATA), or there is no memory; what is merged stays as it is, and right; detach it again when there is"
                    : $"the kernel refused to put memory in the place of frames: {errno}";
            }

            Thread.Sleep(25);
        }

        if (space.Unanswered > 0 && !PidFd.HasEnded(space.PidFd))
            space.Obstacle = "the agent in it does not answer, or is gone: something was done to it; what is merged stays so until the program ends";
        space.ForgetLook(); // its memory is to be tracked again
        return false;
    }

    /// <summary>What is given back is memory that the process, or the machine, must have. Where it has not, somebody would be killed for it (by the kernel, that is, but for our doing), and
    /// what is merged can as well stay so.</summary>
    private static bool HasRoom(LiveSpace space)
    {
        const long Slack = 2 << 20; // what an unmerge takes for itself
        List<PageRegion> regions = [];
        foreach (Segment segment in space.Map.Segments.Where(segment => segment.Kind == AreaKind.Merged))
            _ = space.Pagemap.CollectFilePages(segment.Start, segment.End, regions);
        long needed = regions.Sum(region => (long)(region.End - region.Start));
        if (needed == 0 || needed + Slack <= MemoryRoom.Left(space.Pid, out string where))
            return true;
        space.Obstacle = $"{where}: {needed >> 20} MiB of merged pages would each become memory of its own, and the kernel would have to kill somebody for it; they stay as they are, and right; detach it again when there is room";
        return false;
    }

    /// <summary>A private page inside a mapping of frames may be one that a device is writing into, and a copy would miss what it writes. (What is moved out to be
    /// merged is safe: the move refuses pinned pages. Frames are, too: nobody writes them.)</summary>
    /// <returns>False when nothing is left to do: memory is pinned for long, and what is broken then cannot be given back.</returns>
    private static bool TryMindPins(LiveSpace space, List<AgentOperation> operations)
    {
        PinRisk risk = Pins.Look(space.Pid, space.Map.Mappings);
        if (risk == PinRisk.None)
            return true;
        bool whole = true;
        for (int i = operations.Count - 1; i >= 0; i--)
        {
            if (!space.HasBroken(operations[i].Address, operations[i].Length))
                continue;
            if (risk == PinRisk.Possible)
            {
                operations[i] = operations[i] with { Flags = operations[i].Flags | OperationFlags.Settle };
                continue;
            }

            operations.RemoveAt(i);
            whole = false;
        }

        if (!whole)
            space.Obstacle = "it has memory pinned for devices (VmPin: registered buffers of io_uring, RDMA, AF_XDP), perhaps pages that were merged and written since; "
                + "they stay as they are, and right; detach it again when it has unregistered them";
        return operations.Count > 0;
    }

    /// <summary>The operations that give all mappings of frames back, in an order in which areas join again.</summary>
    /// <remarks>Memory joins only one neighbour whose pages it shares a reverse map with. Where plain memory lies behind a stretch of merged
    /// mappings, the stretch is worked through from its end, so that all of it joins that memory; otherwise from its beginning.</remarks>
    private static List<AgentOperation> UnmergeOperations(List<Segment> segments)
    {
        List<AgentOperation> operations = [];
        for (int first = 0; first < segments.Count;)
        {
            int end = first;
            int start = operations.Count;
            while (end < segments.Count && segments[end].Kind == AreaKind.Merged && (end == first || segments[end].Start == segments[end - 1].End))
            {
                Segment segment = segments[end++];
                for (ulong at = segment.Start; !segment.IsFixed && at < segment.End; at += AgentSession.MaxRunBytes)
                {
                    ulong length = Math.Min(AgentSession.MaxRunBytes, segment.End - at);
                    operations.Add(new AgentOperation { Kind = OperationKind.Unmerge, Flags = segment.Advice, Address = at, Length = length });
                }
            }

            if (end > first && end < segments.Count && segments[end].Start == segments[end - 1].End)
                operations.Reverse(start, operations.Count - start);
            first = Math.Max(end, first + 1);
        }

        return operations;
    }

    /// <summary>Finds out which processes the children are that a process forked.</summary>
    /// <param name="space">The parent.</param>
    /// <param name="all">Also those that have only just been born.</param>
    public List<Child> FindChildren(LiveSpace space, bool all) => Offspring.Find(space, all, _forks.Watch);

    /// <inheritdoc/>
    public void Dispose()
    {
        _hands.Dispose();
        _aide.Dispose();
        _forks.Dispose();
        foreach (LiveSpace space in _spaces.Values)
            space.Dispose();
        foreach (FramePool pool in _pools.Values)
            pool.Dispose();
    }

    /// <summary>Lists what holds something, and leaves the marks of what was written for the next collection. What is in swap counts: nothing announces that
    /// it is back.</summary>
    private bool TryListPopulated(LiveSpace space, List<Area> areas, List<WrittenRun> written)
    {
        space.Huge.Forget(areas);
        foreach (Area area in areas)
        {
            _regions.Clear();
            if (area.Kind == AreaKind.Mergeable &&
                space.Pagemap.CollectPopulated(area.Range.Start.Value * Page, area.Range.End * Page, _regions) == Errno.ESRCH)
            {
                return false;
            }

            AddWritten(written);
        }

        return true;
    }

    private void AddWritten(List<WrittenRun> written)
    {
        foreach (PageRegion region in _regions)
        {
            written.Add(new WrittenRun(new PageRun(new PageNumber(region.Start / Page), (long)((region.End - region.Start) / Page)),
                (region.Categories & Pagemap.ZeroPage) != 0));
        }
    }

    /// <summary>A region of frames may lie over several mappings, each with frames of its own.</summary>
    private static void AddMerged(List<Segment> segments, ref int segment, PageRegion region, List<MergedRun> merged)
    {
        while (segment < segments.Count && segments[segment].End <= region.Start)
            segment++;
        for (int i = segment; i < segments.Count && segments[i].Start < region.End; i++)
        {
            if (segments[i].Kind != AreaKind.Merged)
                continue;
            ulong start = Math.Max(region.Start, segments[i].Start), end = Math.Min(region.End, segments[i].End);
            merged.Add(new MergedRun(new PageRun(new PageNumber(start / Page), (long)((end - start) / Page)), segments[i].FrameAt(start)));
        }
    }

    /// <summary>Reads the mappings of a process anew.</summary>
    /// <returns>False when it is gone.</returns>
    public static bool Refresh(LiveSpace space) => space.Map.TryRefresh(space.Session.BaseAddress, space.Session.EndAddress);

    /// <summary>One system call serves a span with many areas: mappings of other kinds in between are passed over by the kernel.</summary>
    private static IEnumerable<(ulong Start, ulong End)> Spans(List<Area> areas, AreaKind kind)
    {
        ulong start = 0, end = 0;
        foreach (Area area in areas)
        {
            if (area.Kind != kind)
                continue;
            if (end != 0 && area.Range.Start.Value * Page - end > SpanGap)
            {
                yield return (start, end);
                end = 0;
            }

            if (end == 0)
                start = area.Range.Start.Value * Page;
            end = area.Range.End * Page;
        }

        if (end != 0)
            yield return (start, end);
    }
}
