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
