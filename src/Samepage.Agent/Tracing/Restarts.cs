using System.Collections.Concurrent;
using System.Diagnostics;
using Samepage.Agent.Seccomp;
using Samepage.Agent.X64;
using Samepage.Linux;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Agent.Tracing;

/// <summary>Begins calls again that came out of an interruption of ours with EINTR, and ends those whose time is over.</summary>
/// <remarks>
/// <para>epoll_wait, semop, sigtimedwait and their like come out of an interruption with EINTR, which the program would see (signal(7)). Nothing has happened in such a call. Whether it ends with EINTR is the kernel's
/// to say, when the thread goes on: so the answer is made the one by which calls tell the kernel to begin them again, unless a signal's handler is to run (ERESTARTNOHAND). That is done at once, so that our death
/// from here on could not change it. So a signal that comes while the thread is held ends the call as it always does, and one that is ignored, which the kernel queues for a thread that is traced, ends none.</para>
/// <para>Begun again, a call waits for all of its time. Nothing of the program's may be changed for it, neither a register nor a word in its memory. So the call is marked, and once it has waited
/// for its time since it was first interrupted, it is ended with what it answers then. The mark stands in the upper half of the register with the call's number: the kernel takes the lower half for the number,
/// and keeps all of it for who traces. A call that the program makes itself never has it. So a wait is never ended before its time; it may be late by the time that it had waited before it was
/// interrupted first.</para>
/// <para>Any thread may begin and end calls of a thread that it has stopped.</para>
/// <para>Waits of all programs are kept together, and whoever passes by sees which are over. He does not end them: to look at a call, to seize a thread and to read its memory may all have to wait for its program, and he
/// works for another. Attendants that have nothing else to do end them, one for each program: who keeps his own keeps nobody else. And a call that is marked has its time here: no memory is read for it again.</para>
/// <para>No end of ours cuts that short. A thread that we interrupted comes out with EINTR where we end before its call is begun again, so the end of this process waits for those who are at that, a little.</para>
/// </remarks>
internal static class Restarts
{
    /// <summary>ERESTART_RESTARTBLOCK: the kernel itself goes on with what is left of the time.</summary>
    public const long RestartBlock = -516;

    /// <summary>ERESTARTNOHAND: the kernel begins the call again, or, where a signal's handler runs first, ends it with EINTR.</summary>
    public const long RestartUnlessHandled = -514;

    /// <summary>It is in a call that the kernel would end with EINTR for a signal that has a handler, and begin again, or go on with, otherwise.</summary>
    /// <param name="registers">The registers of a thread that was stopped.</param>
    public static bool EndsForSignals(in LibC.user_regs_struct registers) => (long)registers.orig_rax >= 0 && (long)registers.rax is RestartUnlessHandled or RestartBlock;

    private const int KeptAtMost = 4096;
    private static readonly TimeSpan s_stopBound = TimeSpan.FromMilliseconds(20), s_exitBound = TimeSpan.FromMilliseconds(100);
    private static readonly ConcurrentDictionary<int, Wait> s_waits = [];
    private static readonly Attendants s_enders = CreateEnders();
    private static int s_marks;

    /// <summary>How many are about to interrupt a thread, or have and are not done with it; and whether nobody is to begin with that any more.</summary>
    private static int s_ending, s_exits;

    /// <param name="Process">Whose thread it is.</param>
    /// <param name="Mark">What marks the call; never 0.</param>
    /// <param name="Number">The call.</param>
    /// <param name="Arguments">Its six arguments: nobody but the thread itself changes them, and not while it is in the call.</param>
    /// <param name="Since">When it was first interrupted, as a timestamp.</param>
    /// <param name="Time">How long it waits at most.</param>
    /// <param name="Switches">How often the thread had slept when it was last stopped.</param>
    private sealed record Wait(int Process, int Mark, int Number, ulong[] Arguments, long Since, TimeSpan Time, long Switches)
    {
        public bool IsOver => Stopwatch.GetElapsedTime(Since) >= Time;
    }

    /// <summary>To be called when a thread has just stopped.</summary>
    /// <param name="thread">The thread.</param>
    /// <param name="processId">Its process.</param>
    public static void Begin(in Tracee thread, int processId)
    {
        if (!thread.TryRegisters(out LibC.user_regs_struct registers) || (long)registers.orig_rax < 0)
            return;
        bool sleeps = (long)registers.rax == RestartBlock && (thread.Filters?.Of(thread.ThreadId).ForbidsRestart ?? thread.IsFiltered);
        if (!sleeps && !CallTable.CameToNothing((int)registers.orig_rax, (long)registers.rax))
            return;
        int number = (int)registers.orig_rax, mark = (int)(registers.orig_rax >> 32);
        ulong[] arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        s_waits.TryGetValue(thread.ThreadId, out Wait? wait);
        if (wait is not null && (sleeps || wait.Mark != mark || wait.Number != number))
            wait = null;
        TimeSpan? time = sleeps ? null : wait?.Time ?? CallTable.TimeOf(number, arguments, new RemoteMemory(thread.ThreadId));
        if (wait is { IsOver: true })
        {
            _ = s_waits.TryRemove(thread.ThreadId, out _);
            Set(thread, registers with { rax = (ulong)CallTable.AnswerWhenOver(number), orig_rax = ulong.MaxValue });
            return;
        }

        if (time is not null && ProcessStatus.TryRead($"/proc/{processId}/task/{thread.ThreadId}/status") is { VoluntarySwitches: var switches })
            Keep(thread.ThreadId, wait = wait is null ? new Wait(processId, NewMark(), number, arguments, Stopwatch.GetTimestamp(), time.Value, switches) : wait with { Switches = switches });
        Set(thread, registers with { rax = unchecked((ulong)RestartUnlessHandled), orig_rax = (uint)number | (ulong)(wait?.Mark ?? 0) << 32 });
    }

    /// <summary>Has waits ended whose time is over and that nobody interrupts any more; to be called now and then. It waits for no program.</summary>
    public static void EndOverdue()
    {
        foreach ((_, Wait wait) in s_waits)
        {
            // Where one is at it, or is kept by that program, or there is no thread to be had, the next to pass by sees.
            if (wait.IsOver && !s_enders.IsBusy(wait.Process))
                _ = s_enders.TryBegin(wait.Process, () => EndOverdue(wait.Process));
        }
    }

    private static Attendants CreateEnders()
    {
        AppDomain.CurrentDomain.ProcessExit += static (_, _) =>
        {
            // Each is counted before it looks at this: it begins nothing, or is seen here.
            _ = Interlocked.Exchange(ref s_exits, 1);
            _ = SpinWait.SpinUntil(static () => Volatile.Read(ref s_ending) == 0, s_exitBound);
        };
        // Not by what others do who pass by: that would have the same waits looked at again and again.
        return new Attendants(static () =>
        {
            if (Lingering.Any)
            {
                Lingering.Look();
                HoldBoard.End();
            }

            return Lingering.Any;
        });
    }

    /// <summary>Ends one program's. May wait for it.</summary>
    private static void EndOverdue(int process)
    {
        foreach ((int tid, Wait wait) in s_waits)
        {
            if (wait.Process != process || !wait.IsOver || !s_waits.TryGetValue(tid, out Wait? now) || now != wait)
                continue;
            ProcessStatus? status = ProcessStatus.TryRead($"/proc/{process}/task/{tid}/status");
            // Whoever of ours has it now ends its call, or begins it again.
            if (status is { Tracer: not 0 and var tracer } && Threads.IsOurs(tracer))
                continue;
            // It has slept once since it was let go: it is in that call still. Otherwise nothing is owed to it.
            if (status is not null && status.VoluntarySwitches <= wait.Switches + 1 && TryEnd(tid, wait, status.Seccomp != 0))
                continue;
            _ = s_waits.TryRemove(new KeyValuePair<int, Wait>(tid, wait));
        }
    }

    /// <returns>False when there is nothing to end; true when it was ended, or somebody else is at it.</returns>
    private static bool TryEnd(int tid, Wait wait, bool filtered)
    {
        ThreadCall call = Threads.Look(wait.Process, tid);
        if (!call.Blocked || call.Number != wait.Number || !call.Arguments.AsSpan().SequenceEqual(wait.Arguments))
            return false;
        _ = Interlocked.Increment(ref s_ending);
        try
        {
            // A supervisor would be asked about the call once more.
            return Volatile.Read(ref s_exits) != 0 || !HoldBoard.MayHold || (filtered && FilterBook.WaitsForSupervisor(wait.Process, tid)) || TryInterrupt(tid, wait.Process, filtered);
        }
        finally
        {
            _ = Interlocked.Decrement(ref s_ending);
        }
    }

    /// <summary>Interrupts a call, which ends it, <see cref="Begin"/>.</summary>
    /// <returns>False when it cannot be, and nobody of ours is at it.</returns>
    private static bool TryInterrupt(int tid, int process, bool filtered)
    {
        HoldBoard.Begin();
        Tracee thread = new(process, tid) { IsFiltered = filtered, Filters = filtered ? new FilterBook(process) : null };
        Errno errno = thread.Seize();
        if (errno != Errno.None)
        {
            HoldBoard.End();
            return errno == Errno.EPERM && Threads.IsTracedByUs(process, tid);
        }

        _ = thread.Interrupt();
        _ = thread.Await(s_stopBound);
        thread.Release();
        HoldBoard.End();
        return true;
    }

    private static void Keep(int tid, Wait wait)
    {
        // Threads come and go. To forget one only means that it waits for all of its time.
        if (s_waits.Count >= KeptAtMost)
            s_waits.Clear();
        s_waits[tid] = wait;
    }

    private static int NewMark()
    {
        int mark = Interlocked.Increment(ref s_marks) & int.MaxValue;
        return mark == 0 ? 1 : mark;
    }

    private static void Set(in Tracee thread, in LibC.user_regs_struct registers)
    {
        try
        {
            thread.SetRegisters(registers);
        }
        catch (SyscallException)
        {
            // It was killed meanwhile.
        }
    }
}
