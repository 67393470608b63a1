using Samepage.Linux.Interop;
using static Samepage.Linux.Interop.FileCalls;

namespace Samepage.Linux;

/// <summary>The memory or disk space behind a file, by the kernel's count of its blocks (holes and punched-out frames do not count), and what else stat(2) says.</summary>
public static unsafe class FileBlocks
{
    private const uint STATX_INO_BLOCKS = 0x100 | 0x400, STATX_SIZE = 0x200, STATX_UID = 0x8, STATX_GID = 0x10;
    private const int BlockBytes = 512; // The unit of stx_blocks, whatever the file system's own block is.

    /// <param name="path">The file; links are followed, those of <c>/proc/PID/fd</c> too.</param>
    /// <param name="file">Tells it from every other file.</param>
    /// <param name="bytes">Memory or disk space that it takes.</param>
    /// <returns>False when there is no such file any more, or it may not be looked at.</returns>
    public static bool TryRead(string path, out FileIdentity file, out long bytes)
    {
        statx_buffer buffer = default;
        bool found = statx(LibC.AT_FDCWD, path, 0, STATX_INO_BLOCKS, &buffer) == 0;
        file = new FileIdentity(buffer.stx_dev_major, buffer.stx_dev_minor, buffer.stx_ino);
        bytes = (long)buffer.stx_blocks * BlockBytes;
        return found;
    }

    /// <summary>The user and group that a file belongs to.</summary>
    /// <returns>False when there is no such file any more, or it may not be looked at.</returns>
    public static bool TryReadOwner(string path, out uint user, out uint group)
    {
        statx_buffer buffer = default;
        bool found = statx(LibC.AT_FDCWD, path, 0, STATX_UID | STATX_GID, &buffer) == 0;
        (user, group) = (buffer.stx_uid, buffer.stx_gid);
        return found;
    }

    /// <summary>The size of a file or folder, as stat(2) has it.</summary>
    /// <returns>False when there is no such file any more, or it may not be looked at.</returns>
    internal static bool TryReadSize(string path, out long size)
    {
        statx_buffer buffer = default;
        bool found = statx(LibC.AT_FDCWD, path, 0, STATX_SIZE, &buffer) == 0;
        size = (long)buffer.stx_size;
        return found;
    }
}

/// <summary>One file among all that are mounted: inode numbers alone repeat from mount to mount.</summary>
/// <param name="Major">The device's major number.</param>
/// <param name="Minor">The device's minor number.</param>
/// <param name="Inode">Its inode on that device.</param>
public readonly record struct FileIdentity(uint Major, uint Minor, ulong Inode);
