using System.Runtime.InteropServices;
using Samepage.Linux.Interop;

namespace Samepage.Linux.Processes;

/// <summary>pidfd_open(2) and pidfd_getfd(2): a process or thread held by descriptor, so that a reused number is never mistaken for it.</summary>
public static class PidFd
{
    /// <summary>Opens a process.</summary>
    /// <returns>False when there is no such process.</returns>
    public static bool TryOpen(int pid, out FileDescriptor? pidfd, out Errno errno) => TryOpen(pid, 0, out pidfd, out errno);

    /// <summary>Opens one thread of a process (Linux 6.9).</summary>
    /// <param name="pid">The process.</param>
    /// <param name="tid">The thread. Its number may be another's at any moment, whatever was seen of it before: so it is looked once more when it is open. If it is this process's then, it was when it was opened.</param>
    /// <param name="pidfd">The thread.</param>
    /// <param name="errno">Why not.</param>
    /// <returns>False when it has no such thread.</returns>
    public static bool TryOpenThread(int pid, int tid, out FileDescriptor? pidfd, out Errno errno)
    {
        if (!TryOpen(tid, LibC.PIDFD_THREAD, out pidfd, out errno) || Directory.Exists($"/proc/{pid}/task/{tid}"))
            return pidfd is not null;
        pidfd!.Dispose();
        (pidfd, errno) = (null, Errno.ESRCH);
        return false;
    }

    /// <summary>Claims a process among all that ask for this, whatever namespaces they are in: flock(2) on its pidfd, of which there is one inode (Linux 6.9). It is given up with the last copy of
    /// this very descriptor, and with our death.</summary>
    /// <returns>False when somebody else has it. Anybody may, for any reason.</returns>
    public static bool TryClaim(FileDescriptor pidfd) => LibC.flock(pidfd.Number, LibC.LOCK_EX | LibC.LOCK_NB) == 0;

    /// <summary>True once the process or thread has ended, or where the descriptor was closed: nobody knows then.</summary>
    public static unsafe bool HasEnded(FileDescriptor pidfd)
    {
        LibC.pollfd poll = new() { fd = pidfd.Number, events = LibC.POLLIN };
        return pidfd.IsClosed || LibC.poll(&poll, 1, 0) > 0;
    }

    /// <summary>Duplicates a descriptor out of the descriptor table of the thread that <paramref name="pidfd"/> holds.</summary>
    /// <exception cref="SyscallException">The system refused.</exception>
    public static FileDescriptor Take(FileDescriptor pidfd, int number)
    {
        int copy = (int)LibC.syscall(SyscallNumbers.pidfd_getfd, pidfd.Number, number, 0, 0, 0);
        return copy >= 0 ? new FileDescriptor(copy) : throw new SyscallException("pidfd_getfd", $"descriptor {number}", (Errno)Marshal.GetLastPInvokeError());
    }

    /// <summary>Makes huge pages of a range of another process's memory, present or not: process_madvise(2) with MADV_COLLAPSE (Linux 6.1).</summary>
    /// <param name="pidfd">The process.</param>
    /// <param name="start">First byte; a multiple of the size of a huge page, as the length is.</param>
    /// <param name="length">Bytes.</param>
    /// <returns>False when the kernel would not, or could not.</returns>
    public static unsafe bool TryCollapse(FileDescriptor pidfd, ulong start, ulong length)
    {
        LibC.iovec range = new() { iov_base = (nuint)start, iov_len = (nuint)length };
        return LibC.process_madvise(pidfd.Number, &range, 1, LibC.MADV_COLLAPSE, 0) == (nint)length;
    }

    /// <summary>Says of a part of another process's memory that it is not needed soon: process_madvise(2) with MADV_COLD (Linux 5.10). No content changes by it. A large folio of which only a part is named is
    /// taken apart first, unless somebody besides the process holds a reference to it; the kernel does not say whether it was.</summary>
    /// <param name="pidfd">The process.</param>
    /// <param name="start">First byte; a multiple of the size of a page, as the length is.</param>
    /// <param name="length">Bytes.</param>
    /// <returns>None; EPERM without CAP_SYS_NICE, EINVAL where the memory is locked, ENOMEM where nothing is mapped, ESRCH when the process has no memory any more.</returns>
    public static unsafe Errno TryMakeCold(FileDescriptor pidfd, ulong start, ulong length)
    {
        LibC.iovec range = new() { iov_base = (nuint)start, iov_len = (nuint)length };
        return LibC.process_madvise(pidfd.Number, &range, 1, LibC.MADV_COLD, 0) < 0 ? (Errno)Marshal.GetLastPInvokeError() : Errno.None;
    }

    private static bool TryOpen(int id, int flags, out FileDescriptor? pidfd, out Errno errno)
    {
        int number = (int)LibC.syscall(SyscallNumbers.pidfd_open, id, flags, 0, 0, 0);
        errno = number < 0 ? (Errno)Marshal.GetLastPInvokeError() : Errno.None;
        pidfd = number < 0 ? null : new FileDescriptor(number);
        return number >= 0;
    }
}
