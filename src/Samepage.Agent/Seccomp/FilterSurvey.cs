using Samepage.Agent.Tracing;
using Samepage.Agent.X64;
using Samepage.Linux;
using Samepage.Linux.ProcFs;
using Samepage.Linux.Seccomp;

namespace Samepage.Agent.Seccomp;

/// <summary>Looks at the filters of all threads of a program before anything is brought into it.</summary>
/// <remarks>A filter is only to be read of a thread that stands still. So each thread that has some is stopped for a moment, where it rests in a call that nobody feels to be interrupted. Those that do not are left out here: nothing is
/// exchanged in the program before all of its threads are held, and the filters of each are looked at then (<see cref="AgentSession.MayBeHeld"/>). All calls from the one OS thread that traces.</remarks>
internal static class FilterSurvey
{
    private static readonly TimeSpan StopBound = TimeSpan.FromMilliseconds(20), Look = TimeSpan.FromMilliseconds(25);

    /// <summary>Looks.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="filters">What is found out is noted there.</param>
    /// <returns>What is forbidden; null for nothing, as far as was seen.</returns>
    public static string? WhyNot(int pid, FilterBook filters)
    {
        List<int> threads = [];
        RestingThreads resting = new(pid);
        _ = Threads.TryList(pid, threads);
        bool isAnyFiltered = false;
        foreach (int tid in threads)
        {
            isAnyFiltered |= ProcessStatus.TryRead($"/proc/{pid}/task/{tid}/status") is { Seccomp: not 0 };
            _ = isAnyFiltered && resting.Rests(tid);
        }

        if (isAnyFiltered)
            Thread.Sleep(Look);
        foreach (int tid in threads)
        {
            int seccomp = ProcessStatus.TryRead($"/proc/{pid}/task/{tid}/status")?.Seccomp ?? 0;
            if (seccomp == 0)
                continue;
            if (seccomp == 1)
                return FilterChain.Strict.WhyNotGate();
            if (SeccompSupport.WhyNot() is { } unreadable)
                return FilterChain.Unreadable(unreadable).WhyNotGate();
            if (TryRead(pid, tid, filters, resting)?.WhyNotGate() is { } forbidden)
                return forbidden;
        }

        return null;
    }

    private static FilterChain? TryRead(int pid, int tid, FilterBook filters, RestingThreads resting)
    {
        ThreadCall call = Threads.Look(pid, tid);
        if (!HoldBoard.MayHold || !call.Blocked || !CallTable.RestartsByItself(call.Number) || CallTable.MayReturnHalfDone(call.Number, call.Arguments) || CallTable.IsUninterruptible(call.Number, call.Arguments) ||
            filters.ForbidsAgain(tid, call) || filters.AsksSupervisor(tid, call) || FilterBook.WaitsForSupervisor(pid, tid) || !resting.Rests(tid))
        {
            return null;
        }

        Tracee thread = new(pid, tid) { Filters = filters };
        HoldBoard.Begin();
        FilterChain? chain = null;
        if (thread.Seize() == Errno.None)
        {
            _ = thread.Interrupt();
            if (thread.Await(StopBound) == StopKind.Held)
                chain = filters.Of(tid);
            thread.Release();
        }

        HoldBoard.End();
        return chain;
    }
}
