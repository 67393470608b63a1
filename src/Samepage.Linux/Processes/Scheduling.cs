using System.Diagnostics;
using Samepage.Linux.Interop;

namespace Samepage.Linux.Processes;

/// <summary>Priorities of threads, setpriority(2), and pauses that leave the processor to others. On Linux a nice value is a thread's own.</summary>
public static unsafe class Scheduling
{
    /// <summary>The highest priority that is not a real-time one.</summary>
    private const int First = -20;

    private static readonly TimeSpan Spin = TimeSpan.FromMicroseconds(200);

    /// <summary>The calling thread's nice value while it does not come first; <see cref="First"/> where that is not to be changed. Null before it is known.</summary>
    [ThreadStatic]
    private static int? s_usual;

    /// <summary>How often it was asked to come first, and not yet to come as before.</summary>
    [ThreadStatic]
    private static int s_depth;

    [ThreadStatic]
    private static bool s_comesFirst;

    /// <summary>The calling thread comes first.</summary>
    public static bool ComesFirst => s_comesFirst;

    /// <summary>Lowers the calling thread's priority.</summary>
    /// <param name="nice">0 to 19.</param>
    public static void BeNice(int nice)
    {
        _ = LibC.setpriority(0, 0, nice);
        s_usual = null;
    }

    /// <summary>The calling thread's nice value while it does not come first; null where it has another policy than the ordinary one, or may not come first.</summary>
    public static int? UsualNice => (s_usual ??= Usual()) > First ? s_usual : null;

    /// <summary>The calling thread, for <see cref="HaveComeFirst"/>; with the priority that it is to have while it does not come first.</summary>
    /// <param name="nice">Null for the one that it has.</param>
    public static int BeOwnThread(int? nice)
    {
        if (nice is { } usual && usual != UsualNice)
            BeNice(usual);
        s_usual ??= Usual();
        return LibC.gettid();
    }

    /// <summary>The calling thread comes before all others of ordinary priority in its control group (or session, autogroup), until <see cref="ComeAsBefore"/>: others stand still for it. Where that is refused (CAP_SYS_NICE), or the thread has another policy than the ordinary
    /// one, nothing changes.</summary>
    /// <remarks>Not by real-time priority: what it may have to wait for, a lock of the runtime's or a thread that it holds, has none, and could wait behind it on the same processor.</remarks>
    public static void ComeFirst()
    {
        if (s_depth++ > 0 || (s_usual ??= Usual()) <= First)
            return;
        // What it makes meanwhile does not come first.
        LibC.sched_param none = default;
        s_comesFirst = LibC.sched_setscheduler(0, LibC.SCHED_OTHER | LibC.SCHED_RESET_ON_FORK, &none) == 0 && LibC.setpriority(0, 0, First) == 0;
        if (!s_comesFirst)
            s_usual = First;
    }

    /// <summary>Another thread of this process is about to call <see cref="ComeFirst"/>, and does not wait for a processor until it does.</summary>
    /// <param name="thread">As it has it from <see cref="BeOwnThread"/>.</param>
    public static void HaveComeFirst(int thread) => _ = LibC.setpriority(0, thread, First);

    /// <summary>The calling thread has the priority again that it had before <see cref="ComeFirst"/>; to be called as often as that.</summary>
    public static void ComeAsBefore()
    {
        if (--s_depth > 0 || !s_comesFirst)
            return;
        s_comesFirst = false;
        _ = LibC.setpriority(0, 0, s_usual!.Value);
    }

    /// <summary>Waits a little for something that mostly takes some microseconds: it spins for the first 200 of them, and leaves the processor to others behind those, for some tens of microseconds each time.</summary>
    /// <param name="since">When it began to wait, a timestamp.</param>
    public static void Pause(long since)
    {
        if (Stopwatch.GetElapsedTime(since) < Spin)
        {
            Thread.SpinWait(20);
            return;
        }

        LibC.timespec duration = new() { tv_nsec = 50_000 };
        _ = LibC.nanosleep(&duration, null);
    }

    private static int Usual() => (LibC.sched_getscheduler(0) & ~LibC.SCHED_RESET_ON_FORK) == LibC.SCHED_OTHER ? LibC.getpriority(0, 0) : First;
}
