using System.Runtime.InteropServices;

namespace Samepage.Linux.Interop;

/// <content>sched.h, sys/resource.h and time.h: who runs when, and has run for how long.</content>
internal static unsafe partial class LibC
{
    public const int SCHED_OTHER = 0, SCHED_FIFO = 1, SCHED_BATCH = 3, SCHED_IDLE = 5, SCHED_RESET_ON_FORK = 0x40000000, RLIMIT_RTTIME = 15;

    [LibraryImport("libc", SetLastError = true)]
    public static partial int setpriority(int which, int who, int priority);

    /// <summary>-1 is an answer, too.</summary>
    [LibraryImport("libc")]
    public static partial int getpriority(int which, int who);

    [LibraryImport("libc")]
    public static partial int gettid();

    [LibraryImport("libc")]
    public static partial int nanosleep(timespec* duration, timespec* rem);

    /// <summary>0, or an errno.</summary>
    [LibraryImport("libc")]
    public static partial int clock_getcpuclockid(int pid, int* clock);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int clock_gettime(int clock, timespec* time);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int sched_getscheduler(int pid);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int sched_setscheduler(int pid, int policy, sched_param* param);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int prlimit(int pid, int resource, ulong* new_limit, ulong* old_limit);

    [StructLayout(LayoutKind.Sequential)]
    public struct timespec
    {
        public long tv_sec;
        public long tv_nsec;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct sched_param
    {
        public int sched_priority;
    }
}
