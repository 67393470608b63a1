using System.Runtime.InteropServices;
using Samepage.Linux.Interop;
using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Processes;

/// <summary>Asks the kernel whether a program of root's may be looked into by another of root's with certain capabilities and no more: ptrace(2), "Ptrace access mode checking", as it is at this moment.</summary>
/// <remarks>Capabilities are a thread's own. The calling thread makes no others effective than those for the moment in which it reads a link that the kernel shows only to who may look. That reading waits for
/// nobody. What is permitted to the thread stays so.</remarks>
public static unsafe class PeerSight
{
    /// <summary>What is permitted to us; a program that has more cannot be asked about.</summary>
    private static readonly ulong s_ours = ProcessStatus.TryRead("/proc/self/status")?.Permitted ?? 0;

    /// <summary>Asks about a process.</summary>
    /// <param name="pid">The process, or a thread of it that lives; root's, in user and group, and of our user namespace.</param>
    /// <param name="capabilities">What the other one has.</param>
    /// <returns>False only where the kernel says no.</returns>
    /// <exception cref="SyscallException">The thread could not become again what it was: it must not go on.</exception>
    public static bool MayLook(int pid, ulong capabilities)
    {
        if ((capabilities & ~s_ours) != 0)
            return true;
        LibC.__user_cap_header_struct header = new() { version = LibC._LINUX_CAPABILITY_VERSION_3 };
        LibC.__user_cap_data_struct* before = stackalloc LibC.__user_cap_data_struct[2];
        LibC.__user_cap_data_struct* limited = stackalloc LibC.__user_cap_data_struct[2];
        byte* target = stackalloc byte[1];
        if (LibC.syscall(SyscallNumbers.capget, (nint)(&header), (nint)before, 0, 0, 0) != 0)
            return true;
        for (int half = 0; half < 2; half++)
            limited[half] = before[half] with { effective = unchecked((uint)(capabilities >> (32 * half))) };
        if (LibC.syscall(SyscallNumbers.capset, (nint)(&header), (nint)limited, 0, 0, 0) != 0)
            return true;
        bool looks = LibC.readlink($"/proc/{pid}/exe", target, 1) >= 0 || (Errno)Marshal.GetLastPInvokeError() is not (Errno.EACCES or Errno.EPERM);
        if (LibC.syscall(SyscallNumbers.capset, (nint)(&header), (nint)before, 0, 0, 0) != 0)
            throw new SyscallException("capset", "the capabilities that this thread had", (Errno)Marshal.GetLastPInvokeError());
        return looks;
    }
}
