using System.Runtime.InteropServices;
using Samepage.Linux.Interop;

namespace Samepage.Linux.Kernels;

/// <summary>The kernel's lists of pages that go to the LRU lists soon, some for each CPU. A page has a reference for being in one, until the list is full, or is emptied.</summary>
/// <remarks>Nothing is asked of the kernel but that, and no call does it alone. Both ways here were tried with <see cref="PageReferences"/>. Several threads may call it.</remarks>
internal static unsafe class LruBatches
{
    /// <summary>By a file of our own in memory that is sealed against writing: for that nobody else may refer to its pages, and those just written are in such a list, so the kernel empties the lists of the CPUs that have any.</summary>
    /// <remarks>It costs some 50 µs. Where shared memory is given huge pages (<c>shmem_enabled</c>: always), these are in no list, and nothing is emptied.</remarks>
    /// <returns>What the system refused: EINVAL before Linux 6.3.</returns>
    public static Errno Drain()
    {
        const int Page = 4096;
        int made = LibC.memfd_create("samepage-batches", LibC.MFD_CLOEXEC | LibC.MFD_NOEXEC_SEAL);
        if (made < 0)
            return (Errno)Marshal.GetLastPInvokeError();
        using FileDescriptor file = new(made);
        byte* zeros = stackalloc byte[Page];
        // Two: where the first makes its list full, and so empty, the second is in it.
        bool done = LibC.pwrite(made, zeros, Page, 0) == Page && LibC.pwrite(made, zeros, Page, Page) == Page && LibC.fcntl(made, LibC.F_ADD_SEALS, LibC.F_SEAL_WRITE) == 0;
        return done ? Errno.None : (Errno)Marshal.GetLastPInvokeError();
    }

    /// <summary>By a call that moves no page: the kernel empties the lists of all CPUs before it looks which.</summary>
    /// <remarks>It wakes every CPU, and costs some 0.2 ms, or many times that on a busy machine.</remarks>
    /// <returns>What the system refused: ENOSYS without CONFIG_NUMA or CONFIG_MIGRATION.</returns>
    public static Errno DrainAll()
    {
        ulong nothing = 0;
        nint none = (nint)(&nothing);
        return LibC.syscall(SyscallNumbers.move_pages, 0, 0, none, none, none, 0) >= 0 ? Errno.None : (Errno)Marshal.GetLastPInvokeError();
    }
}
