using System.Runtime.InteropServices;
using Samepage.Linux.ProcFs;
using static Samepage.Linux.Interop.LibC;

namespace Samepage.Linux.Seccomp;

/// <summary>Whether <see cref="ThreadFilters"/> can work here.</summary>
public static unsafe class SeccompSupport
{
    // The number of the file that stands for the user namespace of the whole system: linux/proc_ns.h.
    private const string InitialUserNamespace = "user:[4026531837]";

    /// <summary>Asks the kernel whether the calling thread could read the filters of threads that it traces, without tracing any.</summary>
    /// <remarks>
    /// To take a filter off (PTRACE_O_SUSPEND_SECCOMP) needs the same as to read it: CONFIG_SECCOMP and CONFIG_CHECKPOINT_RESTORE, CAP_SYS_ADMIN over the whole system, and no filter of one's own. The
    /// kernel checks the options of PTRACE_SEIZE before it looks at the thread that is to be seized; here that is the caller's own, which nobody may seize: it answers EINVAL where it does not know them, and EPERM in all
    /// other cases, whose cause stands in status.
    /// </remarks>
    /// <returns>Why not; null if it could.</returns>
    public static string? WhyNot()
    {
        Errno answer = ptrace(PTRACE_SEIZE, Environment.ProcessId, null, (void*)PTRACE_O_SUSPEND_SECCOMP) == -1 ? (Errno)Marshal.GetLastPInvokeError() : Errno.None;
        return ProcessStatus.TryRead("/proc/thread-self/status") is not { } status
            ? "/proc/thread-self/status cannot be read"
            : WhyNot(answer, status.Seccomp, status.Capabilities, new FileInfo("/proc/self/ns/user").LinkTarget == InitialUserNamespace);
    }

    /// <param name="answer">What PTRACE_SEIZE of oneself gave, with PTRACE_O_SUSPEND_SECCOMP.</param>
    /// <param name="seccomp">0 none, 1 strict, 2 filter.</param>
    /// <param name="capabilities">Those in force.</param>
    /// <param name="isOfSystem">They are so in the user namespace of the whole system.</param>
    internal static string? WhyNot(Errno answer, int seccomp, ulong capabilities, bool isOfSystem) => answer switch
    {
        Errno.EINVAL or Errno.EIO => "the kernel lacks CONFIG_CHECKPOINT_RESTORE, without which nobody can read a seccomp filter",
        not Errno.EPERM => $"ptrace(PTRACE_SEIZE, self, PTRACE_O_SUSPEND_SECCOMP): {answer}",
        _ when seccomp != 0 => "this process is under a seccomp filter itself: who is may not read those of others",
        _ when (capabilities >> CAP_SYS_ADMIN & 1) == 0 => "CAP_SYS_ADMIN is missing",
        _ when !isOfSystem => "CAP_SYS_ADMIN is in force in a user namespace only, not in the whole system",
        _ => null,
    };
}
