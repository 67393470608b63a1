using System.Diagnostics;
using System.Runtime.ExceptionServices;

namespace Samepage.Linux.Processes;

/// <summary>What came of work that was to be done at once.</summary>
public enum Attempt
{
    /// <summary>It has ended.</summary>
    Done,

    /// <summary>It was begun, and has not ended in time. It goes on, and what it works on is its own.</summary>
    Late,

    /// <summary>It was not begun: other work is under way for that program.</summary>
    Busy,

    /// <summary>It was not begun: there is no thread to be had. That says nothing of the program.</summary>
    NoThread,
}

/// <summary>Threads that work on programs for callers who wait only so long.</summary>
/// <remarks>
/// <para>Whoever reads a program's memory, its files in /proc, or holds its threads, may have to wait for it: for a page that a userfaultfd or a file system of its own does not bring, for the lock of an
/// address space, for an exec that does not end. No flag of a call prevents that, and no signal short of SIGKILL for the whole process ends it. So such work is done by a thread that its caller can
/// leave behind: a piece of work that has not ended in time is late. It goes on, with what it owns, until the program lets it; until then nothing else is begun for that program, and everybody else is
/// served by other threads.</para>
/// <para>What work writes to belongs to it until it has ended. A caller that goes away must not have lent it anything.</para>
/// <para>Work for one program is done in order, one piece at a time. While a thread has something of a program's in hand that it alone can let go (<c>lookAfter</c>: ptrace(2) belongs to the thread that
/// seized), the same thread does all further work for that program.</para>
/// <para>Work for which there is no thread waits for one that becomes free, or that can be started, whichever is first: see <see cref="Usher"/>.</para>
/// <para>Any thread may call this.</para>
/// </remarks>
public sealed class Attendants : IDisposable
{
    /// <summary>How long a thread without work stays.</summary>
    private static readonly TimeSpan Stay = TimeSpan.FromSeconds(20), LookAfterPause = TimeSpan.FromMilliseconds(20), Spin = TimeSpan.FromMicroseconds(20);

    private const int StackBytes = 512 << 10;
    private readonly Func<bool>? _lookAfter;
    private readonly Action<Thread> _start;
    private readonly object _changed = new();
    private readonly Dictionary<int, Program> _programs = [];
    private readonly Stack<Attendant> _idle = [];

    /// <summary>Programs with work for which no thread could be started.</summary>
    private readonly Queue<Program> _unserved = [];
    private bool _disposed;

    /// <param name="lookAfter">Called by each thread behind a piece of work, whose end has been told by then, and now and then while it has nothing to do, for as long as it returns true: it has something in hand still. Null for never.</param>
    /// <param name="start">Starts a thread; throws <see cref="OutOfMemoryException"/> where there are as many as there may be.</param>
    public Attendants(Func<bool>? lookAfter, Action<Thread> start)
    {
        (_lookAfter, _start) = (lookAfter, start);
        Usher.BeThere();
    }

    /// <summary>With threads as the runtime starts them.</summary>
    /// <param name="lookAfter">See there.</param>
    public Attendants(Func<bool>? lookAfter = null)
        : this(lookAfter, static thread => thread.Start())
    {
    }

    /// <summary>Work for a program is under way, or waits to be begun.</summary>
    public bool IsBusy(int pid)
    {
        lock (_changed)
            return _programs.TryGetValue(pid, out Program? program) && program.Work.Count > 0;
    }

    /// <summary>What is under way for a program was begun longer ago than that. Work that waits for a thread was not begun.</summary>
    public bool IsLate(int pid, TimeSpan bound)
    {
        lock (_changed)
            return _programs.TryGetValue(pid, out Program? program) && program.Work.TryPeek(out Job? job) && job.HasLasted(bound);
    }

    /// <summary>Does a piece of work, if none is under way for that program, and waits for its end.</summary>
    /// <param name="pid">The program; work that is about none has a number of its own, below zero.</param>
    /// <param name="work">The work. What it throws is thrown here, if it is in time.</param>
    /// <param name="bound">How long to wait.</param>
    public Attempt Try(int pid, Action work, TimeSpan bound)
    {
        Job? job = TryBegin(pid, work, onlyIfFree: true, out bool hasThread);
        return job is null ? (hasThread ? Attempt.Busy : Attempt.NoThread) : job.Wait(bound) ? Attempt.Done : Attempt.Late;
    }

    /// <summary>As <see cref="Try"/>, for those to whom it is the same why work was not begun.</summary>
    /// <param name="pid">The program.</param>
    /// <param name="work">The work.</param>
    /// <param name="bound">How long to wait.</param>
    /// <returns>False when it has not ended, or was not begun: see <paramref name="begun"/>.</returns>
    /// <param name="begun">It was begun; where it is late, what it works on is its own until <see cref="IsBusy"/> says no.</param>
    public bool TryDo(int pid, Action work, TimeSpan bound, out bool begun)
    {
        Attempt came = Try(pid, work, bound);
        begun = came is Attempt.Done or Attempt.Late;
        return came == Attempt.Done;
    }

    /// <summary>Has a piece of work done behind whatever else there is for that program. The task may never end.</summary>
    public Task Begin(int pid, Action work)
    {
        Job job = TryBegin(pid, work, onlyIfFree: false, out _)!;
        return job.Task;
    }

    /// <inheritdoc cref="Begin(int, Action)"/>
    public async Task<T> Begin<T>(int pid, Func<T> work)
    {
        T result = default!;
        await Begin(pid, new Action(() => result = work()));
        return result;
    }

    /// <summary>Begins a piece of work if none is under way for that program.</summary>
    /// <returns>The work; null when other work is under way, or there is no thread to be had.</returns>
    public Job? TryBegin(int pid, Action work) => TryBegin(pid, work, onlyIfFree: true, out _);

    /// <summary>Threads without work end; those that work end when they have. Nothing is waited for, and work that comes after is done too.</summary>
    public void Dispose()
    {
        lock (_changed)
        {
            _disposed = true;
            while (_idle.TryPop(out Attendant? attendant))
                attendant.Wake.Release();
        }
    }

    /// <summary>Tries again for those for whom there was no thread.</summary>
    /// <returns>There is none for some of them still.</returns>
    internal bool ServeUnserved()
    {
        while (TryServeNext())
        {
        }

        lock (_changed)
            return _unserved.Count > 0;
    }

    private Job? TryBegin(int pid, Action work, bool onlyIfFree, out bool hasThread)
    {
        _ = TryServeNext();
        Job? job = Put(pid, work, onlyIfFree, out Attendant? made, out hasThread);
        if (made is null || TryStart(made))
            return job;
        bool isBehind;
        lock (_changed)
        {
            Program program = made.Program!;
            if (TryGiveToIdle(made))
                return job;
            hasThread = false;
            // Its caller goes on as if it were late. Whoever has put work behind it meanwhile waits for a thread.
            if (onlyIfFree)
                _ = program.Work.Dequeue();
            isBehind = program.Work.Count > 0;
            if (isBehind)
                _unserved.Enqueue(program);
            else
                _programs.Remove(program.Pid);
        }

        if (isBehind)
            Usher.Call(this);
        return onlyIfFree ? null : job;
    }

    /// <summary>Starts a thread. That waits for the thread to run: nobody else is to wait for it besides.</summary>
    /// <returns>False when there are as many as there may be (RLIMIT_NPROC, pids.max, TasksMax= of our service): many programs may keep one each.</returns>
    private bool TryStart(Attendant made) => OwnThread.TryStart(new Thread(() => Run(made), StackBytes) { Name = "attendant", IsBackground = true }, _start);

    /// <summary>Tries again for the first of those for whom there was no thread. One that becomes free takes another.</summary>
    /// <returns>It has one. False when there is none still, or nobody waits.</returns>
    private bool TryServeNext()
    {
        Attendant? made;
        lock (_changed)
        {
            if (!_unserved.TryDequeue(out Program? program))
                return false;
            made = Employ(program);
        }

        if (made is null || TryStart(made))
            return true;
        lock (_changed)
        {
            Program program = made.Program!;
            if (TryGiveToIdle(made))
                return true;
            _unserved.Enqueue(program);
        }

        Usher.Call(this);
        return false;
    }

    /// <summary>Takes a program from a thread that could not be started, for one that has become free meanwhile: it found nobody who waited.</summary>
    /// <returns>False when there is none: nobody is at that program.</returns>
    private bool TryGiveToIdle(Attendant made)
    {
        Program program = made.Program!;
        (made.Program, program.Attendant) = (null, null);
        return _idle.Count > 0 && Employ(program) is null;
    }

    private Job? Put(int pid, Action work, bool onlyIfFree, out Attendant? made, out bool hasThread)
    {
        (made, hasThread) = (null, true);
        lock (_changed)
        {
            if (!_programs.TryGetValue(pid, out Program? program))
                _programs.Add(pid, program = new Program(pid));
            if (onlyIfFree && program.Work.Count > 0)
            {
                hasThread = program.Attendant is not null;
                return null;
            }

            Job job = new(work) { ComesFirst = Scheduling.ComesFirst, Nice = Scheduling.UsualNice };
            program.Work.Enqueue(job);
            if (program.Work.Count > 1)
                return job;
            if (program.Attendant is { } kept)
                kept.Rouse(job.ComesFirst);
            else
                made = Employ(program);
            return job;
        }
    }

    /// <summary>Gives a program to a thread that has nothing to do, or to a new one.</summary>
    /// <returns>The new one, which is to be started; null where there is none.</returns>
    private Attendant? Employ(Program program)
    {
        if (_idle.TryPop(out Attendant? attendant))
        {
            (attendant.Program, program.Attendant) = (program, attendant);
            attendant.Rouse(program.Work.Peek().ComesFirst);
            return null;
        }

        return program.Attendant = new Attendant { Program = program, Nice = program.Work.Peek().Nice };
    }

    private void Run(Attendant attendant)
    {
        bool inHand = false;
        attendant.Thread = Scheduling.BeOwnThread(attendant.Nice);
        while (TryNext(attendant, inHand, out Job? job))
        {
            bool comesFirst = job is { ComesFirst: true };
            if (comesFirst)
                Scheduling.ComeFirst();
            job?.Do();
            // Whoever waits for it is told at once: threads may stand still for him, and what else this thread has in hand is not his affair.
            job?.End(() => Ended(attendant));
            if (comesFirst)
                Scheduling.ComeAsBefore();
            inHand = _lookAfter is not null && _lookAfter();
        }
    }

    /// <param name="attendant">The calling thread.</param>
    /// <param name="inHand">It has something in hand.</param>
    /// <param name="job">What to do; null when it is only time to look after what is in hand.</param>
    /// <returns>False when the thread is to end.</returns>
    private bool TryNext(Attendant attendant, bool inHand, out Job? job)
    {
        for (; ; )
        {
            lock (_changed)
            {
                job = null;
                if (attendant.Program is { } program && program.Work.TryPeek(out job))
                    return true;
                if (!inHand && TryLetGo(attendant))
                    continue;
                if (_disposed && !inHand)
                    return false;
            }

            bool woken = attendant.Wake.Wait(inHand ? LookAfterPause : Stay);
            if (woken)
                continue;
            if (inHand)
                return true;
            lock (_changed)
            {
                if (attendant.Program is not null)
                    continue;
                RemoveIdle(attendant);
                return false;
            }
        }
    }

    private void Ended(Attendant attendant)
    {
        lock (_changed)
            _ = attendant.Program!.Work.Dequeue();
    }

    /// <summary>A thread whose program has no more work for it is free for others.</summary>
    /// <returns>It has taken up another, for whom there was no thread.</returns>
    private bool TryLetGo(Attendant attendant)
    {
        if (attendant.Program is not { } program)
            return false;
        _programs.Remove(program.Pid);
        (attendant.Program, program.Attendant) = (null, null);
        if (_unserved.TryDequeue(out Program? next))
        {
            (attendant.Program, next.Attendant) = (next, attendant);
            return true;
        }

        if (!_disposed)
            _idle.Push(attendant);
        return false;
    }

    private void RemoveIdle(Attendant attendant)
    {
        Attendant[] others = [.. _idle.Where(other => other != attendant).Reverse()];
        _idle.Clear();
        foreach (Attendant other in others)
            _idle.Push(other);
    }

    /// <summary>A piece of work that was begun.</summary>
    public sealed class Job
    {
        private readonly Action _work;
        private readonly object _changed = new();
        private readonly TaskCompletionSource _task = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private ExceptionDispatchInfo? _failure;
        private volatile bool _ended;
        private long _begunAt;

        internal Job(Action work) => _work = work;

        /// <summary>Whoever waits for it comes first, <see cref="Scheduling"/>, and so does who does it.</summary>
        internal bool ComesFirst { get; init; }

        /// <summary>The nice value of a thread that is made for it: that of who has it done, while that one does not come first.</summary>
        internal int? Nice { get; init; }

        /// <summary>Ends with the work, with what it throws.</summary>
        public Task Task => _task.Task;

        /// <summary>It has ended.</summary>
        public bool HasEnded => _ended;

        /// <summary>Waits for its end. What it throws is thrown here.</summary>
        /// <returns>False when it is late.</returns>
        public bool Wait(TimeSpan bound)
        {
            long since = Stopwatch.GetTimestamp();
            // Most work takes some microseconds, and to sleep takes longer.
            while (!_ended && Environment.ProcessorCount > 1 && Stopwatch.GetElapsedTime(since) < Spin)
                Thread.SpinWait(20);
            lock (_changed)
            {
                while (!_ended)
                {
                    TimeSpan left = bound - Stopwatch.GetElapsedTime(since);
                    if (left <= TimeSpan.Zero)
                        return false;
                    _ = Monitor.Wait(_changed, left);
                }
            }

            _failure?.Throw();
            return true;
        }

        /// <summary>A thread has been at it for longer than that.</summary>
        internal bool HasLasted(TimeSpan bound) => Volatile.Read(ref _begunAt) is not 0 and var begunAt && Stopwatch.GetElapsedTime(begunAt) > bound;

        internal void Do()
        {
            Volatile.Write(ref _begunAt, Stopwatch.GetTimestamp());
            try
            {
                _work();
            }
            catch (Exception failed)
            {
                _failure = ExceptionDispatchInfo.Capture(failed);
            }
        }

        /// <param name="before">Done before anybody is told.</param>
        internal void End(Action before)
        {
            before();
            lock (_changed)
            {
                _ended = true;
                Monitor.PulseAll(_changed);
            }

            if (_failure is null)
                _task.SetResult();
            else
                _task.SetException(_failure.SourceException);
        }
    }

    /// <summary>A program for which there is work, or of which a thread has something in hand.</summary>
    private sealed class Program(int pid)
    {
        public int Pid => pid;

        /// <summary>What is under way, and behind it what waits.</summary>
        public Queue<Job> Work { get; } = [];

        public Attendant? Attendant { get; set; }
    }

    /// <summary>One thread.</summary>
    private sealed class Attendant
    {
        /// <summary>Whose work it does.</summary>
        public Program? Program { get; set; }

        public SemaphoreSlim Wake { get; } = new(0);

        /// <summary>Its nice value: that of its first work.</summary>
        public int? Nice { get; init; }

        /// <summary>Its id; 0 before it runs.</summary>
        public volatile int Thread;

        /// <summary>There is work for it.</summary>
        /// <param name="first">Which comes first.</param>
        public void Rouse(bool first)
        {
            if (first && Thread != 0)
                Scheduling.HaveComeFirst(Thread);
            Wake.Release();
        }
    }
}
