using System.Runtime.InteropServices;

namespace Samepage.Linux.Interop;

/// <content>sys/mount.h, sched.h and unistd.h: mounts, namespaces and programs.</content>
internal static unsafe partial class LibC
{
    public const ulong MS_NOSUID = 2, MS_NODEV = 4, MS_NOEXEC = 8, MS_NOATIME = 1024, MS_BIND = 4096, MS_REC = 16384, MS_SLAVE = 1 << 19;
    public const int AT_FDCWD = -100, MNT_DETACH = 2, UMOUNT_NOFOLLOW = 8;
    public const int CLONE_NEWNS = 0x20000;

    public const uint OPEN_TREE_CLONE = 1, OPEN_TREE_CLOEXEC = 0x80000, AT_EMPTY_PATH = 0x1000;
    public const ulong MOUNT_ATTR_RDONLY = 1, MOUNT_ATTR_NOSUID = 2, MOUNT_ATTR_NODEV = 4;
    public const long TMPFS_MAGIC = 0x01021994, PIPEFS_MAGIC = 0x50495045;
    public const long ST_RDONLY = 1;

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint syscall(nint number, nint fd, string path, nint flags, void* structure, nint size);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint syscall(nint number, nint from, string fromPath, nint to, string toPath, nint flags);

    [LibraryImport("libc", SetLastError = true)]
    public static partial int fstatfs(int fd, statfs* buf);

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

    /// <summary><c>struct mount_attr</c>, linux/mount.h.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct mount_attr
    {
        public ulong attr_set;
        public ulong attr_clr;
        public ulong propagation;
        public ulong userns_fd;
    }

    /// <summary><c>struct statfs</c>, sys/vfs.h; the last four words are spare.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct statfs
    {
        public long f_type;
        public long f_bsize;
        public ulong f_blocks;
        public ulong f_bfree;
        public ulong f_bavail;
        public ulong f_files;
        public ulong f_ffree;
        public ulong f_fsid;
        public long f_namelen;
        public long f_frsize;
        public long f_flags;
        public fixed long f_spare[4];
    }
}
