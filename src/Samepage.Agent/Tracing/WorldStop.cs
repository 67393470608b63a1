using System.Diagnostics;
using Samepage.Agent.Seccomp;
using Samepage.Linux;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Agent.Tracing;

/// <summary>What came of an attempt to hold a program's threads.</summary>
public enum HoldOutcome
{
    /// <summary>Every thread of the program stands still.</summary>
    Held,

    /// <summary>Not now: a thread is in a call that an interruption could change, or in one that cannot be interrupted. Try again later.</summary>
    Busy,

    /// <summary>Somebody else traces the program.</summary>
    Refused,

    /// <summary>The program has ended.</summary>
    Gone,
}

/// <summary>Holds every thread of a program still, so that its mappings can be exchanged.</summary>
/// <remarks>
/// <para>Why threads are held at all: a mapping is put in place by an mremap over a range, and there is no call that does so only if the
/// range is still what it was. Were the program running, another thread could unmap the range, map something else there, change its
/// protection, discard it or fork, between the last check and the exchange, and would have that undone. Holding the threads is the
/// only thing that closes this window; what the kernel does on behalf of others is met by MISSING and MOVE (see the agent's operations).</para>
/// <para>Why it is not felt: a thread that runs is merely preempted for the batch, some milliseconds; a sleeping call is begun again by the kernel,
/// or by hand where the kernel would answer EINTR (<see cref="Restarts"/>). A call that could come back half done, such as a write that
/// waits for room, is never interrupted: the batch is put off. A thread that cannot be stopped (a parent inside vfork, whose child shares
/// its memory) puts the batch off as well.</para>
/// <para>A thread may be waiting for an answer of ours (a write to a control file, which may be what this hold is for). It is let go with EINTR when it has been asked to
/// stop, and begins its call again like the others.</para>
/// <para>Our death lets every thread go: the kernel detaches them. Each then waits at a <see cref="Gate"/> until the agent has ended what it was about.
/// One OS thread must make all calls. Between <see cref="TryHold"/> and <see cref="Release"/> nothing may be done that takes long.</para>
/// </remarks>
/// <param name="waiting">Threads that wait for an answer of ours; null where nobody can.</param>
public sealed class WorldStop(IWaitingThreads? waiting)
{
    /// <summary>How long a thread is waited for that does not stop, while the others stand still.</summary>
    private static readonly TimeSpan Bound = TimeSpan.FromMilliseconds(20);

    /// <summary>How often that is doubled where a hold that is insisted upon came to nothing because a thread got no processor: on a crowded machine each of them waits as long for one, and those that were let go begin anew.</summary>
    private const int DoubledMost = 3;
    private static readonly TimeSpan StopsSoon = TimeSpan.FromMilliseconds(2), StopsAtOnce = TimeSpan.FromMicroseconds(200), PartialFor = TimeSpan.FromSeconds(1);
    private const int PartialLists = 16;
    private readonly List<int> _listed = [];
    private readonly Dictionary<int, int> _indexes = [];

    /// <summary>Threads that were seen in a call that an interruption could cut short, and when. Such a call is not to be seen while its thread runs, or waits for a processor.</summary>
    private readonly Dictionary<int, long> _partial = [];
    private readonly MemorySharers _sharers = new();
    private Tracee[] _threads = new Tracee[16];
    private Gate? _gate;
    private FilterBook? _filters;
    private readonly SupervisedThreads _supervised = new();
    private int _count, _late;
    private long _since;

    /// <summary>The process whose threads are held.</summary>
    public int ProcessId { get; private set; }

    /// <summary>The process is stopped by SIGSTOP or its like besides, and so are the agent's threads.</summary>
    public bool Suspended { get; private set; }

    /// <summary>All threads slept when they were held: nobody feels it.</summary>
    public bool AllSlept { get; private set; }

    /// <summary>Attempts that were given up after threads had been interrupted.</summary>
    public long GivenUp { get; private set; }

    /// <summary>Nanoseconds for which the threads are held so far.</summary>
    public long HeldNanoseconds => (long)Stopwatch.GetElapsedTime(_since).TotalNanoseconds;

    /// <summary>Holds all threads but the agent's.</summary>
    /// <param name="session">The agent in the process; its threads are left running.</param>
    /// <param name="why">What stood in the way; empty when held.</param>
    /// <param name="insist">Also with a thread that runs and is often seen in a call that comes back half done: it may be in one now.</param>
    public HoldOutcome TryHold(AgentSession session, out string why, bool insist = false)
    {
        (ProcessId, Suspended, AllSlept, _count, _since, _gate) = (session.Pid, false, true, 0, Stopwatch.GetTimestamp(), null);
        _filters = session.Filters;
        _indexes.Clear();
        try
        {
            HoldOutcome outcome = Hold(session, insist, out why);
            if (outcome != HoldOutcome.Held)
                return Fail(outcome);
            _supervised.NoteHeld(insist);
            return outcome;
        }
        catch
        {
            _ = Fail(HoldOutcome.Busy);
            throw;
        }
    }

    private HoldOutcome Hold(AgentSession session, bool insist, out string why)
    {
        why = "";
        if (!HoldBoard.MayHold)
        {
            why = "samepage is about to be stopped, and begins nothing";
            return HoldOutcome.Busy;
        }

        ReadOnlySpan<int> agentThreads = [session.ExecutorThread, session.WardenThread];
        // This may read of every process; so the threads, which go on meanwhile, are looked at behind it. Whoever comes to share the memory behind this look is found once all are held (IsShared).
        if (_sharers.Find(ProcessId, session.ExecutorThread) is not 0 and var sharer)
        {
            why = Shares(sharer);
            return HoldOutcome.Busy;
        }

        // What came over all threads came over the agent's, of which it can be read without an interruption that begins a call again before it.
        if (!session.IsFiltered && session.HaveFiltersChanged && !session.LookAtFilters() && !session.IsLeaving)
        {
            why = "its agent's threads have come under a seccomp filter, which could not be read yet";
            return HoldOutcome.Busy;
        }

        if (!TryFindQuiet(agentThreads, insist, out why))
            return HoldOutcome.Busy;
        HoldBoard.Begin();
        Gate gate = _gate = session.Gate;
        HoldOutcome outcome;
        int partial = 0;
        do
        {
            int before = _count;
            outcome = SeizeNew(agentThreads, session.IsFiltered, insist, ref why);
            if (outcome == HoldOutcome.Held)
                outcome = Await(insist, ref why);
            if (outcome != HoldOutcome.Held || _count != before)
                continue;
            if (IsListWhole(session.ExecutorThread))
            {
                // Without the executor another program was put in its place, exec(2), or the process's number is another's: nothing there is ours.
                return _count == 0 || session.HasExecutorEnded ? HoldOutcome.Gone
                    : IsShared(session.ExecutorThread, out why) || !session.MayBeHeld(_threads.AsSpan(0, _count), out why) || !gate.TryClose(_threads.AsSpan(0, _count), out why) ? HoldOutcome.Busy : HoldOutcome.Held;
            }

            // With all held that were seen nobody ends, or begins, for long.
            if (++partial == PartialLists)
                (outcome, why) = (HoldOutcome.Busy, "threads of it come and go while they are listed");
        }
        while (outcome == HoldOutcome.Held);
        return outcome;
    }

    /// <summary>Lets every thread go on.</summary>
    public void Release()
    {
        _gate?.Open(_threads.AsSpan(0, _count));
        for (int i = 0; i < _count; i++)
            _threads[i].Release();
        _count = 0;
        if (Lingering.Any)
            Lingering.Look();
        HoldBoard.End();
    }

    /// <summary>Lets every thread go, to wait at the gate until the batch that is under way has ended, or, where it has not begun yet, to call it off. Nobody of ours is needed for that.</summary>
    public void LeaveAtGate()
    {
        _gate?.Leave();
        Release();
    }

    /// <summary>The calling thread holds threads that could not be let go when they should have been.</summary>
    public static bool HasLingering => Lingering.Any;

    /// <summary>Lets go of such threads as can be let go by now; to be called now and then, by the thread that held them.</summary>
    public static void LookAfterLingering()
    {
        Restarts.EndOverdue();
        if (!Lingering.Any)
            return;
        Lingering.Look();
        HoldBoard.End();
    }

    /// <summary>Whether the last list had all threads: where one ends just then, the kernel's list may pass others over, which live and would not be held.</summary>
    /// <param name="executor">The agent's thread, which lives for as long as the program is ours; where it is not there, the list says so.</param>
    private bool IsListWhole(int executor) =>
        Threads.IsWhole(ProcessId, executor, _listed, tid => _indexes.TryGetValue(tid, out int index) && _threads[index].Kind != StopKind.Gone) || !Threads.IsThere(ProcessId, executor);

    /// <summary>Whether somebody has come who may have the program's memory without being a thread of it: he is not held. All threads of the program are, so none makes another now.</summary>
    private bool IsShared(int executor, out string why)
    {
        int sharer = _sharers.FindNew(ProcessId, executor);
        why = sharer == 0 ? "" : Shares(sharer);
        return sharer != 0;
    }

    private static string Shares(int sharer) => $"process {sharer} has the same memory (clone with CLONE_VM, vfork), and is not held with it";

    private HoldOutcome Fail(HoldOutcome outcome)
    {
        // A seized thread that has not stopped cannot be detached; most are about to stop, and the rest linger.
        GivenUp += _count > 0 && outcome == HoldOutcome.Busy ? 1 : 0;
        long since = Stopwatch.GetTimestamp();
        for (int i = 0; i < _count; i++)
        {
            while (_threads[i].Poll() == StopKind.Running && Stopwatch.GetElapsedTime(since) < StopsSoon)
                Scheduling.Pause(since);
        }

        // A thread that was not held yet may have brought filters over all (SECCOMP_FILTER_FLAG_TSYNC) under which sleeps that were interrupted before cannot go on.
        for (int i = 0; i < _count; i++)
        {
            if (_threads[i].Kind == StopKind.Held)
                Restarts.Begin(_threads[i], ProcessId);
        }

        Release();
        return outcome;
    }

    /// <summary>Looks at every thread before any is interrupted: an attempt that must be given up should disturb nobody.</summary>
    private bool TryFindQuiet(ReadOnlySpan<int> agentThreads, bool insist, out string why)
    {
        why = "";
        if (!Threads.TryList(ProcessId, _listed))
            return true; // it is gone, which is found again, and said
        foreach (int tid in _listed)
        {
            if (agentThreads.Contains(tid))
                continue;
            if (Lingering.Has(ProcessId, tid))
            {
                // It may have begun to wait for an answer of ours since.
                if (waiting is not null && waiting.Waits(tid))
                    waiting.LetGo(tid);
                // Interrupted for an earlier hold. It stands by now, is about to end, or waits for a processor, for which nobody is kept waiting unless that is insisted upon; or nothing can be done about it.
                else if (Threads.State(ProcessId, tid) is var state && (state is 'D' or 'S' || (state == 'R' && !insist)))
                {
                    why = DoesNotStop(tid, state);
                    return false;
                }

                continue;
            }

            ThreadCall call = Threads.Look(ProcessId, tid);
            if (IsInTheWay(tid, call, out why))
            {
                _partial[tid] = Stopwatch.GetTimestamp();
                return false;
            }

            if (!_supervised.MayInterrupt(_filters!, ProcessId, tid, call, insist, out why))
                return false;
            if (call.Blocked)
                continue;
            if (!insist && _partial.TryGetValue(tid, out long seen) && Stopwatch.GetElapsedTime(seen) < PartialFor)
            {
                why = $"thread {tid} runs, and is often in a call that an interruption could cut short";
                return false;
            }
        }

        if (_partial.Count > 2 * _listed.Count)
            _partial.Clear();
        return true;
    }

    private bool IsInTheWay(int tid, in ThreadCall call, out string why)
    {
        why = "";
        if (!call.Blocked || (waiting is not null && waiting.Waits(tid)))
            return false;
        // One that was stopped has left its call, with whatever that came to.
        if (X64.CallTable.MayReturnHalfDone(call.Number, call.Arguments) && Threads.State(ProcessId, tid) is not ('t' or 'T'))
            why = $"thread {tid} waits in {X64.CallTable.Name(call.Number)}, which an interruption could cut short";
        else if (X64.CallTable.IsUninterruptible(call.Number, call.Arguments))
            why = $"thread {tid} waits in {X64.CallTable.Name(call.Number)}, which cannot be interrupted";
        return why.Length > 0;
    }

    private HoldOutcome SeizeNew(ReadOnlySpan<int> agentThreads, bool filtered, bool insist, ref string why)
    {
        if (!Threads.TryList(ProcessId, _listed))
            return HoldOutcome.Gone;
        foreach (int tid in _listed)
        {
            if (agentThreads.Contains(tid) || _indexes.ContainsKey(tid))
                continue;
            // It did not stop in time for an earlier hold, and what its call may come back with is settled since then.
            if (Lingering.TryTake(ProcessId, tid, out Tracee late))
            {
                if (LivingThread.HasEnded(ProcessId, tid))
                {
                    Lingering.AddEnded(late);
                    continue;
                }

                AllSlept = false;
                Add(late with { IsFiltered = filtered, Filters = _filters });
                continue;
            }

            // Looked at once more, right before it is interrupted: it may have gone on since all were looked at. One that is seized cannot be let go without.
            ThreadCall call = Threads.Look(ProcessId, tid);
            bool waits = call.Blocked && waiting is not null && waiting.Waits(tid);
            if (IsInTheWay(tid, call, out why))
            {
                _partial[tid] = Stopwatch.GetTimestamp();
                return HoldOutcome.Busy;
            }

            if (!_supervised.MayInterrupt(_filters!, ProcessId, tid, call, insist, out why))
                return HoldOutcome.Busy;
            Tracee thread = new(ProcessId, tid) { IsFiltered = filtered, Filters = _filters };
            Errno errno = thread.Seize();
            if (errno == Errno.ESRCH || (errno != Errno.None && LivingThread.HasEnded(ProcessId, tid)))
                continue;
            if (errno != Errno.None)
            {
                string name = Threads.Name(ProcessId, tid);
                if (name.StartsWith("iou-sqp", StringComparison.Ordinal))
                {
                    // What it has begun may have memory discarded by a worker that it makes (IORING_OP_MADVISE), in the middle of an exchange. What is merged already would stay for ever.
                    if (insist)
                        continue;
                    why = "the kernel polls a queue of io_uring for it (IORING_SETUP_SQPOLL), by a thread that cannot be held";
                    return HoldOutcome.Busy;
                }

                bool works = name.StartsWith("iou-wrk", StringComparison.Ordinal), ours = Threads.IsTracedByUs(ProcessId, tid);
                why = works ? "io_uring work is under way" : ours ? $"thread {tid} is not let go yet" : $"thread {tid} cannot be held: ptrace(PTRACE_SEIZE) {errno}";
                return works || ours ? HoldOutcome.Busy : HoldOutcome.Refused;
            }

            Add(thread);
            ref Tracee added = ref _threads[_count - 1];
            _ = added.Interrupt();
            AllSlept &= call.Blocked;
            if (waits)
                waiting!.LetGo(tid);
            // A call that comes out with EINTR is begun again once it is seen to have stopped. Were we to die before that, the program would see
            // the EINTR, so a sleeping thread is waited for at once: some ten microseconds.
            if (call.Blocked)
                _ = added.Await(StopsAtOnce);
        }

        return HoldOutcome.Held;
    }

    /// <summary>Why a thread that was interrupted goes on.</summary>
    internal static string DoesNotStop(int tid, char state) => $"thread {tid} does not stop: " + (state == 'R' ? "it gets no processor" : "it is in a call that cannot be interrupted");

    private void Add(in Tracee thread)
    {
        _indexes.Add(thread.ThreadId, _count);
        if (_count == _threads.Length)
            Array.Resize(ref _threads, _count * 2);
        _threads[_count++] = thread;
    }

    private HoldOutcome Await(bool insist, ref string why)
    {
        TimeSpan bound = Bound * (1 << (insist ? Math.Min(_late, DoubledMost) : 0));
        long since = Stopwatch.GetTimestamp();
        for (int i = 0; i < _count; i++)
        {
            // Who waits may have got no processor himself: each is looked at once more when the time is over.
            for (bool isOver = false; _threads[i].Poll() == StopKind.Running;)
            {
                // It ran when it was looked at, and has begun to wait for us since.
                if (waiting is not null && Stopwatch.GetElapsedTime(since) > StopsAtOnce && waiting.Waits(_threads[i].ThreadId))
                    waiting.LetGo(_threads[i].ThreadId);
                if (isOver)
                {
                    if (LivingThread.HasEnded(ProcessId, _threads[i].ThreadId))
                    {
                        _threads[i].TakeForEnded();
                        break;
                    }

                    char state = Threads.State(ProcessId, _threads[i].ThreadId);
                    _late += insist && state == 'R' ? 1 : 0;
                    why = DoesNotStop(_threads[i].ThreadId, state);
                    return HoldOutcome.Busy;
                }

                Scheduling.Pause(since);
                isOver = Stopwatch.GetElapsedTime(since) > bound;
            }

            Suspended |= _threads[i].Kind == StopKind.Suspended;
        }

        _late = 0;
        return HoldOutcome.Held;
    }
}
