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
    /// <summary>futex, epoll_wait, epoll_pwait, epoll_pwait2, poll, ppoll, select, pselect6, nanosleep, clock_nanosleep.</summary>
    private static readonly int[] s_forbiddenByNobody = [202, 232, 281, 441, 7, 271, 23, 270, 35, 230];

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
        {
            threads = [.. threads.OrderBy(tid => Rank(pid, tid))];
            Thread.Sleep(Look);
        }

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

    /// <summary>Filters that came over all threads (SECCOMP_FILTER_FLAG_TSYNC) may forbid the very call in which one has waited since before, and which would begin again before them. So they are read first of such as wait in a call that hardly
    /// anybody forbids; then it is known whom not to interrupt (<see cref="FilterBook.ForbidsAgain"/>).</summary>
    private static int Rank(int pid, int tid) => Threads.Look(pid, tid) is { Blocked: true } call && s_forbiddenByNobody.Contains(call.Number) ? 0 : 1;

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
