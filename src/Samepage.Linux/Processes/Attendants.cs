using System.Diagnostics;
using System.Runtime.ExceptionServices;

namespace Samepage.Linux.Processes;

/// <summary>Threads that work on programs for callers who wait only so long.</summary>
/// <remarks>
/// <para>Whoever reads a program's memory, its files in /proc, or holds its threads, may have to wait for it: for a page that a userfaultfd or a file system of its own does not bring, for the lock of an
/// address space, for an exec that does not end. No flag of a call prevents that, and no signal short of SIGKILL for the whole process ends it. So such work is done by a thread that its caller can
/// leave behind: a piece of work that has not ended in time is late. It goes on, with what it owns, until the program lets it; until then nothing else is begun for that program, and everybody else is
/// served by other threads.</para>
/// <para>What work writes to belongs to it until it has ended. A caller that goes away must not have lent it anything.</para>
/// <para>Work for one program is done in order, one piece at a time. While a thread has something of a program's in hand that it alone can let go (<c>lookAfter</c>: ptrace(2) belongs to the thread that
/// seized), the same thread does all further work for that program.</para>
/// <para>Any thread may call this.</para>
/// </remarks>
/// <param name="lookAfter">Called by each thread behind a piece of work, and now and then while it has nothing to do, for as long as it returns true: it has something in hand still. Null for never.</param>
/// <param name="start">Starts a thread; throws <see cref="OutOfMemoryException"/> where there are as many as there may be.</param>
public sealed class Attendants(Func<bool>? lookAfter, Action<Thread> start) : IDisposable
{
    /// <summary>How long a thread without work stays.</summary>
    private static readonly TimeSpan Stay = TimeSpan.FromSeconds(20), LookAfterPause = TimeSpan.FromMilliseconds(20), Spin = TimeSpan.FromMicroseconds(20);

    private const int StackBytes = 512 << 10;
    private readonly object _changed = new();
    private readonly Dictionary<int, Program> _programs = [];
    private readonly Stack<Attendant> _idle = [];

    /// <summary>Programs with work for which no thread could be started.</summary>
    private readonly Queue<Program> _unserved = [];
    private bool _disposed;

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

    /// <summary>Does a piece of work, if none is under way for that program, and waits for its end.</summary>
    /// <param name="pid">The program; work that is about none has a number of its own, below zero.</param>
    /// <param name="work">The work. What it throws is thrown here, if it is in time.</param>
    /// <param name="bound">How long to wait.</param>
    /// <returns>False when it has not ended, or was not begun because other work is under way: see <paramref name="begun"/>.</returns>
    /// <param name="begun">It was begun; where it is late, what it works on is its own until <see cref="IsBusy"/> says no.</param>
    public bool TryDo(int pid, Action work, TimeSpan bound, out bool begun)
    {
        Job? job = TryBegin(pid, work, onlyIfFree: true);
        begun = job is not null;
        return job is not null && job.Wait(bound);
    }

    /// <summary>Has a piece of work done behind whatever else there is for that program. The task may never end.</summary>
    public Task Begin(int pid, Action work)
    {
        Job job = TryBegin(pid, work, onlyIfFree: false)!;
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
    /// <returns>The work; null when other work is under way.</returns>
    public Job? TryBegin(int pid, Action work) => TryBegin(pid, work, onlyIfFree: true);

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

    private Job? TryBegin(int pid, Action work, bool onlyIfFree)
    {
        ServeUnserved();
        Job? job = Put(pid, work, onlyIfFree, out Attendant? made);
        if (made is null || TryStart(made))
            return job;
        lock (_changed)
        {
            Program program = made.Program!;
            (made.Program, program.Attendant) = (null, null);
            // Its caller goes on as if it were late. Whoever has put work behind it meanwhile waits for a thread.
            if (onlyIfFree)
                _ = program.Work.Dequeue();
            if (program.Work.Count > 0)
                _unserved.Enqueue(program);
            else
                _programs.Remove(program.Pid);
            return onlyIfFree ? null : job;
        }
    }

    /// <summary>Starts a thread. That waits for the thread to run: nobody else is to wait for it besides.</summary>
    /// <returns>False when there are as many as there may be (RLIMIT_NPROC, pids.max, TasksMax= of our service): many programs may keep one each.</returns>
    private bool TryStart(Attendant made) => OwnThread.TryStart(new Thread(() => Run(made), StackBytes) { Name = "attendant", IsBackground = true }, start);

    /// <summary>Tries again for the first of those for whom there was no thread. One that becomes free takes another.</summary>
    private void ServeUnserved()
    {
        Attendant? made;
        lock (_changed)
        {
            if (!_unserved.TryDequeue(out Program? program))
                return;
            made = Employ(program);
        }

        if (made is null || TryStart(made))
            return;
        lock (_changed)
        {
            made.Program!.Attendant = null;
            _unserved.Enqueue(made.Program);
        }
    }

    private Job? Put(int pid, Action work, bool onlyIfFree, out Attendant? made)
    {
        made = null;
        lock (_changed)
        {
            if (!_programs.TryGetValue(pid, out Program? program))
                _programs.Add(pid, program = new Program(pid));
            if (onlyIfFree && program.Work.Count > 0)
                return null;
            Job job = new(work) { ComesFirst = Scheduling.ComesFirst };
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

        return program.Attendant = new Attendant { Program = program, Nice = Scheduling.UsualNice };
    }

    private void Run(Attendant attendant)
    {
        bool inHand = false;
        attendant.Thread = Scheduling.BeOwnThread(attendant.Nice);
        while (TryNext(attendant, inHand, out Job? job))
        {
            if (job is { ComesFirst: true })
            {
                Scheduling.ComeFirst();
                job.Do();
                // Threads stand still for who waits for it.
                job.End(() => Ended(attendant));
                Scheduling.ComeAsBefore();
                inHand = lookAfter is not null && lookAfter();
                continue;
            }

            job?.Do();
            inHand = lookAfter is not null && lookAfter();
            job?.End(() => Ended(attendant));
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

        internal Job(Action work) => _work = work;

        /// <summary>Whoever waits for it comes first, <see cref="Scheduling"/>, and so does who does it.</summary>
        internal bool ComesFirst { get; init; }

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

        internal void Do()
        {
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

        /// <summary>Its nice value: that of who made it, while that one does not come first.</summary>
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
