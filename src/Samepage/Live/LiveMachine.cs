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
    private readonly DescriptorStore? _store;
    private readonly ForkWatch _forks;
    private readonly Hands _hands = new();

    /// <param name="store">Keeps the descriptors of children beyond our death; null where nothing does.</param>
    /// <param name="start">Starts a thread; null as the runtime does.</param>
    public LiveMachine(DescriptorStore? store, Action<Thread>? start)
    {
        _store = store;
        _forks = new ForkWatch(Attendants, store, start);
    }

    /// <summary>Those who do what may have to wait for a program.</summary>
    public Attendants Attendants { get; } = new(AgentSession.LookAfterHeld);

    /// <inheritdoc/>
    public int PageSize => (int)Page;

    /// <inheritdoc/>
    public bool TracksWrites => true;

    /// <summary>The processes taken in.</summary>
    public IReadOnlyCollection<LiveSpace> Spaces => _spaces.Values;

    public LiveSpace this[SpaceId space] => _spaces[space.Value];

    public void Add(LiveSpace space)
    {
        space.Store = _store;
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

    /// <summary>Finds out which processes the children are that a process forked.</summary>
    /// <param name="space">The parent.</param>
    /// <param name="all">Also those that have only just been born.</param>
    public List<Child> FindChildren(LiveSpace space, bool all) => Offspring.Find(space, all, _forks.Watch, Attendants);

    /// <inheritdoc cref="BareChildren.Note"/>
    public void NoteBareChildren(LiveSpace space, IReadOnlySet<int> known) => BareChildren.Note(space, known, Attendants);

    /// <summary>Children are watched by us alone: their parents have ended.</summary>
    public bool HasOrphans => _forks.HasOrphans;

    /// <inheritdoc cref="ForkWatch.Watch"/>
    public void Watch(FileDescriptor m) => _forks.Watch(m);

    /// <inheritdoc cref="ForkWatch.TryForget"/>
    public bool TryForget(FileDescriptor m) => _forks.TryForget(m);

    /// <inheritdoc/>
    public void Dispose()
    {
        _forks.Dispose();
        foreach (LiveSpace space in _spaces.Values)
            space.Dispose();
        Attendants.Dispose();
        foreach (DomainId domain in _pools.Keys.ToArray())
            Forget(domain);
    }

    /// <summary>Reads the mappings of a process anew.</summary>
    /// <returns>False when it is gone.</returns>
    public static bool Refresh(LiveSpace space)
    {
        space.Map.Abilities = space.Session.Abilities;
        return space.Map.TryRefresh(space.Session.BaseAddress, space.Session.EndAddress);
    }

    /// <summary>Reads the mappings of a process once more, whose agent may have left.</summary>
    public static bool RefreshAtLast(LiveSpace space) => space.Map.TryRefresh(space.Session.BaseAddress, space.Session.EndAddress, space.OwnThread);
}
