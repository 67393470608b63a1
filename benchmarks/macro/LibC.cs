using System.Runtime.InteropServices;

namespace Samepage.Bench;

/// <summary>C as its headers spell it: the three calls that .NET has no words for.</summary>
internal static partial class LibC
{
    internal const int SIGTERM = 15;

    [StructLayout(LayoutKind.Sequential)]
    internal struct Timespec
    {
        public long tv_sec;
        public long tv_nsec;
    }

    [LibraryImport("libc")]
    internal static partial int clock_getcpuclockid(int pid, out int clockid);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int clock_gettime(int clockid, out Timespec tp);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int kill(int pid, int sig);
}
