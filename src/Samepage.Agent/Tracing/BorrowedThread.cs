using System.Diagnostics;
using Samepage.Agent.Seccomp;
using Samepage.Agent.X64;
using Samepage.Linux;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Agent.Tracing;

/// <summary>A thread of a program that is held for some calls of ours, and goes on as if nothing had been.</summary>
/// <remarks>
/// <para>Where it goes on is found out once, before anything runs in it (<see cref="Tracee.Resumption"/>): a call of ours makes the kernel forget its restartable sequence. One that was asleep in a call gets the registers
/// that it had: the kernel begins the call again when it is let go, or ends it for a signal that has come meanwhile, as ever.</para>
/// <para>A thread that is about to get a signal is not borrowed: it must be let go from that very stop, or the signal loses what it carries. Signals are blocked while a call
/// of ours is made, but for those that an instruction causes: those would reset the program's handler if they were blocked, and come to us as its tracer instead. They mean that
/// somebody has changed the code under us, and are dropped.</para>
/// <para>All calls from the one OS thread that traces.</para>
/// </remarks>
internal sealed class BorrowedThread : IDisposable
{
    private const ulong Faults = 1UL << (LibC.SIGILL - 1) | 1UL << (LibC.SIGTRAP - 1) | 1UL << (LibC.SIGBUS - 1) | 1UL << (LibC.SIGFPE - 1) | 1UL << (LibC.SIGSEGV - 1) | 1UL << (LibC.SIGSYS - 1);
    private const ulong OwnFlags = 0x100 | 0x400 | 0x4000 | 0x40000; // TF, DF, NT, AC: the program's, not for code of ours

    /// <summary>How often a thread under a filter that does not rest is looked at before it is stopped: its next call may be one about which the filter's supervisor is asked, and a thread that makes such calls is seen to wait in them.</summary>
    private const int LooksAtRestless = 20;
    private static readonly TimeSpan SearchBound = TimeSpan.FromMilliseconds(500), StopBound = TimeSpan.FromSeconds(2), CallBound = TimeSpan.FromSeconds(2);
    private readonly int _pid;
    private readonly LibC.user_regs_struct _saved, _resumption;
    private readonly ulong _mask, _ending;
    private Tracee _thread;
    private WayBack? _wayBack;
    private bool _hasRun, _lingers, _isWayBackLaid;

    /// <param name="pid">The process.</param>
    /// <param name="thread">The thread, which stands still.</param>
    /// <param name="saved">Its registers.</param>
    /// <param name="handled">The signals that its process has handlers for, where it is in a call that they end.</param>
    private BorrowedThread(int pid, in Tracee thread, in LibC.user_regs_struct saved, ulong handled)
    {
        (_pid, _thread, _saved) = (pid, thread, saved);
        _resumption = thread.Resumption(saved);
        _mask = thread.SignalMask();
        _ending = handled & ~_mask;
    }

    /// <summary>The thread.</summary>
    public int ThreadId => _thread.ThreadId;

    /// <summary>Registers for code of ours, which begins at <paramref name="instruction"/>: the program's own flags are not for it.</summary>
    public static LibC.user_regs_struct ForOurs(in LibC.user_regs_struct registers, ulong instruction) =>
        registers with { rip = instruction, eflags = registers.eflags & ~OwnFlags, orig_rax = ulong.MaxValue };

    /// <summary>Holds a thread, of those with the fewest seccomp filters: preferably the first, or else one whose call the kernel begins again by itself.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="filters">For one that is to make an agent's threads, which inherit its filters: what is known of those; they must forbid none of our calls. Null for any.</param>
    /// <exception cref="AttachException">None can be held within half a second, or within two seconds one that is slow to stop, or may be, and why.</exception>
    public static BorrowedThread Borrow(int pid, FilterBook? filters = null)
    {
        if (!HoldBoard.MayHold)
            throw new AttachException("samepage is about to be stopped, and begins nothing; try again");
        string why = "no thread can be held at the moment: each is stopped, or waits in a call that must not be interrupted";
        List<int> threads = [], candidates = [];
        Filtered filtered = new(pid, filters);
        for (long since = Stopwatch.GetTimestamp(); ; Thread.Sleep(2))
        {
            if (!Threads.TryList(pid, threads))
                throw new AttachException("no such process");
            Choose(pid, threads, candidates, filtered);
            if (candidates.Count > 0 && candidates.TrueForAll(filtered.Forbidden.Contains))
                throw new AttachException(filtered.Why);
            foreach (int tid in candidates)
            {
                if (!filtered.Forbidden.Contains(tid) && TryBorrow(pid, tid, filtered, ref why) is { } thread)
                    return thread;
                if (Stopwatch.GetElapsedTime(since) > SearchBound)
                    throw new AttachException(why);
            }

            if (Stopwatch.GetElapsedTime(since) > SearchBound)
                throw new AttachException(why);
        }
    }

    /// <summary>Makes one system call in it, at a system call instruction that the program itself has, and puts it back at once.</summary>
    /// <remarks>Should we die meanwhile, it comes back by itself (<see cref="WayBack"/>), whatever the moment: its registers are set before its mask, and come back behind it. Where there is no way back, our death in
    /// these some ten microseconds, or as long as it waits for a processor, leaves it with wrong registers.</remarks>
    /// <returns>What the call answered.</returns>
    /// <exception cref="SyscallException">It ended.</exception>
    /// <exception cref="AttachException">The call could not be made, or did not come back; the thread goes on as it was, and nothing more can be asked of it.</exception>
    public ulong Call(int number, ulong a, ulong b, ulong c = 0, ulong d = 0, ulong e = 0, ulong f = 0)
    {
        try
        {
            Prepare(number, a, b, c, d, e, f);
            Run(number);
            return _thread.Registers().rax;
        }
        finally
        {
            if (!_lingers)
            {
                // As long as nothing has run in it, or where it was in a call, the kernel knows best how to go on.
                _thread.SetSignalMask(_mask);
                _thread.SetRegisters(_hasRun && !WasInCall ? _resumption : _saved);
            }
        }
    }

    /// <summary>Gives it the registers and the mask with which it makes a call as soon as it runs.</summary>
    internal void Prepare(int number, ulong a, ulong b, ulong c = 0, ulong d = 0, ulong e = 0, ulong f = 0)
    {
        if (!_isWayBackLaid)
            (_isWayBackLaid, _wayBack) = (true, WayBack.TryLay(_thread.ThreadId, _saved.rsp, TryFrame));
        LibC.user_regs_struct registers = ForOurs(_saved, _wayBack?.Instruction ?? SystemCallIn.Find(_pid, _thread.ThreadId, _saved));
        (registers.rax, registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9) = ((ulong)number, a, b, c, d, e, f);
        registers.rsp = _wayBack?.Stack ?? registers.rsp;
        _thread.SetRegisters(registers);
        _thread.SetSignalMask(~Faults);
    }

    /// <summary>Writes the signal frame that brings it back to where it was: see <see cref="SignalFrame"/>.</summary>
    /// <returns>False when its state does not fit into one.</returns>
    public bool TryFrame(Span<byte> frame, ulong address) => SignalFrame.TryWrite(frame, address, _resumption, WasInCall, _mask, _thread.ExtendedState(new byte[16384]), _ending);

    private bool WasInCall => (long)_saved.orig_rax >= 0;

    /// <summary>It goes on at an instruction of ours, with all signals blocked, once it is given back. A signal that comes from here on finds it as it was, not in our code: its
    /// frame holds its mask.</summary>
    public void SendTo(ulong instruction)
    {
        _thread.SetRegisters(ForOurs(_saved, instruction));
        _thread.SetSignalMask(ulong.MaxValue);
    }

    /// <summary>Lets go of it.</summary>
    public void Dispose()
    {
        if (!_lingers)
            _thread.Release();
        HoldBoard.End();
    }

    /// <summary>Those that can be held as far as can be seen, the best first.</summary>
    private static void Choose(int pid, List<int> threads, List<int> candidates, Filtered filtered)
    {
        candidates.Clear();
        filtered.Counts.Clear();
        filtered.Looks++;
        foreach (int tid in threads)
        {
            ThreadCall call = Threads.Look(pid, tid);
            if (IsInTheWay(call))
                continue;
            if (ProcessStatus.TryRead($"/proc/{pid}/task/{tid}/status") is not { State: 'R' or 'S', ShadowStack: false } status || (status.Seccomp != 0 && !filtered.MayStop(tid, call)))
                continue;
            filtered.Counts[tid] = status.SeccompFilters;
            // The first thread comes first: it is on the process's first stack, where there is a way back.
            if (tid == pid)
                candidates.Insert(0, tid);
            else if (call.Blocked && CallTable.RestartsByItself(call.Number))
                candidates.Insert(candidates.FirstOrDefault() == pid ? 1 : 0, tid);
            else
                candidates.Add(tid);
        }

        if (filtered.Counts.Values.Any(static count => count != 0))
            candidates.Sort(filtered.Compare(candidates));
    }

    /// <summary>It waits in a call that must not be interrupted, or in which nothing reaches it: that one may have begun since its state was read.</summary>
    private static bool IsInTheWay(in ThreadCall call) =>
        call.Blocked && (CallTable.MayReturnHalfDone(call.Number, call.Arguments) || CallTable.IsUninterruptible(call.Number, call.Arguments));

    private static BorrowedThread? TryBorrow(int pid, int tid, Filtered filtered, ref string why)
    {
        bool isFiltered = ProcessStatus.TryRead($"/proc/{pid}/task/{tid}/status") is { Seccomp: not 0 };
        ThreadCall call = Threads.Look(pid, tid);
        if (IsInTheWay(call) || (isFiltered && !filtered.MayStop(tid, call)))
            return null;
        Tracee thread = new(pid, tid) { IsFiltered = isFiltered, IsToBeUnfiltered = true, Filters = filtered.Book };
        HoldBoard.Begin();
        Errno errno = thread.Seize();
        if (errno != Errno.None)
        {
            HoldBoard.End();
            if (Threads.IsTracedByUs(pid, tid))
                why = $"thread {tid} is not let go yet; try again";
            else if (errno == Errno.EPERM && !LivingThread.HasEnded(pid, tid))
                throw new AttachException($"ptrace(PTRACE_SEIZE, {tid}): {errno}", permission: true);
            return null;
        }

        bool borrowed = false;
        try
        {
            _ = thread.Interrupt();
            if (thread.Await(StopBound) == StopKind.Running)
            {
                why = WorldStop.DoesNotStop(tid, Threads.State(pid, tid));
                return null;
            }

            if (thread.Kind == StopKind.Suspended)
                why = "the process is stopped (SIGSTOP)";
            if (thread.HasSignal)
                why = $"thread {tid} is about to get a signal; try again";
            if (thread.Kind != StopKind.Held || thread.HasSignal || !thread.TryRegisters(out LibC.user_regs_struct saved))
                return null;
            if (thread.Oddity(saved) is { Length: > 0 } odd)
            {
                why = odd;
                return null;
            }

            // As at the gate: without them its call would begin again where a signal was to end it, or it would have no way back.
            ulong handled = 0;
            if (Restarts.EndsForSignals(saved))
            {
                if (ProcessStatus.TryRead($"/proc/{pid}/task/{tid}/status") is not { } status)
                {
                    why = $"which signals thread {tid} has handlers for cannot be read";
                    return null;
                }

                handled = status.Handled;
            }

            if (filtered.WhyNot(tid) is { } forbidden)
            {
                why = forbidden;
                return null;
            }

            BorrowedThread whole = new(pid, thread, saved, handled);
            borrowed = true;
            return whole;
        }
        catch (SyscallException failed)
        {
            why = failed.Message;
            return null;
        }
        finally
        {
            if (!borrowed)
            {
                thread.Release();
                HoldBoard.End();
            }
        }
    }

    /// <summary>What a search finds out of threads under seccomp filters.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="agent">See <see cref="Borrow"/>.</param>
    private sealed class Filtered(int pid, FilterBook? agent)
    {
        private readonly HashSet<int> _asked = [];
        private readonly RestingThreads _resting = new(pid);

        public FilterBook Book { get; } = agent ?? new FilterBook(pid);

        /// <summary>Those whose filters forbid what is to be done in them.</summary>
        public HashSet<int> Forbidden { get; } = [];

        /// <summary>What the last of these forbids.</summary>
        public string Why { get; private set; } = "";

        /// <summary>By thread, how many filters it has.</summary>
        public Dictionary<int, int> Counts { get; } = [];

        /// <summary>How often the threads were looked at.</summary>
        public int Looks { get; set; }

        /// <summary>Whether a thread under filters may be stopped, as far as can be seen: its supervisor is not asked twice for it.</summary>
        public bool MayStop(int tid, in ThreadCall call)
        {
            if (call.Blocked && (Book.ForbidsAgain(tid, call) || Book.AsksSupervisor(tid, call) || FilterBook.WaitsForSupervisor(pid, tid)))
            {
                _asked.Add(tid);
                return false;
            }

            bool rests = call.Blocked && _resting.Rests(tid);
            return rests || Book.Known(tid) is { MayAskSupervisor: false, IsNone: false } || (Looks >= LooksAtRestless && !_asked.Contains(tid));
        }

        /// <summary>What the filters of a thread, which stands still, forbid that is to be done in it; null for nothing.</summary>
        public string? WhyNot(int tid)
        {
            if (agent is null)
                return null;
            FilterChain chain = agent.Of(tid);
            if (chain.WhyNotAgent(chain.IsNone ? 0 : FilterBook.PersonalityOf(tid)) is { } why)
            {
                _ = Forbidden.Add(tid);
                return Why = why;
            }

            (agent.AgentFilters, agent.AgentAbilities) = (chain.Count, chain.Abilities);
            return null;
        }

        /// <summary>Orders by the number of filters, and otherwise leaves the order as it is.</summary>
        public Comparison<int> Compare(List<int> order)
        {
            Dictionary<int, int> places = order.Select(static (tid, place) => (tid, place)).ToDictionary();
            return (one, other) => (Counts[one], places[one]).CompareTo((Counts[other], places[other]));
        }
    }

    /// <summary>Lets it run through the call at which its registers stand.</summary>
    private void Run(int number)
    {
        long since = Stopwatch.GetTimestamp();
        bool interrupted = false;
        for (int stops = 0; stops < 2;)
        {
            if (_thread.ContinueToCall() != Errno.None)
                throw new SyscallException("ptrace", $"PTRACE_SYSCALL, thread {ThreadId} of {_pid}", Errno.ESRCH);
            for (bool isOver = false; _thread.Look() == StopKind.Running;)
            {
                if (!isOver)
                {
                    Scheduling.Pause(since);
                    // And looked at once more: who waits may have got no processor himself.
                    isOver = Stopwatch.GetElapsedTime(since) > CallBound;
                    continue;
                }

                if (interrupted)
                {
                    // It is in the kernel, and cannot be stopped there.
                    _lingers = true;
                    Lingering.Add(_thread, _resumption, _mask);
                    throw new AttachException($"call {number} that was made in thread {ThreadId} does not come back; it goes on as it was when that ends");
                }

                (interrupted, isOver) = (true, false);
                _ = _thread.Interrupt();
                since = Stopwatch.GetTimestamp();
            }

            if (_thread.Kind == StopKind.Gone)
                throw new SyscallException("waitpid", $"thread {ThreadId} of {_pid} ended", Errno.ESRCH);
            if (_thread.IsAtCall)
            {
                // At its entry, then at its exit.
                _hasRun = true;
                stops++;
            }
            else if (stops == 0 && (_thread.HasSignal || interrupted))
            {
                _hasRun |= _thread.TryDropFault() || interrupted;
                throw new AttachException($"no call could be made in thread {ThreadId}: somebody changed the code at which it was to be made, or sent it a signal; try again");
            }
        }
    }
}
