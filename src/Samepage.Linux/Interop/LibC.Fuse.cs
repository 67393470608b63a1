using System.Runtime.InteropServices;

namespace Samepage.Linux.Interop;

/// <content>linux/fuse.h: what is said over /dev/fuse. Only the fields that are read or written.</content>
internal static unsafe partial class LibC
{
    public const uint FUSE_KERNEL_VERSION = 7;
    public const uint FUSE_LOOKUP = 1, FUSE_FORGET = 2, FUSE_GETATTR = 3, FUSE_SETATTR = 4, FUSE_SYMLINK = 6, FUSE_MKNOD = 8, FUSE_MKDIR = 9, FUSE_UNLINK = 10, FUSE_RMDIR = 11,
        FUSE_RENAME = 12, FUSE_LINK = 13, FUSE_OPEN = 14, FUSE_READ = 15, FUSE_WRITE = 16, FUSE_STATFS = 17, FUSE_RELEASE = 18, FUSE_FSYNC = 20, FUSE_FLUSH = 25, FUSE_INIT = 26,
        FUSE_OPENDIR = 27, FUSE_READDIR = 28, FUSE_RELEASEDIR = 29, FUSE_FSYNCDIR = 30, FUSE_CREATE = 35, FUSE_INTERRUPT = 36, FUSE_DESTROY = 38, FUSE_IOCTL = 39,
        FUSE_BATCH_FORGET = 42, FUSE_RENAME2 = 45, FUSE_TMPFILE = 51;

    public const uint FATTR_MODE = 1, FATTR_UID = 2, FATTR_GID = 4;
    public const uint FOPEN_DIRECT_IO = 1, FOPEN_PARALLEL_DIRECT_WRITES = 64;
    public const int FUSE_MIN_READ_BUFFER = 8192;
    public const int O_ACCMODE = 3;
    public const uint S_IFDIR = 0x4000, S_IFREG = 0x8000;

    [StructLayout(LayoutKind.Explicit, Size = 40)]
    public struct fuse_in_header
    {
        [FieldOffset(0)]
        public uint len;

        [FieldOffset(4)]
        public uint opcode;

        [FieldOffset(8)]
        public ulong unique;

        [FieldOffset(16)]
        public ulong nodeid;

        [FieldOffset(32)]
        public uint pid;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct fuse_out_header
    {
        public uint len;
        public int error;
        public ulong unique;
    }

    [StructLayout(LayoutKind.Explicit, Size = 64)]
    public struct fuse_init_in
    {
        [FieldOffset(0)]
        public uint major;

        [FieldOffset(4)]
        public uint minor;
    }

    [StructLayout(LayoutKind.Explicit, Size = 64)]
    public struct fuse_init_out
    {
        [FieldOffset(0)]
        public uint major;

        [FieldOffset(4)]
        public uint minor;

        [FieldOffset(16)]
        public ushort max_background;

        [FieldOffset(18)]
        public ushort congestion_threshold;

        [FieldOffset(20)]
        public uint max_write;

        [FieldOffset(24)]
        public uint time_gran;
    }

    [StructLayout(LayoutKind.Explicit, Size = 88)]
    public struct fuse_attr
    {
        [FieldOffset(0)]
        public ulong ino;

        [FieldOffset(8)]
        public ulong size;

        [FieldOffset(24)]
        public ulong atime;

        [FieldOffset(32)]
        public ulong mtime;

        [FieldOffset(40)]
        public ulong ctime;

        [FieldOffset(60)]
        public uint mode;

        [FieldOffset(64)]
        public uint nlink;

        [FieldOffset(80)]
        public uint blksize;
    }

    [StructLayout(LayoutKind.Explicit, Size = 128)]
    public struct fuse_entry_out
    {
        [FieldOffset(0)]
        public ulong nodeid;

        [FieldOffset(40)]
        public fuse_attr attr;
    }

    [StructLayout(LayoutKind.Explicit, Size = 104)]
    public struct fuse_attr_out
    {
        [FieldOffset(16)]
        public fuse_attr attr;
    }

    [StructLayout(LayoutKind.Explicit, Size = 88)]
    public struct fuse_setattr_in
    {
        [FieldOffset(0)]
        public uint valid;
    }

    [StructLayout(LayoutKind.Explicit, Size = 8)]
    public struct fuse_open_in
    {
        [FieldOffset(0)]
        public uint flags;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct fuse_open_out
    {
        public ulong fh;
        public uint open_flags;
        public uint padding;
    }

    [StructLayout(LayoutKind.Explicit, Size = 24)]
    public struct fuse_release_in
    {
        [FieldOffset(0)]
        public ulong fh;
    }

    [StructLayout(LayoutKind.Explicit, Size = 40)]
    public struct fuse_read_in
    {
        [FieldOffset(0)]
        public ulong fh;

        [FieldOffset(8)]
        public ulong offset;

        [FieldOffset(16)]
        public uint size;
    }

    [StructLayout(LayoutKind.Explicit, Size = 40)]
    public struct fuse_write_in
    {
        [FieldOffset(16)]
        public uint size;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct fuse_write_out
    {
        public uint size;
        public uint padding;
    }

    [StructLayout(LayoutKind.Explicit, Size = 80)]
    public struct fuse_kstatfs
    {
        [FieldOffset(40)]
        public uint bsize;

        [FieldOffset(44)]
        public uint namelen;
    }

    /// <summary>The name follows, and zeros to a multiple of eight bytes.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct fuse_dirent
    {
        public ulong ino;
        public ulong off;
        public uint namelen;
        public uint type;
    }
}
