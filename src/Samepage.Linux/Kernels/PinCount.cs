using Samepage.Linux.Interop;
using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Kernels;

/// <summary>Whether the kernel counts the buffers that io_uring registers as pinned memory of their process (VmPin), whoever it is.</summary>
public static unsafe class PinCount
{
    /// <summary>CAP_IPC_LOCK of linux/capability.h: some kernels count only for those who have it not.</summary>
    private const ulong CapIpcLock = 1UL << 14;

    private static readonly nint s_failed = -1;

    /// <summary>Tried on ourselves: a ring of one entry and a buffer of one page, which end with the call.</summary>
    /// <returns>Null where that shows nothing: no ring can be made (<c>kernel.io_uring_disabled</c>, a seccomp filter), or it was counted, and we lack the capability by which others may not be counted.</returns>
    public static bool? IsKept
    {
        get
        {
            LibC.io_uring_params parameters = default;
            nint made = LibC.syscall(SyscallNumbers.io_uring_setup, 1, (nint)(&parameters), 0, 0, 0);
            if (made < 0)
                return null;
            using FileDescriptor ring = new((int)made);
            void* page = LibC.mmap(null, 4096, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS, -1, 0);
            if ((nint)page == s_failed)
                return null;
            (long before, _) = Look();
            LibC.iovec buffer = new() { iov_base = (nuint)page, iov_len = 4096 };
            bool registered = LibC.syscall(SyscallNumbers.io_uring_register, ring.Number, LibC.IORING_REGISTER_BUFFERS, (nint)(&buffer), 1, 0) == 0;
            (long after, ulong capabilities) = Look();
            _ = LibC.munmap(page, 4096);
            return !registered ? null : after <= before ? false : (capabilities & CapIpcLock) != 0 ? true : null;
        }
    }

    private static (long Kib, ulong Capabilities) Look() => ProcessStatus.TryRead("/proc/self/status") is { } self ? (self.PinnedKib, self.Capabilities) : (0, 0);
}
