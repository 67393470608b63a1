using Samepage.Linux.Interop;

namespace Samepage.Linux.Processes;

/// <summary>Gives a thread of another process a processor at once for a moment, whatever else wants one: SCHED_FIFO, sched(7).</summary>
/// <remarks>
/// <para>A control group's <c>cpu.max</c> does not bind such a thread, and no thread of ordinary priority keeps it waiting. So what it does while others stand still is over as soon as can be.</para>
/// <para>It wants CAP_SYS_NICE, and a kernel that does not share real-time processor time out between control groups (RT_GROUP_SCHED): where it is refused, nothing changes.
/// A process that has bounded the time of such threads (RLIMIT_RTTIME) would be sent SIGXCPU: there nothing is tried.</para>
/// <para>One thread at a time.</para>
/// </remarks>
/// <param name="thread">The thread's id.</param>
public sealed unsafe class Urgency(int thread)
{
    private const int Unknown = -2, Never = -1;
    private int _policy = Unknown;

    /// <summary>It has ordinary priority, and nothing is known that speaks against raising that. The first call looks.</summary>
    public bool IsPossible => (_policy == Unknown ? _policy = Look() : _policy) != Never;

    /// <summary>From now on it comes first.</summary>
    public void Raise()
    {
        LibC.sched_param first = new() { sched_priority = 1 };
        if (LibC.sched_setscheduler(thread, LibC.SCHED_FIFO, &first) != 0)
            _policy = Never;
    }

    /// <summary>It is as it was. Its nice value was never changed.</summary>
    public void Lower()
    {
        LibC.sched_param none = default;
        if (_policy >= 0)
            _ = LibC.sched_setscheduler(thread, _policy, &none);
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
