using System.Runtime.InteropServices;

namespace Samepage.Linux.Interop;

/// <content>sys/mount.h, sched.h and unistd.h: mounts, namespaces and programs.</content>
internal static unsafe partial class LibC
{
    public const ulong MS_NOSUID = 2, MS_NODEV = 4, MS_NOEXEC = 8, MS_NOATIME = 1024, MS_BIND = 4096, MS_REC = 16384, MS_SLAVE = 1 << 19;
    public const int MNT_DETACH = 2, UMOUNT_NOFOLLOW = 8;
    public const int CLONE_NEWNS = 0x20000;

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int mount(string source, string target, string? filesystemtype, ulong mountflags, string? data);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int umount2(string target, int flags);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int unshare(int flags);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int execvp(string file, nint* argv);

    [LibraryImport("libc", SetLastError = true)]
    public static partial nint signal(int signum, nint handler);
}
