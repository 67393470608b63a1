using System.Runtime.InteropServices;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Userfault;

/// <summary>A userfaultfd of another process, taken over by descriptor: what can be done with it from outside, userfaultfd(2).</summary>
public static class Userfaultfd
{
    /// <summary>What T, the descriptor on areas that are not merged, must be able to do.</summary>
    public const ulong TrackingFeatures = LibC.UFFD_FEATURE_PAGEFAULT_FLAG_WP | LibC.UFFD_FEATURE_WP_UNPOPULATED |
        LibC.UFFD_FEATURE_WP_ASYNC | LibC.UFFD_FEATURE_MOVE;

    /// <summary>What M, the descriptor on mappings of frames, must be able to do.</summary>
    public const ulong MergedFeatures = LibC.UFFD_FEATURE_PAGEFAULT_FLAG_WP | LibC.UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
        LibC.UFFD_FEATURE_MINOR_SHMEM | LibC.UFFD_FEATURE_EVENT_FORK | LibC.UFFD_FEATURE_EVENT_REMAP;

    private const int EventsAtATime = 64;

    /// <summary>Opens the device that makes userfaultfds for whoever holds it, whatever <c>vm.unprivileged_userfaultfd</c> says.</summary>
    /// <exception cref="SyscallException">The system refused.</exception>
    public static FileDescriptor OpenDevice() => FileDescriptor.Open("/dev/userfaultfd", writable: true);

    /// <summary>Takes a userfaultfd out of the descriptor table of a thread in a program that may be hostile: what is not one is refused.</summary>
    /// <param name="thread">The thread, by descriptor.</param>
    /// <param name="number">The descriptor there.</param>
    /// <exception cref="SyscallException">The system refused, or the descriptor is something else (EBADF).</exception>
    public static FileDescriptor Take(FileDescriptor thread, int number)
    {
        FileDescriptor uffd = PidFd.Take(thread, number);
        if (ProcLinks.TargetOf($"/proc/self/fd/{uffd.Number}") == "anon_inode:[userfaultfd]" && LibC.fcntl(uffd.Number, LibC.F_SETFL, LibC.O_NONBLOCK) == 0)
            return uffd;
        uffd.Dispose();
        throw new SyscallException("pidfd_getfd", $"descriptor {number}, which should be a userfaultfd", Errno.EBADF);
    }

    /// <summary>Shakes hands; done by the daemon because EVENT_FORK wants CAP_SYS_PTRACE of whoever asks.</summary>
    /// <exception cref="SyscallException">The kernel lacks a feature (EINVAL) or the privilege is missing (EPERM).</exception>
    public static unsafe void Enable(FileDescriptor uffd, ulong features)
    {
        LibC.uffdio_api api = new() { api = LibC.UFFD_API, features = features };
        if (LibC.ioctl(uffd.Number, LibC.UFFDIO_API, &api) != 0)
            throw new SyscallException("ioctl", $"UFFDIO_API, features 0x{features:x}", (Errno)Marshal.GetLastPInvokeError());
    }

    /// <summary>Registers a range for asynchronous write tracking; a no-op where it is already.</summary>
    public static unsafe Errno TrackWrites(FileDescriptor uffd, ulong start, ulong length)
    {
        LibC.uffdio_register register = new() { start = start, len = length, mode = LibC.UFFDIO_REGISTER_MODE_WP };
        return LibC.ioctl(uffd.Number, LibC.UFFDIO_REGISTER, &register) == 0 ? Errno.None : (Errno)Marshal.GetLastPInvokeError();
    }

    /// <summary>Ends the tracking of a range; ordinary where it was not tracked.</summary>
    public static unsafe void StopTracking(FileDescriptor uffd, ulong start, ulong length)
    {
        LibC.uffdio_range range = new() { start = start, len = length };
        _ = LibC.ioctl(uffd.Number, LibC.UFFDIO_UNREGISTER, &range);
    }

    /// <summary>Protects a range against writing, or ends that and wakes who waits.</summary>
    /// <returns>EAGAIN while a fork or remap waits for its event to be read over this descriptor, and nobody may have read it yet: to try again without reading could be for ever.
    /// ENOENT where nothing is registered; ESRCH when the address space is gone.</returns>
    public static unsafe Errno TryProtect(FileDescriptor uffd, ulong start, ulong length, bool protect)
    {
        LibC.uffdio_writeprotect range = new() { start = start, len = length, mode = protect ? 1UL : 0UL };
        return LibC.ioctl(uffd.Number, LibC.UFFDIO_WRITEPROTECT, &range) == 0 ? Errno.None : (Errno)Marshal.GetLastPInvokeError();
    }

    /// <summary>Reads the events of an M, and answers them as a warden would: a missing page was discarded, and reads as zeros.</summary>
    /// <param name="uffd">The M.</param>
    /// <param name="isUnfilled">Where the process has an agent: says of an address that its executor is about to fill it. Null where it has none: then nobody is
    /// about anything, and a protection that came along with a fork is ended.</param>
    /// <param name="born">Takes the descriptor of each child that was forked meanwhile.</param>
    /// <returns>What was left. A program can make events as fast as they are read, so no call reads more than some.</returns>
    /// <remarks>The descriptor of a child is made by reading, and what is next cannot be known before it is read. So where none is left for programs nothing is read while a fork or an mremap may wait: no
    /// fault can be answered then either. One that begins between that look and the read is taken all the same.</remarks>
    public static unsafe Unread AnswerDiscards(FileDescriptor uffd, Predicate<ulong>? isUnfilled, Action<FileDescriptor> born)
    {
        LibC.uffd_msg message;
        LibC.iovec place = new() { iov_base = (nuint)(&message), iov_len = (nuint)sizeof(LibC.uffd_msg) };
        bool isRoom = OpenFiles.LeftForPrograms() > 0;
        for (int left = EventsAtATime; left > 0; left--)
        {
            if (!isRoom && MayChange(uffd))
                return Unread.NoRoom;
            if (Read(uffd, &place) != sizeof(LibC.uffd_msg))
                return Unread.Nothing;
            if (message.@event == LibC.UFFD_EVENT_FORK)
            {
                born(new FileDescriptor((int)message.ufd));
                isRoom = OpenFiles.LeftForPrograms() > 0;
            }

            if (message.@event != LibC.UFFD_EVENT_PAGEFAULT)
                continue;
            ulong page = message.address & ~0xFFFUL;
            if ((message.flags & LibC.UFFD_PAGEFAULT_FLAG_WP) != 0)
            {
                if (isUnfilled is null && TryProtect(uffd, page, 4096, false) == Errno.EAGAIN)
                    Wake(uffd, page);
                continue;
            }

            if ((message.flags & LibC.UFFD_PAGEFAULT_FLAG_MINOR) == 0 && isUnfilled?.Invoke(message.address) == true)
                continue;
            LibC.uffdio_zeropage zero = new() { start = page, len = 4096 };
            if (LibC.ioctl(uffd.Number, LibC.UFFDIO_ZEROPAGE, &zero) != 0)
                Wake(uffd, page);
        }

        return Unread.More;
    }

    /// <summary>Reads without waiting, whatever the descriptor's flags are by now: the program has it too, and can change them. One that came with a fork knows no such read (EOPNOTSUPP): it is
    /// told anew not to wait, and whoever reads it is a thread that can be left behind.</summary>
    private static unsafe nint Read(FileDescriptor uffd, LibC.iovec* place)
    {
        nint read = LibC.preadv2(uffd.Number, place, 1, -1, LibC.RWF_NOWAIT);
        if (read >= 0 || (Errno)Marshal.GetLastPInvokeError() != Errno.EOPNOTSUPP)
            return read;
        _ = LibC.fcntl(uffd.Number, LibC.F_SETFL, LibC.O_NONBLOCK);
        return LibC.read(uffd.Number, (void*)place->iov_base, place->iov_len);
    }

    /// <summary>Has who waits for a page try again, and fault again if it must: behind the events that are in its way now.</summary>
    private static unsafe void Wake(FileDescriptor uffd, ulong page)
    {
        LibC.uffdio_range range = new() { start = page, len = 4096 };
        _ = LibC.ioctl(uffd.Number, LibC.UFFDIO_WAKE, &range);
    }

    /// <summary>True once the address space that the descriptor watches is gone: it was exec'd over, or its last process ended.</summary>
    /// <remarks>Asks for a zero page where nothing is registered: ENOENT from a living address space, ESRCH from a dead one. Not at the lowest addresses: many kernels refuse those below <c>vm.mmap_min_addr</c> (EINVAL) before they
    /// look whether there is an address space at all.</remarks>
    public static bool IsDead(FileDescriptor uffd) => Probe(uffd) is Errno.ESRCH or Errno.EBADF;

    /// <summary>The last page of user space but one, of 47 bits: above every stack, where the kernel maps nothing.</summary>
    public const ulong NothingThere = 0x7fff_ffff_e000;

    /// <summary>True while a fork or an mremap waits for its event to be read, or is about to.</summary>
    private static bool MayChange(FileDescriptor uffd) => Probe(uffd) == Errno.EAGAIN;

    private static unsafe Errno Probe(FileDescriptor uffd)
    {
        LibC.uffdio_zeropage zero = new() { start = NothingThere, len = 0x1000 };
        return LibC.ioctl(uffd.Number, LibC.UFFDIO_ZEROPAGE, &zero) != 0 ? (Errno)Marshal.GetLastPInvokeError() : Errno.None;
    }
}
