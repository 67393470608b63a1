using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Samepage.Linux.Interop;

/// <summary>Calls on files and processes that doctor, demo and the command line make, on safe handles: declarations only.</summary>
internal static unsafe partial class FileCalls
{
    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int statx(int dirfd, string pathname, int flags, uint mask, statx_buffer* buffer);

    // struct statx of linux/stat.h; only the fields that are read.
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    public struct statx_buffer
    {
        [FieldOffset(16)]
        public uint stx_nlink;

        [FieldOffset(20)]
        public uint stx_uid;

        [FieldOffset(24)]
        public uint stx_gid;

        [FieldOffset(28)]
        public ushort stx_mode;

        [FieldOffset(32)]
        public ulong stx_ino;

        [FieldOffset(40)]
        public ulong stx_size;

        [FieldOffset(48)]
        public ulong stx_blocks;

        [FieldOffset(136)]
        public uint stx_dev_major;

        [FieldOffset(140)]
        public uint stx_dev_minor;
    }

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial SafeFileHandle open(string path, int flags);

    [LibraryImport("libc")]
    public static partial uint umask(uint mask);

    [LibraryImport("libc")]
    public static partial uint geteuid();

    [LibraryImport("libc", SetLastError = true)]
    public static partial int ioctl(SafeFileHandle fd, nuint request, void* argument);

    [LibraryImport("libc", SetLastError = true)]
    public static partial long syscall(long number, long first, long second, long third, long fourth, long fifth);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int kill(int pid, int signal);
}
