using System.Diagnostics;
using Samepage.Agent.Seccomp;
using Samepage.Linux;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Agent.Tracing;

/// <summary>Finds out whether no thread is about to run in an agent's range, so that it can be unmapped.</summary>
/// <remarks>
/// <para>What the agent says of itself is not enough: a thread that waits for a processor may have been sent there, or have been cloned, and not have said so yet; or be in the gate that a daemon left behind, the last
/// few instructions before its own code.</para>
/// <para>Whoever was seen elsewhere once comes there no more, nor do the threads that he makes: nobody is sent there any more, and only the executor clones, who is there himself. So threads are looked at one by one, as
/// they come by; and where all that there are at a time were seen elsewhere, by then or behind that, nobody is there.</para>
/// <para>A thread that sleeps shows where it goes on, and nobody feels that. One that never does for a while runs: it is held for a moment. One that sleeps now and then must not be, for it may be in a call that comes back half done.</para>
/// <para>All calls from the one OS thread that traces.</para>
/// </remarks>
/// <param name="pid">The process.</param>
/// <param name="start">Where the range begins.</param>
internal sealed class RangeSearch(int pid, ulong start)
{
    private static readonly TimeSpan Asleep = TimeSpan.FromMilliseconds(100), StopBound = TimeSpan.FromMilliseconds(100);
    private readonly HashSet<int> _elsewhere = [];
    private readonly List<int> _threads = [];
    private readonly long _since = Stopwatch.GetTimestamp();

    /// <summary>A thread was seen in the range at the last look.</summary>
    public bool IsInhabited { get; private set; }

    /// <summary>Looks; to be called again until it is true, or too much time has gone by.</summary>
    /// <returns>True when nobody is there, nor will be.</returns>
    public bool IsDeserted()
    {
        IsInhabited = false;
        bool deserted = Threads.TryListAll(pid, _threads);
        foreach (int tid in _threads)
            deserted &= _elsewhere.Contains(tid) || LivingThread.HasEnded(pid, tid) || IsElsewhere(tid);
        return deserted;
    }

    private bool IsElsewhere(int tid)
    {
        if (!Threads.TryFindAsleep(pid, tid, out ulong stack, out ulong instruction) && (Stopwatch.GetElapsedTime(_since) < Asleep || !TryFindRunning(tid, out stack, out instruction)))
            return false;
        bool isIn = stack - start < AgentLayout.Size || instruction - start < AgentLayout.Size;
        IsInhabited |= isIn;
        return !isIn && _elsewhere.Add(tid);
    }

    /// <summary>Where a thread stands that runs, or waits for a processor: it is held for a moment.</summary>
    private bool TryFindRunning(int tid, out ulong stack, out ulong instruction)
    {
        (stack, instruction) = (0, 0);
        if (!HoldBoard.MayHold)
            return false;
        bool filtered = ProcessStatus.TryRead($"/proc/{pid}/task/{tid}/status") is { Seccomp: not 0 };
        Tracee thread = new(pid, tid) { IsFiltered = filtered, Filters = filtered ? new FilterBook(pid) : null };
        HoldBoard.Begin();
        // One of the kernel's, for io_uring, is never in the program.
        if (thread.Seize() is not Errno.None and var refused)
        {
            HoldBoard.End();
            return refused == Errno.EPERM && Threads.Name(pid, tid).StartsWith("iou-", StringComparison.Ordinal);
        }

        _ = thread.Interrupt();
        _ = thread.Await(StopBound);
        bool found = thread.TryRegisters(out LibC.user_regs_struct registers);
        (stack, instruction) = (registers.rsp, registers.rip);
        thread.Release();
        HoldBoard.End();
        return found;
    }
}
