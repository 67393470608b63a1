using System.Diagnostics;
using Samepage.Agent;
using Samepage.Linux;
using Samepage.Linux.Processes;

namespace Samepage.Live;

/// <summary>Takes a copy of each forked child's descriptor as soon as its parent's warden has one, and watches the children that have no warden, on a thread of
/// its own.</summary>
/// <remarks>The copy keeps the child watched when its parent ends right after the fork, as a program does that turns itself into a daemon. A parent
/// that is killed within some ten microseconds of its fork's return is not caught. The thread sleeps until something happens, and costs nothing.</remarks>
internal sealed class ForkWatch : IDisposable
{
    private const int LookForDeadMilliseconds = 1000, Forever = -1;
    private readonly List<LiveSpace> _spaces = [];
    private readonly Orphans _orphans;
    private readonly EventSignal _changed = new();
    private readonly Thread _thread;
    private volatile bool _ended;

    /// <param name="attendants">Do whatever may have to wait for a parent or a child.</param>
    public ForkWatch(Attendants attendants)
    {
        _orphans = new Orphans(attendants, _changed);
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

    /// <summary>A space is about to go: whoever still needs its children's descriptors is watched here from now on, behind what is under way for them.</summary>
    public void Inherit(LiveSpace space) => _ = space.Do(Lane.Fork, () =>
    {
        lock (space.Inherited)
        {
            foreach (Inherited inherited in space.Inherited.Values)
                _orphans.Add(inherited.M);
            space.Inherited.Clear();
        }

        _changed.Set();
        return true;
    });

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

    private bool TakeForked(LiveSpace space)
    {
        space.ForgetForked();
        Offspring.TakeNew(space);
        if (space.Session.TakeCallForHelp())
            Offspring.TakeUnread(space, _orphans);
        return true;
    }

    private void Run()
    {
        List<AgentSession> forked = [], gone = [];
        List<FileDescriptor> came = [];
        long lookedForDead = Stopwatch.GetTimestamp();
        while (!_ended)
        {
            // Cleared before the list is read: what is added later sets it again.
            _changed.Clear();
            LiveSpace[] spaces;
            lock (_spaces)
                spaces = [.. _spaces];
            came.Clear();
            forked.Clear();
            gone.Clear();
            List<FileDescriptor> watched = _orphans.Watched();
            AgentSession.AwaitForks([.. spaces.Select(space => space.Session)], watched, _changed, watched.Count > 0 ? LookForDeadMilliseconds : Forever, came, forked, gone);
            lock (_spaces)
            {
                _spaces.RemoveAll(space => gone.Contains(space.Session));
                foreach (LiveSpace space in spaces)
                {
                    if (!forked.Contains(space.Session) || !_spaces.Contains(space))
                        continue;
                    if (space.NoteForked())
                        _ = space.Do(Lane.Fork, () => TakeForked(space));
                }
            }

            // Nobody announces that one has died.
            bool all = Stopwatch.GetElapsedTime(lookedForDead).TotalMilliseconds >= LookForDeadMilliseconds;
            if (all)
                lookedForDead = Stopwatch.GetTimestamp();
            _orphans.Serve(all ? watched : came);
        }
    }
}
