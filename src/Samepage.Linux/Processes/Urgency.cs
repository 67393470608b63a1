using System.Diagnostics;
using Samepage.Linux.Interop;

namespace Samepage.Linux.Processes;

/// <summary>Gives a thread of another process a processor at once for a moment, whatever else wants one: SCHED_FIFO, sched(7).</summary>
/// <remarks>
/// <para>A control group's <c>cpu.max</c> does not bind such a thread, and no thread of ordinary priority keeps it waiting. So what it does while others stand still is over as soon as can be.</para>
/// <para>The thread lies in a program that may be hostile, and whose user may have no such priority (RLIMIT_RTPRIO): it can be traced, and made to do anything while it has it. So what it makes
/// meanwhile has none (SCHED_RESET_ON_FORK, which only CAP_SYS_NICE takes back), one thread at a time has it, for <see cref="Most"/> at most, and a program that has kept it for longer never gets it
/// again, and nobody does for <see cref="Pause"/>. That is a hundredth of one processor, at most.</para>
/// <para>It wants CAP_SYS_NICE, and a kernel that does not share real-time processor time out between control groups (RT_GROUP_SCHED): where it is refused, nothing changes.
/// A process that has bounded the time of such threads (RLIMIT_RTTIME) would be sent SIGXCPU: there nothing is tried.</para>
/// <para>One thread at a time.</para>
/// </remarks>
/// <param name="thread">The thread's id.</param>
public sealed unsafe class Urgency(int thread)
{
    private const int Unknown = -2, Never = -1;
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(10);
    private static int s_isTaken;
    private static long s_spentAt;
    private int _policy = Unknown;
    private bool _isRaised;

    /// <summary>For how long a thread may be urgent.</summary>
    public static readonly TimeSpan Most = TimeSpan.FromMilliseconds(100);

    /// <summary>False where it is known that it cannot be: the system refuses, or it has kept that for too long once.</summary>
    public bool IsPossible => _policy != Never;

    /// <summary>From now on it comes first, if that is possible, and nobody else does at the moment. To be followed by <see cref="Lower"/>, <see cref="Most"/> later at most.</summary>
    /// <returns>False when it is as it was.</returns>
    public bool TryRaise()
    {
        if (_policy == Unknown)
            _policy = Look();
        if (_policy == Never || (Volatile.Read(ref s_spentAt) is var spent && spent != 0 && Stopwatch.GetElapsedTime(spent) < Pause) || Interlocked.Exchange(ref s_isTaken, 1) != 0)
            return false;
        LibC.sched_param first = new() { sched_priority = 1 };
        _isRaised = LibC.sched_setscheduler(thread, LibC.SCHED_FIFO | LibC.SCHED_RESET_ON_FORK, &first) == 0;
        if (_isRaised)
            return true;
        _policy = Never;
        Volatile.Write(ref s_isTaken, 0);
        return false;
    }

    /// <summary>It is as it was, if it was raised. Its nice value was never changed.</summary>
    /// <param name="inTime">It has ended what it was raised for.</param>
    public void Lower(bool inTime)
    {
        if (!_isRaised)
            return;
        _isRaised = false;
        LibC.sched_param none = default;
        _ = LibC.sched_setscheduler(thread, _policy, &none);
        if (!inTime)
        {
            _policy = Never;
            Volatile.Write(ref s_spentAt, Stopwatch.GetTimestamp());
        }

        Volatile.Write(ref s_isTaken, 0);
    }

    /// <summary>Ends the urgency of a thread that a daemon has died over.</summary>
    public void LowerLeft()
    {
        LibC.sched_param none = default;
        // A program's own real-time thread may have been cloned for it, and has that without the flag.
        if (LibC.sched_getscheduler(thread) == (LibC.SCHED_FIFO | LibC.SCHED_RESET_ON_FORK))
            _ = LibC.sched_setscheduler(thread, LibC.SCHED_OTHER, &none);
    }

    private int Look()
    {
        ulong* limits = stackalloc ulong[2];
        if (LibC.prlimit(thread, LibC.RLIMIT_RTTIME, null, limits) != 0 || limits[0] != ulong.MaxValue)
            return Never;
        int policy = LibC.sched_getscheduler(thread);
        return (policy & ~LibC.SCHED_RESET_ON_FORK) is LibC.SCHED_OTHER or LibC.SCHED_BATCH or LibC.SCHED_IDLE ? policy : Never;
    }
}
