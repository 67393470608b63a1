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
/// <remarks>One OS thread makes all calls. Whatever may have to wait for a program is done by its attendant (<see cref="Attendants"/>), and waited for only so long: a program that keeps it is left out
/// until it lets go. See ARCHITECTURE.md for the life of a page.</remarks>
internal sealed partial class LiveMachine : IMachine, IDisposable
{
    private const ulong Page = 4096;

    private readonly Dictionary<int, LiveSpace> _spaces = [];
    private readonly Dictionary<int, FramePool> _pools = [];
    private readonly ForkWatch _forks;
    private readonly Hands _hands = new();
    private readonly Aide _aide = new();
    private (DomainId Domain, Task<bool> Written) _writing;

    public LiveMachine() => _forks = new ForkWatch(Attendants);

    /// <summary>Those who do what may have to wait for a program.</summary>
    public Attendants Attendants { get; } = new(AgentSession.LookAfterHeld);

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

    /// <summary>Looks after what goes on beside the scanner; now and then.</summary>
    public void LookAfter() => _forks.Check();

    public void Remove(SpaceId id)
    {
        if (!_spaces.Remove(id.Value, out LiveSpace? space))
            return;
        _forks.Remove(space);
        _forks.Inherit(space);
        space.Dispose();
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
    public void FindUnmapped(DomainId domain, FrameId first, Span<bool> unmapped)
    {
        _pools[domain.Value].FindUnmapped(first.Value, unmapped);
        KeepUnsettled(domain, first, unmapped);
    }

    /// <inheritdoc/>
    public void FreeFrames(DomainId domain, FrameId first, int count) => _pools[domain.Value].Punch(first.Value, count);

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
        if (needed == 0 || needed + Slack <= MemoryRoom.Left(space.OwnThread, out string where))
            return true;
        space.Obstacle = $"{where}: {needed >> 20} MiB of merged pages would each become memory of its own, and the kernel would have to kill somebody for it; they stay as they are, and right; detach it again when there is room";
        return false;
    }

    /// <summary>A private page inside a mapping of frames may be one that a device is writing into, and a copy would miss what it writes. (What is moved out to be
    /// merged is safe: the move refuses pinned pages. Frames are, too: nobody writes them.)</summary>
    /// <returns>False when nothing is left to do: memory is pinned for long, and what is broken then cannot be given back.</returns>
    private static bool TryMindPins(LiveSpace space, List<AgentOperation> operations)
    {
        PinRisk risk = Pins.Look(space.OwnThread, space.Map.Mappings);
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
    public List<Child> FindChildren(LiveSpace space, bool all) => Offspring.Find(space, all, _forks.Watch, Attendants);

    /// <inheritdoc/>
    public void Dispose()
    {
        _aide.Dispose();
        _forks.Dispose();
        foreach (LiveSpace space in _spaces.Values)
            space.Dispose();
        Attendants.Dispose();
        foreach (FramePool pool in _pools.Values)
            pool.Dispose();
    }

    /// <summary>Reads the mappings of a process anew.</summary>
    /// <returns>False when it is gone.</returns>
    public static bool Refresh(LiveSpace space) => space.Map.TryRefresh(space.Session.BaseAddress, space.Session.EndAddress);
}
