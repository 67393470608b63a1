using System.Runtime.InteropServices;

namespace Samepage.Linux.Interop;

/// <summary>linux/userfaultfd.h.</summary>
internal static unsafe partial class LibC
{
    public const int RWF_NOWAIT = 8;

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint preadv2(int fd, iovec* iov, int iovcnt, long offset, int flags);

    public const ulong UFFD_API = 0xAA;
    public const ulong USERFAULTFD_IOC_NEW = 0xAA00;
    public const ulong UFFDIO_API = 0xC018AA3F, UFFDIO_REGISTER = 0xC020AA00, UFFDIO_UNREGISTER = 0x8010AA01, UFFDIO_WAKE = 0x8010AA02,
        UFFDIO_COPY = 0xC028AA03, UFFDIO_ZEROPAGE = 0xC020AA04, UFFDIO_MOVE = 0xC028AA05, UFFDIO_WRITEPROTECT = 0xC018AA06, UFFDIO_CONTINUE = 0xC020AA07;

    public const ulong UFFDIO_REGISTER_MODE_MISSING = 1, UFFDIO_REGISTER_MODE_WP = 2, UFFDIO_REGISTER_MODE_MINOR = 4;

    public const ulong UFFD_FEATURE_PAGEFAULT_FLAG_WP = 1 << 0, UFFD_FEATURE_EVENT_FORK = 1 << 1, UFFD_FEATURE_EVENT_REMAP = 1 << 2,
        UFFD_FEATURE_MINOR_SHMEM = 1 << 10, UFFD_FEATURE_WP_HUGETLBFS_SHMEM = 1 << 12, UFFD_FEATURE_WP_UNPOPULATED = 1 << 13,
        UFFD_FEATURE_WP_ASYNC = 1 << 15, UFFD_FEATURE_MOVE = 1 << 16;

    public const byte UFFD_EVENT_PAGEFAULT = 0x12, UFFD_EVENT_FORK = 0x13, UFFD_EVENT_REMAP = 0x14;
    public const ulong UFFD_PAGEFAULT_FLAG_WP = 2, UFFD_PAGEFAULT_FLAG_MINOR = 4;

    /// <summary><c>struct uffdio_api</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct uffdio_api
    {
        public ulong api;
        public ulong features;
        public ulong ioctls;
    }

    /// <summary><c>struct uffdio_range</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct uffdio_range
    {
        public ulong start;
        public ulong len;
    }

    /// <summary><c>struct uffdio_register</c>, with its <c>uffdio_range</c> laid out flat.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct uffdio_register
    {
        public ulong start;
        public ulong len;
        public ulong mode;
        public ulong ioctls;
    }

    /// <summary><c>struct uffdio_writeprotect</c>, with its <c>uffdio_range</c> laid out flat.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct uffdio_writeprotect
    {
        public ulong start;
        public ulong len;
        public ulong mode;
    }

    /// <summary><c>struct uffdio_zeropage</c>, with its <c>uffdio_range</c> laid out flat.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct uffdio_zeropage
    {
        public ulong start;
        public ulong len;
        public ulong mode;
        public long zeropage;
    }

    /// <summary><c>struct uffd_msg</c>, the fields of a page fault and of a fork.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 32)]
    public struct uffd_msg
    {
        [FieldOffset(0)] public byte @event;
        [FieldOffset(8)] public ulong flags;
        [FieldOffset(8)] public uint ufd;
        [FieldOffset(16)] public ulong address;
    }
}
