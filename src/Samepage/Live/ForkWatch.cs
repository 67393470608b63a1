using System.Diagnostics;
using Samepage.Agent;
using Samepage.Linux;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>Takes a copy of each forked child's descriptor as soon as its parent's warden has one, and watches the children that have no warden, on a thread of
/// its own.</summary>
/// <remarks>The copy keeps the child watched when its parent ends right after the fork, as a program does that turns itself into a daemon. A parent
/// that is killed within some ten microseconds of its fork's return is not caught. The thread sleeps until something happens, and costs nothing.</remarks>
internal sealed class ForkWatch : IDisposable
{
    private const int LookForDeadMilliseconds = 1000, LookForKeeperMilliseconds = 100, Forever = -1;
    private static readonly TimeSpan StandsStill = TimeSpan.FromMilliseconds(100), EndsWithin = TimeSpan.FromSeconds(1);
    private readonly List<LiveSpace> _spaces = [];

    /// <summary>Those that keep a thread which had to be replaced.</summary>
    private readonly HashSet<LiveSpace> _kept = [];

    /// <summary>Those that have forked, or may have, and of which nothing was taken since. With the spaces locked.</summary>
    private readonly HashSet<LiveSpace> _due = [];

    /// <summary>Those whose warden has gone, and whose children nobody watches yet. With the spaces locked.</summary>
    private readonly HashSet<LiveSpace> _bereft = [];
    private readonly Attendants _attendants;
    private readonly Orphans _orphans;
    private readonly EventSignal _changed = new();

    /// <summary>Ends when somebody may keep the thread.</summary>
    private readonly Timer _overdue;
    private Thread _thread;
    private LiveSpace? _at;
    private long _since;

    /// <summary>Spaces whose children's descriptors are on their way here.</summary>
    private int _inheriting;
    private volatile bool _ended;

    /// <param name="attendants">Do whatever may have to wait for a parent or a child.</param>
    /// <param name="store">Keeps the descriptors of those that are watched beyond our death; null where nothing does.</param>
    /// <param name="start">Starts a thread; null as the runtime does.</param>
    /// <exception cref="SyscallException">There is no thread, or no descriptor, for it.</exception>
    public ForkWatch(Attendants attendants, DescriptorStore? store, Action<Thread>? start)
    {
        _attendants = attendants;
        _orphans = new Orphans(attendants, _changed, store);
        _overdue = new Timer(_ => Check(), null, Timeout.Infinite, Timeout.Infinite);
        _thread = NewThread();
        try
        {
            lock (_spaces)
                OwnThread.Start(_thread, start);
        }
        catch (SyscallException)
        {
            _overdue.Dispose();
            _changed.Dispose();
            throw;
        }
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
        {
            _spaces.Remove(space);
            _kept.Remove(space);
        }

        _changed.Set();
    }

    /// <summary>A space is about to go: whoever still needs its children's descriptors is watched here from now on, behind what is under way for them.</summary>
    public void Inherit(LiveSpace space)
    {
        _ = Interlocked.Increment(ref _inheriting);
        lock (_spaces)
            _bereft.Add(space);
        _changed.Set();
        _ = space.Do(Lane.Fork, () =>
        {
            lock (space.Inherited)
            {
                foreach (Inherited inherited in space.Inherited.Values.Where(one => !one.M.IsClosed))
                    _orphans.Add(inherited.M, inherited.IsBare);
                space.Inherited.Clear();
            }

            _ = Interlocked.Decrement(ref _inheriting);
            _changed.Set();
            return true;
        });
    }

    /// <summary>Watches a child that has no warden. Any thread.</summary>
    /// <param name="m">Its M; owned here from now on.</param>
    public void Watch(FileDescriptor m)
    {
        _orphans.Add(m);
        _changed.Set();
    }

    /// <summary>Somebody has no other warden, or may be about to be watched here; one that has died is one for a second or so. Any thread.</summary>
    public bool HasOrphans => Volatile.Read(ref _inheriting) > 0 || _orphans.HaveFrames;

    /// <summary>Answers no more over a descriptor; there need be none. Any thread.</summary>
    /// <returns>False while somebody is answering over it, or about to.</returns>
    public bool TryForget(FileDescriptor m) => _orphans.TryForget(m);

    /// <inheritdoc/>
    public void Dispose()
    {
        _ended = true;
        _changed.Set();
        _overdue.Dispose();
        // One that a process keeps is not waited for, and may still look at the signal.
        if (_thread.Join(EndsWithin))
            _changed.Dispose();
        _orphans.Dispose();
    }

    /// <summary>Sees to it that nobody who keeps the thread keeps the others: then another takes its place, and the process that it stands at is passed over until it lets go.</summary>
    /// <remarks>It should stand nowhere: it takes what is free to be taken. But to take a descriptor out of a program may have to wait for an exec in it (pidfd_getfd(2)).</remarks>
    private void Check()
    {
        lock (_spaces)
        {
            if (_at is null || _ended)
                return;
            TimeSpan left = StandsStill - Stopwatch.GetElapsedTime(_since);
            Thread made = NewThread();
            // Where there are as many threads as there may be it is tried again, or the process lets go.
            if (left > TimeSpan.Zero || !OwnThread.TryStart(made))
            {
                _ = _overdue.Change(left > TimeSpan.Zero ? left : StandsStill, Timeout.InfiniteTimeSpan);
                return;
            }

            LiveSpace keeper = _at;
            (_at, _thread) = (null, made);
            if (_spaces.Remove(keeper))
                _kept.Add(keeper);
        }

        _changed.Set();
    }

    private Thread NewThread() => new(Run) { Name = "fork watch", IsBackground = true };

    /// <summary>Takes the descriptors of children at once: their parent may be gone in the next moment.</summary>
    /// <returns>False when another thread has taken the place of this one meanwhile.</returns>
    private bool TryTakeForked(LiveSpace space)
    {
        lock (_spaces)
        {
            if (_thread != Thread.CurrentThread)
                return false;
            if (!_spaces.Contains(space))
                return true;
            (_at, _since) = (space, Stopwatch.GetTimestamp());
            _ = _overdue.Change(StandsStill, Timeout.InfiniteTimeSpan);
        }

        bool done = Offspring.TryTakeNew(space, TimeSpan.Zero);
        // Without descriptors for them its forks wait until others have ended; its warden asks again. To answer may have to wait for the program.
        if (OpenFiles.LeftForPrograms() > 0 && space.Session.TakeCallForHelp())
            _ = _attendants.Begin(Lanes.Of(space.Pid, Lane.Fork), () => Offspring.TakeUnread(space, _orphans));
        lock (_spaces)
        {
            bool isOurs = _thread == Thread.CurrentThread;
            if (isOurs)
                _at = null;
            // It was only slow, or has let go: it is watched again, by the thread that has taken the place of this one.
            else if (_kept.Remove(space))
                _spaces.Add(space);
            if (done && isOurs)
                _due.Remove(space);
            if (isOurs)
                return true;
        }

        _changed.Set();
        return false;
    }

    /// <summary>Watches the children of those whose warden has gone, from here on: what is done with them in turn, and one after the other, is not to keep those that stand still at a page that they discarded.</summary>
    private void WatchBereft()
    {
        LiveSpace[] bereft;
        lock (_spaces)
            bereft = [.. _bereft];
        foreach (LiveSpace space in bereft)
        {
            if (!Monitor.TryEnter(space.Inherited))
                continue;
            try
            {
                foreach (Inherited inherited in space.Inherited.Values)
                    _orphans.Add(inherited.M);
            }
            finally
            {
                Monitor.Exit(space.Inherited);
            }

            lock (_spaces)
                _bereft.Remove(space);
        }
    }

    private void Run()
    {
        List<AgentSession> forked = [], gone = [];
        List<FileDescriptor> came = [];
        long lookedForDead = Stopwatch.GetTimestamp();
        // The thread before this one has heard of forks, perhaps, and come to nothing with them.
        int again = 1;
        lock (_spaces)
            _due.UnionWith(_spaces);

        while (!_ended)
        {
            // Cleared before the list is read: what is added later sets it again.
            _changed.Clear();
            LiveSpace[] spaces;
            lock (_spaces)
            {
                if (_thread != Thread.CurrentThread)
                    return;
                spaces = [.. _spaces];
            }

            came.Clear();
            forked.Clear();
            gone.Clear();
            List<FileDescriptor> watched = _orphans.Watched();
            AgentSession.AwaitForks([.. spaces.Select(space => space.Session)], watched, _changed,
                again > 0 ? again : _orphans.AreWaiting ? LookForKeeperMilliseconds : _orphans.IsEmpty ? Forever : LookForDeadMilliseconds, came, forked, gone);
            lock (_spaces)
            {
                _bereft.UnionWith(_spaces.Where(space => gone.Contains(space.Session)));
                _spaces.RemoveAll(_bereft.Contains);
                _due.UnionWith(_spaces.Where(space => forked.Contains(space.Session)));
                _due.IntersectWith(_spaces);
                spaces = [.. _due];
            }

            foreach (LiveSpace space in spaces)
            {
                if (!TryTakeForked(space))
                    return;
            }

            WatchBereft();
            lock (_spaces)
                again = _due.Count + _bereft.Count == 0 ? 0 : Math.Clamp(again * 2, 1, LookForKeeperMilliseconds);
            // Nobody announces that one has died.
            bool all = Stopwatch.GetElapsedTime(lookedForDead).TotalMilliseconds >= LookForDeadMilliseconds;
            if (all)
                lookedForDead = Stopwatch.GetTimestamp();
            _orphans.Serve(all ? watched : came);
        }
    }
}
