using Samepage.Agent;
using Samepage.Linux;

namespace Samepage.Live;

/// <summary>Takes a copy of each forked child's descriptor as soon as its parent's warden has one, and watches the children that have no warden, on a thread of
/// its own.</summary>
/// <remarks>The copy keeps the child watched when its parent ends right after the fork, as a program does that turns itself into a daemon. A parent
/// that is killed within some ten microseconds of its fork's return is not caught. The thread sleeps until something happens, and costs nothing.</remarks>
internal sealed class ForkWatch : IDisposable
{
    private const int LookForDeadMilliseconds = 1000, Forever = -1;
    private readonly List<LiveSpace> _spaces = [];
    private readonly Orphans _orphans = new();
    private readonly EventSignal _changed = new();
    private readonly Thread _thread;
    private volatile bool _ended;

    public ForkWatch()
    {
        _thread = new Thread(Run) { Name = "fork watch", IsBackground = true };
        _thread.Start();
    }

    public void Add(LiveSpace space)
    {
        lock (_spaces)
            _spaces.Add(space);
        _changed.Set();
    }

    public void Remove(LiveSpace space)
    {
        lock (_spaces)
            _spaces.Remove(space);
        _changed.Set();
    }

    /// <summary>A space is about to go: whoever still needs its children's descriptors is watched here from now on.</summary>
    public void Inherit(LiveSpace space)
    {
        lock (space.Inherited)
        {
            foreach (Inherited inherited in space.Inherited.Values)
                _orphans.Add(inherited.M);
            space.Inherited.Clear();
        }

        _changed.Set();
    }

    /// <summary>Watches a child that has no warden. Any thread.</summary>
    /// <param name="m">Its M; owned here from now on.</param>
    public void Watch(FileDescriptor m)
    {
        _orphans.Add(m);
        _changed.Set();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _ended = true;
        _changed.Set();
        _thread.Join();
        _changed.Dispose();
        _orphans.Dispose();
    }

    private void Run()
    {
        List<AgentSession> forked = [], gone = [];
        while (!_ended)
        {
            // Cleared before the list is read: what is added later sets it again.
            _changed.Clear();
            LiveSpace[] spaces;
            lock (_spaces)
                spaces = [.. _spaces];
            forked.Clear();
            gone.Clear();
            List<FileDescriptor> watched = _orphans.Watched();
            AgentSession.AwaitForks([.. spaces.Select(space => space.Session)], watched, _changed, watched.Count > 0 ? LookForDeadMilliseconds : Forever, forked, gone);
            lock (_spaces)
            {
                _spaces.RemoveAll(space => gone.Contains(space.Session));
                foreach (LiveSpace space in spaces)
                {
                    if (!forked.Contains(space.Session) || !_spaces.Contains(space))
                        continue;
                    Offspring.TakeNew(space);
                    if (space.Session.TakeCallForHelp())
                        Offspring.TakeUnread(space, _orphans);
                }
            }

            _orphans.Serve();
        }
    }
}
