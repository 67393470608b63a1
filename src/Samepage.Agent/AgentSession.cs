using System.Diagnostics;
using System.Runtime.InteropServices;
using Samepage.Agent.Seccomp;
using Samepage.Agent.Tracing;
using Samepage.Linux;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;
using Samepage.Linux.Userfault;

namespace Samepage.Agent;

/// <summary>A descriptor that a forked child brought, and where the warden keeps it.</summary>
/// <param name="Slot">The warden's slot.</param>
/// <param name="M">The child's own M, duplicated; the caller owns it.</param>
/// <param name="Ticket">Tells the child from others that have the slot before or after it.</param>
public readonly record struct InheritedDescriptor(int Slot, FileDescriptor M, uint Ticket);

/// <summary>The agent in one target: what the daemon can ask of it.</summary>
/// <remarks>One OS thread makes all calls. The agent is idle between them, and costs nothing.</remarks>
public sealed partial class AgentSession : IDisposable
{
    private const int AnswersBeforeLetGo = 4, AnswersBeforeStuck = 40, AnswerMilliseconds = 250; // times that long
    private static readonly TimeSpan SetUpBound = TimeSpan.FromSeconds(5), DismissalBound = TimeSpan.FromMilliseconds(250), LeaveBound = TimeSpan.FromSeconds(5);
    private readonly AgentMemory _memory;
    private readonly FileDescriptor _executorSocket, _wardenSocket, _executorThread;
    private readonly AgentPlace _place;
    private Tracee _executor, _warden;
    private readonly Urgency _urgency;
    private bool _unanswered;

    /// <summary>The batch under way has a question still.</summary>
    private bool _mayAsk;

    internal AgentSession(AgentPlace place, AgentMemory memory, int executor, FileDescriptor executorThread, FileDescriptor tracking, FileDescriptor merged,
        FileDescriptor executorSocket, FileDescriptor wardenSocket, FilterBook filters)
    {
        (_place, ExecutorThread, _executorThread, T, M) = (place, executor, executorThread, tracking, merged);
        (_memory, _executorSocket, _wardenSocket) = (memory, executorSocket, wardenSocket);
        (Filters, _filtersKnown, _abilities) = (filters, filters.AgentFilters, (int)filters.AgentAbilities);
        Gate = new Gate(place.BaseAddress, memory);
        _urgency = new Urgency(executor);
    }

    /// <summary>Where the program's threads go if we die while they are held.</summary>
    internal Gate Gate { get; }

    /// <summary>Threads of the program were held for an exchange at some time, by us or by whoever had the agent before: there may be something to give back.</summary>
    public bool HasExchanged => Gate.WasClosed;

    /// <summary>The agent did not answer in time: nothing more is asked of it until it has, see <see cref="IsAnswered"/>.</summary>
    public bool IsStuck { get; private set; }

    /// <summary>A batch was begun, its answer was never read, and the executor is there still: it may be anywhere in the batch, and go on with it at any time. Any thread may ask; never waits.</summary>
    public bool MayBeInABatch => Volatile.Read(ref _unanswered) && Directory.Exists($"/proc/{Pid}/task/{ExecutorThread}");

    /// <summary>The executor has ended: its number may be anybody's by now. What was done by that number before this was asked was done to this process, if it is false. Any thread.</summary>
    public bool HasExecutorEnded => PidFd.HasEnded(_executorThread);

    /// <summary>Operations in a batch, at most.</summary>
    public const int MaxOperations = AgentLayout.MaxOperations;

    /// <summary>Bytes of one operation, at most.</summary>
    public const int MaxRunBytes = AgentLayout.ScratchBytes;

    /// <summary>Children's descriptors that the warden can keep.</summary>
    public const int MaxInherited = AgentLayout.MaxChildren;

    /// <summary>Whether the agent is among some mappings of the process.</summary>
    public bool IsIn(IReadOnlyList<Mapping> mappings) => mappings.Any(mapping => AgentRange.IsSharedPart(mapping, BaseAddress));

    /// <summary>The process.</summary>
    public int Pid => _place.Pid;

    /// <summary>Where it lies.</summary>
    public AgentPlace Place => _place;

    /// <summary>Where the agent's mapping ends.</summary>
    public ulong EndAddress => BaseAddress + AgentLayout.Size;

    /// <inheritdoc cref="Injector.NotDumpable"/>
    public const string NotDumpable = Injector.NotDumpable;

    /// <summary>Takes a process in; see <see cref="Injector.Attach"/>.</summary>
    /// <inheritdoc cref="Injector.Attach"/>
    public static AgentSession Attach(int pid, FileDescriptor pidfd, Samepage.Linux.Frames.FramePool pool, FileDescriptor? inheritedM, Action<AgentPlace> planned,
        Entitlement entitlement) => Injector.Attach(pid, pidfd, pool, inheritedM, planned, entitlement);

    /// <summary>Where the agent's mapping lies; <see cref="AgentLayout.Size"/> bytes.</summary>
    public ulong BaseAddress => _place.BaseAddress;

    /// <summary>The executor's thread id.</summary>
    public int ExecutorThread { get; }

    /// <summary>The warden's thread id.</summary>
    public int WardenThread { get; private set; }

    /// <summary>The userfaultfd on areas that are not merged.</summary>
    public FileDescriptor T { get; }

    /// <summary>The userfaultfd on mappings of frames.</summary>
    public FileDescriptor M { get; }

    /// <summary>The last step of attaching: the agent answers, and has a warden.</summary>
    /// <exception cref="SyscallException">It could not.</exception>
    internal void Begin()
    {
        Ring(_executorSocket, AgentLayout.DoorbellRun);
        Resume();
    }

    /// <summary>The last step of taking over: the executor has heard of us.</summary>
    /// <inheritdoc cref="Begin"/>
    internal void Resume()
    {
        _urgency.LowerLeft();
        _ = _memory.WriteWord(SharedWord.Hurried, 0);

        AwaitReady(_executorSocket, Pid);
        WardenThread = Threads.FindByOwnId(Pid, (int)_memory.Word(SharedWord.WardenTid));
    }

    /// <summary>Carries out a batch; every thread of the program must be held.</summary>
    /// <param name="operations">At most <see cref="AgentLayout.MaxOperations"/>; each comes back with its outcome.</param>
    /// <param name="suspended">The process is stopped by SIGSTOP: the agent's threads must be set going for it.</param>
    /// <param name="letGo">Called once when the batch takes longer than any should (a second): lets the program's threads go, to wait at the gate for its end.</param>
    /// <param name="findHeld">Says which of the operations with <see cref="OperationFlags.Ask"/> must not be carried out, by index, when nobody can write any more to what they give back; null where none may. Must be quick.</param>
    /// <returns>False when the process is gone, or the agent does not answer; the outcomes then mean nothing.</returns>
    public bool Run(Span<AgentOperation> operations, bool suspended, Action letGo, Func<IReadOnlyList<int>?> findHeld)
    {
        if (!IsAnswered() || !_memory.WriteOperations(operations) || !_memory.WriteWord(SharedWord.Batch, AgentLayout.BatchAsked))
            return false;
        using var threads = AgentThreads.KeepAwake(Pid, ExecutorThread, WardenThread, suspended);
        try
        {
            RestartShielded();
            Volatile.Write(ref _unanswered, true);
            _mayAsk = Asks(operations);
            bool isAnswered = RunHurried(operations.Length, findHeld, isPossible: !suspended);
            for (int waited = 0; !isAnswered && !AwaitAnswer(AnswerMilliseconds, findHeld); waited++)
            {
                threads.KeepGoing();
                RestartShielded();
                if (waited == AnswersBeforeLetGo)
                    letGo();
                if (waited == AnswersBeforeStuck)
                {
                    IsStuck = true;
                    return false;
                }

                // Gone is who is not there. A status that cannot be read (no descriptor is left) says nothing, and nobody may be let go for it.
                string executor = $"/proc/{Pid}/task/{ExecutorThread}";
                ProcessStatus? status = ProcessStatus.TryRead($"{executor}/status");
                if (status is { State: 'Z' or 'X' } || (status is null && !Directory.Exists(executor)))
                    return false;
                // Stopped in the middle of the batch: nobody may be let go before it has ended, so it is set going.
                if (status is { State: 'T' })
                    threads.Thaw();
            }

            Volatile.Write(ref _unanswered, false);
            return _memory.ReadOutcomes(operations);
        }
        catch (SyscallException)
        {
            // The batch goes on without us, if there is still somebody to carry it out: nobody may run free meanwhile.
            letGo();
            return false;
        }
        catch
        {
            letGo();
            throw;
        }
    }

    /// <summary>Has the batch begun, by an executor that comes first for a moment. The word is for one that becomes an orphan meanwhile.</summary>
    /// <param name="operations">How many operations it has.</param>
    /// <param name="findHeld">Answers what the executor asks.</param>
    /// <param name="isPossible">It can run: one whose process is stopped may have to be set going once more, and be late for that.</param>
    /// <returns>Whether it has answered within that moment.</returns>
    /// <exception cref="SyscallException">It ended, most likely.</exception>
    private bool RunHurried(int operations, Func<IReadOnlyList<int>?> findHeld, bool isPossible)
    {
        const int Worthwhile = 40; // longer than any batch should take
        int left = (int)Urgency.Most.TotalMilliseconds;
        bool hurries = false, inTime = true; // one that ended has kept nobody
        try
        {
            Hurry();
            long since = Stopwatch.GetTimestamp();
            Ring(_executorSocket, AgentLayout.DoorbellRun | ((ulong)operations << 32));
            return inTime = AwaitAnswer(left, () =>
            {
                // An executor that asks sleeps; what only says so does not come first for as long as the answer takes.
                Slow(inTime: true);
                left -= (int)Stopwatch.GetElapsedTime(since).TotalMilliseconds;
                IReadOnlyList<int>? held = findHeld();
                // The others stand still for what comes behind the question, too.
                if (left >= Worthwhile)
                    Hurry();
                else
                    left = AnswerMilliseconds;
                return held;
            }, () => left);
        }
        catch (SyscallException odd) when (odd.Errno == Errno.EPROTO)
        {
            inTime = false;
            throw;
        }
        finally
        {
            Slow(inTime);
        }

        void Hurry()
        {
            if (!isPossible || !_urgency.IsPossible)
                return;
            // The word comes first: should we die in between, the orphan takes back what it may have.
            _ = _memory.WriteWord(SharedWord.Hurried, 1);
            hurries = _urgency.TryRaise();
            if (!hurries)
                _ = _memory.WriteWord(SharedWord.Hurried, 0);
        }

        void Slow(bool inTime)
        {
            if (!hurries)
                return;
            hurries = false;
            _urgency.Lower(inTime);
            _ = _memory.WriteWord(SharedWord.Hurried, 0);
        }
    }

    /// <summary>Whether any of some operations asks before it is carried out: <see cref="OperationFlags.Ask"/>.</summary>
    public static bool Asks(ReadOnlySpan<AgentOperation> operations)
    {
        foreach (ref readonly AgentOperation operation in operations)
        {
            if ((operation.Flags & OperationFlags.Ask) != 0)
                return true;
        }

        return false;
    }

    /// <summary>Waits for the answer, and answers what is asked before it comes.</summary>
    /// <param name="milliseconds">How long, up to a question.</param>
    /// <param name="findHeld">Which must not be carried out.</param>
    /// <param name="behind">How long behind a question, asked there; a quarter of a second where it is null.</param>
    private bool AwaitAnswer(int milliseconds, Func<IReadOnlyList<int>?> findHeld, Func<int>? behind = null)
    {
        while (TryReadAnswer(_executorSocket, Pid, out ulong said, milliseconds))
        {
            if ((uint)said != AgentLayout.Asks)
                return true;
            // The program can take the socket, and ask what it likes.
            if (!_mayAsk)
                throw new SyscallException("recv", $"answer of the agent in process {Pid}, which asks what it has not to", Errno.EPROTO);
            (_mayAsk, bool may) = (false, false);
            try
            {
                may = findHeld() is { } held && held.All(_memory.Refuse);
            }
            finally
            {
                Ring(_executorSocket, (may ? AgentLayout.MayGoOn : AgentLayout.MayNot) | (said >> 32 << 32));
            }

            milliseconds = behind?.Invoke() ?? AnswerMilliseconds;
        }

        return false;
    }

    /// <summary>Whether the last batch was answered, by now. Nothing more is asked of an agent that owes an answer; one that gives it late, because its program was frozen, say, serves again.</summary>
    public bool IsAnswered()
    {
        try
        {
            // What is asked so late is not gone on with.
            if (_unanswered && AwaitAnswer(milliseconds: 0, static () => null))
                (_unanswered, IsStuck) = (false, false);
        }
        catch (SyscallException)
        {
            // It is gone, or has lost its socket: nothing will come any more.
        }

        return !_unanswered;
    }

    /// <summary>Has the warden look whether the program's own threads have all ended: it ends the process then.</summary>
    /// <remarks>Never waits: a warden that reads nothing is not asked again.</remarks>
    public unsafe void LookWhetherAlone()
    {
        LibC.pollfd room = new() { fd = _wardenSocket.Number, events = LibC.POLLOUT };
        if (LibC.poll(&room, 1, 0) == 1 && (room.revents & LibC.POLLOUT) != 0)
            TryRing(_wardenSocket, AgentLayout.DoorbellLook);
    }

    /// <summary>At the last batch the program had asked that all that is mapped from then on be locked: nothing is merged in it.</summary>
    public bool LocksWhatItMaps => _memory.Word(SharedWord.LocksFuture) != 0;

    /// <summary>The warden asked for help since this was last called: it can take no more children, or has no descriptor for one.</summary>
    public bool TakeCallForHelp() => _memory.Word(SharedWord.WantsHelp) != 0 && _memory.WriteWord(SharedWord.WantsHelp, 0);

    /// <summary>Whether the executor is about to fill a page: whoever misses it waits for that.</summary>
    public bool IsUnfilled(ulong address) => address >= _memory.Word(SharedWord.UnfilledStart) && address < _memory.Word(SharedWord.UnfilledEnd);

    /// <summary>Waits until the warden of one of these sessions says that its process has forked, or has gone, or until something comes over a descriptor. Any thread may wait.</summary>
    /// <param name="sessions">The sessions.</param>
    /// <param name="watched">The descriptors; they stay open meanwhile.</param>
    /// <param name="interrupt">Ends the wait.</param>
    /// <param name="bound">Ends the wait too; milliseconds, -1 for none.</param>
    /// <param name="came">Receives the descriptors over which something has come.</param>
    /// <param name="forked">Receives those whose process has forked.</param>
    /// <param name="gone">Receives those whose warden has gone: they are not to be waited for again.</param>
    public static unsafe void AwaitForks(IReadOnlyList<AgentSession> sessions, IReadOnlyList<FileDescriptor> watched, EventSignal interrupt, int bound, List<FileDescriptor> came, List<AgentSession> forked, List<AgentSession> gone)
    {
        // A socket that is waited on must not be closed meanwhile: its number could be another's by then.
        LibC.pollfd[] table = new LibC.pollfd[sessions.Count + watched.Count + 1];
        for (int i = 0; i < sessions.Count; i++)
            table[i] = new LibC.pollfd { fd = sessions[i]._wardenSocket.TryKeep() ? sessions[i]._wardenSocket.Number : -1, events = LibC.POLLIN };
        for (int i = 0; i < watched.Count; i++)
            table[sessions.Count + i] = new LibC.pollfd { fd = watched[i].Number, events = LibC.POLLIN };
        table[^1] = new LibC.pollfd { fd = interrupt.Number, events = LibC.POLLIN };
        fixed (LibC.pollfd* entries = table)
            _ = LibC.poll(entries, (ulong)table.Length, bound);
        for (int i = 0; i < watched.Count; i++)
        {
            if (table[sessions.Count + i].revents != 0)
                came.Add(watched[i]);
        }

        for (int i = 0; i < sessions.Count; i++)
        {
            if (table[i].fd < 0 || (table[i].revents != 0 && !SocketPair.TryReceive(sessions[i]._wardenSocket, out _)))
                gone.Add(sessions[i]);
            else if (table[i].revents != 0)
                forked.Add(sessions[i]);
            if (table[i].fd >= 0)
                sessions[i]._wardenSocket.DangerousRelease();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        T.Dispose();
        M.Dispose();
        _executorThread.Dispose();
        _executorSocket.Dispose();
        _wardenSocket.Dispose();
        _memory.Dispose();
    }

    /// <summary>Waits until an executor that is being set up answers.</summary>
    /// <exception cref="SyscallException">It could not be set up, ended, or does not answer within some seconds.</exception>
    internal static void AwaitReady(FileDescriptor executorSocket, int pid)
    {
        for (long since = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(since) < SetUpBound;)
        {
            if (!TryReadAnswer(executorSocket, pid, out ulong answer))
                continue;
            if ((long)answer is < 0 and > -4096)
                throw new SyscallException("agent", $"setting up in process {pid}", (Errno)(-(long)answer));
            return;
        }

        throw new SyscallException("agent", $"setting up in process {pid} within {SetUpBound.TotalSeconds} s", Errno.ETIMEDOUT);
    }

    /// <summary>Waits for an answer, a quarter of a second by default.</summary>
    private static unsafe bool TryReadAnswer(FileDescriptor socket, int pid, out ulong answer, int milliseconds = AnswerMilliseconds)
    {
        answer = 0;
        LibC.pollfd poll = new() { fd = socket.Number, events = LibC.POLLIN };
        long since = Stopwatch.GetTimestamp();
        for (int ready; (ready = LibC.poll(&poll, 1, Math.Max(0, milliseconds - (int)Stopwatch.GetElapsedTime(since).TotalMilliseconds))) <= 0;)
        {
            if (ready == 0 || (Errno)Marshal.GetLastPInvokeError() != Errno.EINTR)
                return false;
        }

        return SocketPair.TryReceive(socket, out answer) ? true : throw new SyscallException("recv", $"answer of the agent in process {pid}", Errno.ECONNRESET);
    }

    private void Ring(FileDescriptor socket, ulong word)
    {
        Errno errno = SocketPair.Send(socket, word);
        if (errno != Errno.None)
            throw new SyscallException("send", $"doorbell of the agent in process {Pid}", errno);
    }

    private void TryRing(FileDescriptor socket, ulong word)
    {
        try
        {
            Ring(socket, word);
        }
        catch (SyscallException)
        {
            // The process ended, or its agent has not listened for long: there is nobody to tell.
        }
    }
}
