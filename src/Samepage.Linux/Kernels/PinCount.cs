using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Kernels;

/// <summary>Whether the kernel counts the buffers that io_uring registers as pinned memory of their process (VmPin), whoever it is.</summary>
public static class PinCount
{
    /// <summary>CAP_IPC_LOCK of linux/capability.h: some kernels count only for those who have it not.</summary>
    private const ulong CapIpcLock = 1UL << 14;

    /// <summary>Tried on ourselves: a ring of one entry and a buffer of one page, which end with the call.</summary>
    /// <returns>Null where that shows nothing: no ring can be made (<c>kernel.io_uring_disabled</c>, a seccomp filter), or it was counted, and we lack the capability by which others may not be counted.</returns>
    public static bool? IsKept
    {
        get
        {
            (long before, _) = Look();
            using OwnPages pages = new();
            using FileDescriptor? ring = pages.TryPin([0]);
            (long after, ulong capabilities) = Look();
            return ring is null ? null : after <= before ? false : (capabilities & CapIpcLock) != 0 ? true : null;
        }
    }

    private static (long Kib, ulong Capabilities) Look() => ProcessStatus.TryRead("/proc/self/status") is { } self ? (self.PinnedKib, self.Capabilities) : (0, 0);
}
