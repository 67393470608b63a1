using Samepage.Linux.Interop;

namespace Samepage.Linux.ProcFs;

/// <summary>The descriptors that a process has open, <c>/proc/PID/fd</c>; proc_pid_fd(5).</summary>
public static class OpenFiles
{
    private const ulong KeptMost = 512, KeptShare = 4;

    /// <summary>How many it has: what stat(2) gives for the folder's size since Linux 6.2. Costs the same for one and for ten thousand.</summary>
    /// <returns>0 when the process is gone.</returns>
    public static long Count(int pid) => FileBlocks.TryReadSize($"/proc/{pid}/fd", out long size) ? size : 0;

    /// <summary>How many descriptors more this process may open for the programs that it serves, RLIMIT_NOFILE. Some are left for itself: without any, neither can a file of /proc be read nor a client be answered,
    /// and the runtime ends a process that cannot have one when it needs it.</summary>
    /// <returns>0 or less when there are none.</returns>
    public static unsafe long LeftForPrograms()
    {
        ulong* limits = stackalloc ulong[2];
        return LibC.getrlimit(LibC.RLIMIT_NOFILE, limits) == 0
            ? (long)Math.Min(limits[0], long.MaxValue) - (long)Math.Min(KeptMost, limits[0] / KeptShare) - Count(Environment.ProcessId) : long.MaxValue;
    }

    /// <summary>Whether one of them is a userfaultfd, or the device that makes them.</summary>
    public static bool HoldUserfaultfd(int pid) => Any(pid, target => target is "anon_inode:[userfaultfd]" or "/dev/userfaultfd");

    /// <summary>Whether one of them is open on something; looks at each.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="isIt">Says so of a link's target.</param>
    /// <returns>False when none is, or the process is gone.</returns>
    internal static bool Any(int pid, Predicate<string> isIt) =>
        ProcLinks.NamesIn($"/proc/{pid}/fd").Exists(descriptor => ProcLinks.TargetOf($"/proc/{pid}/fd/{descriptor}") is { } target && isIt(target));
}
