using System.Runtime.InteropServices;
using static Samepage.Linux.Interop.LibC;

namespace Samepage.Linux.Seccomp;

/// <summary>Reads the filters of other threads: ptrace(2), PTRACE_SECCOMP_GET_FILTER.</summary>
public static unsafe class ThreadFilters
{
    /// <summary>How many filters are read of a thread at most. A service has three or four, one for each of its settings; each costs every call of the thread.</summary>
    public const int FiltersMax = 64;

    /// <summary>Reads all filters of a thread that the calling thread has stopped by ptrace(2). Whether they are suspended makes no difference (PTRACE_O_SUSPEND_SECCOMP).</summary>
    /// <remarks>
    /// A stopped thread may get filters nonetheless, from another of its process that sets them for all (SECCOMP_FILTER_FLAG_TSYNC). Filters are a chain that only ever grows, and are numbered from the oldest (the
    /// manual page says: from the newest; kernels do not): what comes gets a number behind all others. So each filter is read once, and all that it has at the moment when the kernel knows no more are read. What
    /// comes later is missing, as what comes after the call is.
    /// </remarks>
    /// <param name="tid">The thread's id.</param>
    /// <param name="filters">They are put here in place of what was in it, the oldest first; all of them only where the result is true.</param>
    /// <param name="errno">EACCES: the caller lacks CAP_SYS_ADMIN, or is under a filter itself. EINVAL: the thread is under no filter (none, or strict mode, or it has been killed), or the kernel lacks
    /// CONFIG_CHECKPOINT_RESTORE. ESRCH: it is not stopped, or not by the caller. ERANGE: it has more than <see cref="FiltersMax"/>. EMEDIUMTYPE, 124: a filter is not of classic BPF.</param>
    /// <returns>True if it has filters, and all were read.</returns>
    public static bool TryRead(int tid, List<SeccompFilter> filters, out Errno errno)
    {
        filters.Clear();
        // The kernel writes the whole filter, without asking how much room there is for it; none is longer than this.
        byte[] buffer = new byte[BPF_MAXINSNS * BpfInstruction.Size];
        for (int index = 0; index <= FiltersMax; index++)
        {
            nint count;
            fixed (byte* room = buffer)
                count = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, (void*)index, room);
            if (count < 0)
            {
                errno = (Errno)Marshal.GetLastPInvokeError();
                if (errno != Errno.ENOENT || index == 0)
                    return false;
                errno = Errno.None;
                return true;
            }
            filters.Add(SeccompFilter.Parse(buffer.AsSpan(0, (int)count * BpfInstruction.Size)));
        }
        errno = Errno.ERANGE;
        return false;
    }
}
