using System.Runtime.InteropServices;
using static Samepage.Linux.Interop.FileCalls;

namespace Samepage.Linux;

/// <summary>What an inode is.</summary>
public enum FileKind
{
    /// <summary>Something else than the others.</summary>
    Other,

    /// <summary>A regular file.</summary>
    File,

    /// <summary>A directory.</summary>
    Directory,

    /// <summary>A symbolic link.</summary>
    Link,

    /// <summary>A FIFO.</summary>
    Fifo,

    /// <summary>A character or block device.</summary>
    Device,

    /// <summary>A socket.</summary>
    Socket,
}

/// <summary>What stat(2) says of a path, without opening it: opening a FIFO waits, and opening a device may do anything.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Owner">The user that it belongs to.</param>
/// <param name="Mode">The permission bits, with set-id and sticky ones.</param>
/// <param name="Bytes">Its size.</param>
public readonly record struct FileFacts(FileKind Kind, uint Owner, uint Mode, long Bytes)
{
    private const int AT_FDCWD = -100, AT_SYMLINK_NOFOLLOW = 0x100;
    private const uint STATX_BASIC_STATS = 0x7ff;

    /// <summary>Others than the owner may change it.</summary>
    public bool IsOpenToOthers => (Mode & 0b000_010_010) != 0;

    /// <summary>Of a directory: who may write in it may still not take away what is another's.</summary>
    public bool IsSticky => (Mode & 0b1_000_000_000) != 0;

    /// <summary>The user that we are.</summary>
    public static uint OurUser => geteuid();

    /// <summary>What it is, in words.</summary>
    public string Words => Kind switch
    {
        FileKind.File => "a file",
        FileKind.Directory => "a directory",
        FileKind.Link => "a symbolic link",
        FileKind.Fifo => "a FIFO",
        FileKind.Device => "a device",
        FileKind.Socket => "a socket",
        _ => "of a kind that is not known",
    };

    /// <summary>Looks at a path.</summary>
    /// <param name="path">The path.</param>
    /// <param name="follow">Of a link, what it leads to.</param>
    /// <param name="facts">What it is.</param>
    /// <returns>Why it cannot be looked at; none where it can.</returns>
    public static unsafe Errno TryRead(string path, bool follow, out FileFacts facts)
    {
        statx_buffer buffer = default;
        bool found = statx(AT_FDCWD, path, follow ? 0 : AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &buffer) == 0;
        facts = new FileFacts(KindOf(buffer.stx_mode), buffer.stx_uid, buffer.stx_mode & 0xfffu, (long)buffer.stx_size);
        return found ? Errno.None : (Errno)Marshal.GetLastPInvokeError();
    }

    // S_IFMT, sys/stat.h.
    private static FileKind KindOf(ushort mode) => (mode & 0xf000) switch
    {
        0x8000 => FileKind.File,
        0x4000 => FileKind.Directory,
        0xa000 => FileKind.Link,
        0x1000 => FileKind.Fifo,
        0x2000 or 0x6000 => FileKind.Device,
        0xc000 => FileKind.Socket,
        _ => FileKind.Other,
    };
}
