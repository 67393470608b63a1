using System.Collections.Concurrent;
using System.Diagnostics;
using Samepage.Agent;
using Samepage.Agent.Tracing;
using Samepage.Api;
using Samepage.Linux;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Daemon;

/// <summary>Gives back what a daemon that died has left: by <c>samepage recover</c>, which the daemon's guardian starts, and by every daemon when it starts.</summary>
/// <remarks>
/// <para>Until this has run, processes go on as they are: merged, and right, for their wardens need nobody. It holds their threads as the daemon did, and may itself be killed at any moment, and begun
/// again.</para>
/// <para>Each process is recovered by itself: on a thread of its own, for ptrace(2) belongs to one, with a coordinator of its own, and with the pool's descriptor that its own agent has. So a
/// process that keeps whoever touches it waiting keeps that thread, and nobody else. It is told of as left when the time is over, and its thread goes on for as long as this process lives.</para>
/// <para>What the dead daemon, or a recovery before this one, kept in its <see cref="DescriptorStore"/> watches children of processes. Where the parent has ended, nobody else does: this does from then on. The others
/// have their parent's warden, and are let go as soon as the parent's recovery has all of its children's.</para>
/// <para>A process that has a record is recovered for its own sake, and not taken in as its parent's child besides. What a recovery takes in (children that have no agent) has a record only
/// since, and is its own to give back.</para>
/// </remarks>
internal sealed class Recovery
{
    /// <summary>So many are begun at a time, and as many again when that has passed: whoever is not done by then may be one that keeps us waiting.</summary>
    private const int AtATime = 32;

    private static readonly TimeSpan Between = TimeSpan.FromMilliseconds(250), Pause = TimeSpan.FromMilliseconds(20), Patience = TimeSpan.FromSeconds(2), WatchBound = TimeSpan.FromSeconds(3), Still = TimeSpan.FromSeconds(2),
        Grace = TimeSpan.FromSeconds(60), PauseMost = TimeSpan.FromSeconds(1);

    private readonly AgentRecords _records;
    private readonly ILogger _logger;
    private readonly ConcurrentDictionary<int, Case> _left = [];
    private readonly Queue<Case> _waiting;
    private readonly DescriptorStore? _store;
    private readonly Action<Thread>? _start;
    private readonly long _begun = Stopwatch.GetTimestamp();
    private volatile bool _ended;
    private int _watching, _lingering;
    private bool _areUnwatched;

    /// <summary>Children of processes of which nothing else is known any more, that are to be watched.</summary>
    private readonly List<FileDescriptor> _unwatched = [];

    /// <summary>Watches them.</summary>
    private volatile Coordinator? _orphans;

    /// <param name="runDirectory">Where the dead daemon kept its state; the caller holds its lock.</param>
    /// <param name="logger">Is told of each process.</param>
    /// <param name="store">What was kept for us, and keeps what we find; null where nothing does.</param>
    /// <param name="start">Starts a thread; null as the runtime does.</param>
    public Recovery(string runDirectory, ILogger logger, DescriptorStore? store = null, Action<Thread>? start = null)
    {
        (_records, _logger, _store, _start) = (new AgentRecords(runDirectory), logger, store, start);
        foreach (AgentRecord record in _records.ReadAll())
            _left[record.Place.Pid] = new Case(record);
        foreach ((FileDescriptor m, ulong owner) in store?.TakeOver() ?? [])
            (_left.Values.FirstOrDefault(one => one.Record.Place.Cookie == owner)?.Kept ?? _unwatched).Add(m);
        _ = TryWatchOrphans();
        _waiting = new Queue<Case>(_left.Values.OrderBy(one => one.Record.Place.Pid));
        _ = BeginAll();
    }

    /// <summary>Whether a process is among those that are not given back yet. Any thread.</summary>
    public bool IsLeft(int pid) => _left.ContainsKey(pid);

    /// <summary>Whether frames of a process that is not given back yet are in another one, whose descriptor its parent's recovery needs. This may wait for as long as the program likes.</summary>
    public bool IsOfLeft(int pid)
    {
        List<Mapping> mappings = [];
        return !_left.IsEmpty && Mapping.TryReadAll($"/proc/{LivingThread.Of(pid)}/maps", mappings) &&
            mappings.Exists(mapping => _left.Values.Any(one => mapping.Inode == one.Record.PoolInode && mapping.Device == one.Record.PoolDevice));
    }

    /// <summary>Something is watched of processes that were given back: children that share frames, and that nobody watches once this process has ended. Any thread.</summary>
    public bool Watches => Volatile.Read(ref _watching) > 0 || Volatile.Read(ref _areUnwatched) || _orphans?.HasOrphans == true;

    /// <summary>Waits until nobody is watched any more.</summary>
    /// <param name="bound">For how long; infinite for as long as it takes.</param>
    /// <param name="cancellation">Ends it before its time.</param>
    public async Task WatchAsync(TimeSpan bound, CancellationToken cancellation)
    {
        for (long since = Stopwatch.GetTimestamp(); Watches && !cancellation.IsCancellationRequested && (bound == Timeout.InfiniteTimeSpan || Stopwatch.GetElapsedTime(since) < bound);)
            await Task.Delay(Pause, CancellationToken.None);
    }

    /// <summary>The processes that are not given back yet, and why. Any thread.</summary>
    public IReadOnlyList<(int Pid, string Why)> Left => [.. _left.Values.OrderBy(one => one.Record.Place.Pid).Select(one => (one.Record.Place.Pid, one.Obstacle))];

    /// <summary>Waits until nothing is left, or the time is over.</summary>
    /// <param name="bound">How long to try what cannot be done at once.</param>
    /// <param name="finish">What is under way when the time is over, and comes forward, is waited for a while longer.</param>
    /// <param name="cancellation">Ends it before its time.</param>
    /// <returns>Processes that are not given back; they stay merged, and right. And why.</returns>
    public async Task<IReadOnlyList<(int Pid, string Why)>> WaitAsync(TimeSpan bound, bool finish, CancellationToken cancellation)
    {
        long since = Stopwatch.GetTimestamp(), cancelled = 0;
        for (long emptyAt = 0; ; await Task.Delay(Pause, CancellationToken.None))
        {
            if (cancellation.IsCancellationRequested && cancelled == 0)
                (cancelled, _ended) = (Stopwatch.GetTimestamp(), true);
            if (_left.IsEmpty)
            {
                emptyAt = emptyAt == 0 ? Stopwatch.GetTimestamp() : emptyAt;
                // What is watched may have ended, which nobody announces.
                if (!finish || !(Watches || Volatile.Read(ref _lingering) > 0) || Stopwatch.GetElapsedTime(emptyAt) > WatchBound)
                    return [];
                continue;
            }

            emptyAt = 0;
            TimeSpan over = cancelled != 0 ? Stopwatch.GetElapsedTime(cancelled) : Stopwatch.GetElapsedTime(since) - bound;
            if (over > TimeSpan.Zero && (!finish || over > (cancelled != 0 ? Patience : Grace) || !_left.Values.Any(one => one.IsUnderWay(_begun))))
                return Left;
        }
    }

    /// <summary>Begins with each in turn. Who gets no thread waits until there is one: those who are done leave theirs.</summary>
    private async Task BeginAll()
    {
        while ((_waiting.Count > 0 || !TryWatchOrphans()) && !_ended)
        {
            List<Case> begun = [];
            while (begun.Count < AtATime && _waiting.TryPeek(out Case? next) && TryBegin(next))
                begun.Add(_waiting.Dequeue());
            for (long since = Stopwatch.GetTimestamp(); (begun.Count == 0 || begun.Exists(one => IsLeft(one.Record.Place.Pid))) && Stopwatch.GetElapsedTime(since) < Between;)
                await Task.Delay(1, CancellationToken.None);
        }
    }

    /// <summary>Has those watched of whom nobody else knows.</summary>
    /// <returns>False where there was no thread, or descriptor, for it.</returns>
    private bool TryWatchOrphans()
    {
        if (_unwatched.Count == 0)
            return true;
        Volatile.Write(ref _areUnwatched, true);
        if ((_orphans ??= TryMakeCoordinator(0, out _)) is not { } coordinator)
            return false;
        _unwatched.ForEach(coordinator.Watch);
        _unwatched.Clear();
        Volatile.Write(ref _areUnwatched, false);
        return true;
    }

    private Coordinator? TryMakeCoordinator(int pid, out string why)
    {
        why = "";
        try
        {
            return new Coordinator(_logger, _records, _store, _start) { HasAgentOfItsOwn = child => child != pid && IsLeft(child) };
        }
        catch (SyscallException refused)
        {
            why = refused.Message;
            return null;
        }
    }

    private bool TryBegin(Case next)
    {
        if (OwnThread.TryStart(new Thread(() => Run(next)) { Name = $"recovery {next.Record.Place.Pid}", IsBackground = true }, _start))
            return true;
        next.Obstacle = "EAGAIN: there are as many threads as there may be, and none for it";
        return false;
    }

    private void Run(Case one)
    {
        int pid = one.Record.Place.Pid;
        // Where many are begun at once there may be a thread for each, and none for who watches its children.
        for (TimeSpan wait = Pause; !_ended; wait = Longer(wait))
        {
            using Coordinator? coordinator = TryMakeCoordinator(pid, out string why);
            if (coordinator is not null)
            {
                Run(one, coordinator);
                return;
            }

            one.Obstacle = why;
            Thread.Sleep(wait);
        }
    }

    private void Run(Case one, Coordinator coordinator)
    {
        int pid = one.Record.Place.Pid;
        one.Obstacle = Case.KeepsWaiting;
        string told = "";
        TimeSpan pause = Pause;
        for (bool isAdopted = false; !_ended || isAdopted; Thread.Sleep(pause))
        {
            one.Obstacle = Give(one, coordinator, ref isAdopted);
            if (one.Obstacle.Length == 0)
            {
                one.Kept.ForEach(coordinator.Watch);
                bool watches = coordinator.HasOrphans;
                if (watches)
                    _ = Interlocked.Increment(ref _watching);
                _ = Interlocked.Increment(ref _lingering);
                // Who reads that it was given back may have it taken in at once.
                _ = _left.TryRemove(pid, out _);
                // With this thread what it holds still would be lost.
                for (; WorldStop.HasLingering; Thread.Sleep(Pause))
                    WorldStop.LookAfterLingering();
                _ = Interlocked.Decrement(ref _lingering);
                if (isAdopted)
                    _logger.LogInformation("gave back process {Pid}, which a daemon that died had left", pid);
                if (watches)
                    Watch(pid, coordinator);
                return;
            }

            WorldStop.LookAfterLingering();
            // What has not helped for seconds will hardly help at once; there may be many of these, and this may go on for as long as they live.
            pause = WorldStop.HasLingering || Stopwatch.GetElapsedTime(_begun) < Grace / 10 ? Pause : Longer(pause);
            if (Stopwatch.GetElapsedTime(_begun) > Patience && told != one.Obstacle)
                _logger.LogInformation("process {Pid} is not given back yet: {Why}", pid, told = one.Obstacle);
        }
    }

    /// <summary>Watches what a process had forked that has ended, as long as there is any of that, and this process lives.</summary>
    private void Watch(int pid, Coordinator coordinator)
    {
        TimeSpan pause = Pause;
        for (bool told = false; coordinator.HasOrphans; Thread.Sleep(pause))
        {
            pause = Longer(pause);
            if (!told && Stopwatch.GetElapsedTime(_begun) > Patience)
            {
                told = true;
                _logger.LogWarning("processes that process {Pid} forked share frames and cannot be taken in: they stay merged, and are watched from here until they end or call exec", pid);
            }
        }

        _ = Interlocked.Decrement(ref _watching);
    }

    private static TimeSpan Longer(TimeSpan pause) => pause * 2 < PauseMost ? pause * 2 : PauseMost;

    /// <summary>Lets go of what was kept for the children of a process: all that it has are known to who recovers it, and watched whatever becomes of it.</summary>
    private void LetGo(Case parent)
    {
        parent.Kept.ForEach(m => m.Dispose());
        parent.Kept.ForEach(m => _store?.Forget(m));
        parent.Kept.Clear();
    }

    /// <returns>What stood in the way; empty when it is given back.</returns>
    private string Give(Case process, Coordinator coordinator, ref bool isAdopted)
    {
        AgentRecord record = process.Record;
        int pid = record.Place.Pid;
        try
        {
            if (!isAdopted)
            {
                AdoptionOutcome outcome = coordinator.Adopt(record, out string why);
                if (outcome == AdoptionOutcome.NothingLeft)
                    _records.Remove(record.Place);
                if (outcome != AdoptionOutcome.Adopted)
                    return outcome == AdoptionOutcome.NothingLeft ? "" : why;
                isAdopted = true;
            }

            if (process.Kept.Count > 0 && coordinator.HasTakenAllChildren(pid))
                LetGo(process);
            // Its children were taken in for it, some perhaps by an earlier try. Without a bound: this thread is theirs alone.
            // Each is gone behind that, or stands in the way; and some come in meanwhile.
            for (int[] pids = coordinator.Pids(); pids.Length > 0; pids = coordinator.Pids())
            {
                foreach (int one in pids.OrderByDescending(one => one == pid))
                {
                    process.LookAt = coordinator.ProgressMeterOf(one);
                    if (ThreadPump.Run(() => coordinator.Detach(one)) is { Done: false, State: not "gone" } left)
                        return one == pid ? left.Reason : $"process {one}, which it forked, could not be given back: {left.Reason}";
                }
            }

            return "";
        }
        catch (SyscallException failed)
        {
            // It was killed at this moment, most likely: the next round sees.
            return failed.Message;
        }
        catch (Exception failed)
        {
            // Nobody else is to suffer from it: this thread is this process's alone.
            _logger.LogError(failed, "process {Pid} could not be recovered", pid);
            return failed.Message;
        }
    }

    /// <summary>One process.</summary>
    private sealed class Case(AgentRecord record)
    {
        public const string KeepsWaiting = "it keeps whoever touches it waiting";
        private volatile string _obstacle = KeepsWaiting;

        public AgentRecord Record => record;

        /// <summary>What the dead daemon kept for its children. The thread that recovers it.</summary>
        public List<FileDescriptor> Kept { get; } = [];

        /// <summary>When something that is done with it last came forward, as a timestamp.</summary>
        public Func<long> LookAt { get; set; } = () => 0;

        public string Obstacle
        {
            get => _obstacle;
            set => _obstacle = value;
        }

        /// <summary>Something was done for it within the last seconds.</summary>
        public bool IsUnderWay(long begun) => Stopwatch.GetElapsedTime(Math.Max(begun, LookAt())) < Still;
    }
}
