using System.Buffers;
using System.Runtime.InteropServices;
using Samepage.Linux.Interop;
using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Frames;

/// <summary>The frames of one trust domain: one shmem file, a frame being one page of it.</summary>
/// <remarks>
/// <para>Only the daemon can write the file; targets get a descriptor opened read-only of an inode of mode 0400. A frame is written before
/// anybody maps it and never again until it was punched out, so a mapping of it can only ever show what was compared.</para>
/// <para>The pool must never lose a page-table entry to reclaim: a missing entry in a mapping of frames means "the program discarded this page"
/// (it then reads as zeros), and nothing else may cause one. So the file lies on a tmpfs mount of its own with <c>noswap</c>, which makes its
/// pages unevictable, and <c>huge=never</c>. The mount is attached nowhere and goes with its last file. The file has no name (any more): gdb takes
/// mappings of files that have one for what can be read from disk, and leaves them out of the core dumps that it makes.</para>
/// <para>A program that asks for huge pages takes entries from everybody as well: <see cref="FrameGuards"/> stand in the way.</para>
/// <para>The daemon keeps no mapping of the file: frames are written with pwrite(2), so that the number of mappings of a frame, and with it
/// every process's Pss, counts the targets alone.</para>
/// <para>One thread at a time.</para>
/// </remarks>
public sealed unsafe class FramePool : IDisposable
{
    private const int FsConfigSetFlag = 0, FsConfigSetString = 1, FsConfigCreate = 6;
    private const long MaxBytes = 1L << 42;
    private readonly FileDescriptor? _writable;
    private readonly FrameGuards? _guards;
    private const int PageSize = 4096;
    private readonly FileDescriptor _kpagecount;

    private FramePool(FileDescriptor? writable, FileDescriptor readable, FileDescriptor? guard)
    {
        (_writable, Readable) = (writable, readable);
        _guards = guard is null ? new FrameGuards(readable) : null;
        Guard = guard ?? _guards!.Held;
        _kpagecount = FileDescriptor.Open("/proc/kpagecount");
        (Device, Inode) = Identify(readable);
    }

    /// <summary>The read-only descriptor that targets get.</summary>
    public FileDescriptor Readable { get; }

    /// <summary>What each agent must have open besides, so that frames stay in their places behind our death.</summary>
    public FileDescriptor Guard { get; }

    /// <summary>The file's device, as <see cref="Mapping.Device"/>; with <see cref="Inode"/> it tells our mappings from all others.</summary>
    public ulong Device { get; }

    /// <summary>The file's inode.</summary>
    public ulong Inode { get; }

    /// <summary>Whether a mapping shows frames of this pool.</summary>
    public bool Has(in Mapping mapping) => mapping.Inode == Inode && mapping.Device == Device;

    /// <summary>Makes an empty pool.</summary>
    /// <exception cref="SyscallException">The kernel has no tmpfs <c>noswap</c> (6.4), or the privilege is missing (CAP_SYS_ADMIN).</exception>
    public static FramePool Create()
    {
        using FileDescriptor context = Own("fsopen", "tmpfs", (int)LibC.syscall(SyscallNumbers.fsopen, "tmpfs", 1, 0, 0, 0));
        Configure(context, FsConfigSetFlag, "noswap", null);
        Configure(context, FsConfigSetString, "huge", "never");
        Configure(context, FsConfigSetString, "size", "0");
        Configure(context, FsConfigSetString, "source", "samepage");
        Configure(context, FsConfigCreate, null, null);
        using FileDescriptor mount = Own("fsmount", "tmpfs", (int)LibC.syscall(SyscallNumbers.fsmount, context.Number, 1, 0, 0, 0));
        FileDescriptor writable = Own("openat", "samepage-frames",
            LibC.openat(mount.Number, "samepage-frames", LibC.O_RDWR | LibC.O_CREAT | LibC.O_EXCL | LibC.O_CLOEXEC, 0x100));
        if (LibC.ftruncate(writable.Number, MaxBytes) != 0)
            throw Failed("ftruncate", "the frame pool");
        if (LibC.unlinkat(mount.Number, "samepage-frames", 0) != 0)
            throw Failed("unlinkat", "samepage-frames");
        FileDescriptor readable = FileDescriptor.Open($"/proc/self/fd/{writable.Number}");
        return new FramePool(writable, readable, null);
    }

    /// <summary>The pool of a daemon that has died, by descriptors that one of its targets has: nothing can be written or freed.</summary>
    /// <param name="readable">Its file.</param>
    /// <param name="guard">Its <see cref="Guard"/>.</param>
    /// <exception cref="SyscallException">It is no file that can be mapped.</exception>
    public static FramePool Adopt(FileDescriptor readable, FileDescriptor guard)
    {
        // Mapping a file of another kind could wait for whoever serves it, and with it everything in this process that maps.
        LibC.statfs_buffer system;
        return LibC.fstatfs(readable.Number, &system) == 0 && system.f_type == LibC.TMPFS_MAGIC
            ? new FramePool(null, readable, guard)
            : throw new SyscallException("fstatfs", "what should be the frame pool, and is no file of a tmpfs", Errno.EBADF);
    }

    /// <summary>Why the last frames could not be written, for people; empty when they could.</summary>
    public string Refusal { get; private set; } = "";

    /// <summary>Writes neighbouring frames.</summary>
    /// <returns>False when there is no memory, or no guard for them: they hold nothing then, and nobody may map them. <see cref="Refusal"/> says why.</returns>
    public bool TryWrite(uint firstFrame, ReadOnlySpan<byte> content)
    {
        if (_writable is null)
        {
            Refusal = "the frame pool is that of a daemon that died: nothing new is merged in it";
            return false;
        }

        fixed (byte* bytes = content)
        {
            if (LibC.pwrite(_writable.Number, bytes, (nuint)content.Length, (long)firstFrame * PageSize) != content.Length)
                Refusal = $"there is no memory for more frames (pwrite: {(Errno)Marshal.GetLastPInvokeError()})";
            else if (!_guards!.TryGuard(firstFrame, content.Length / PageSize))
                Refusal = _guards.Refusal;
            else
                Refusal = "";
        }

        if (Refusal.Length > 0)
            Punch(firstFrame, content.Length / PageSize);
        return Refusal.Length == 0;
    }

    /// <summary>Reads a frame.</summary>
    /// <returns>False when it cannot be read.</returns>
    public bool TryRead(uint frame, Span<byte> content)
    {
        fixed (byte* bytes = content)
            return LibC.pread(Readable.Number, bytes, (nuint)content.Length, (long)frame * PageSize) == content.Length;
    }

    /// <summary>Gives the memory of neighbouring frames back. They read as zeros from now on.</summary>
    public void Punch(uint firstFrame, int count)
    {
        _guards?.Release(firstFrame, count);
        if (_writable is not null && LibC.fallocate(_writable.Number, LibC.FALLOC_FL_PUNCH_HOLE | LibC.FALLOC_FL_KEEP_SIZE, (long)firstFrame * PageSize, (long)count * PageSize) != 0)
            throw Failed("fallocate", $"frames {firstFrame}+{count}");
    }

    /// <summary>Says of neighbouring frames whether no process at all maps them: not a target, not a child that one forked unseen.</summary>
    /// <remarks>Maps them for a moment, finds their page frame numbers, and asks <c>/proc/kpagecount</c> how many mappings there are besides.
    /// A page under migration reads as unmapped for an instant, so callers ask in several passes before they believe it.</remarks>
    /// <param name="first">The first. One that holds nothing is given memory by being asked about, until it is freed.</param>
    /// <param name="unmapped">Receives one for each; false also where it cannot be told.</param>
    public void FindUnmapped(uint first, Span<bool> unmapped)
    {
        unmapped.Clear();
        nuint length = (nuint)unmapped.Length * PageSize;
        byte* mapped = (byte*)LibC.mmap(null, length, LibC.PROT_READ, LibC.MAP_SHARED, Readable.Number, (long)first * PageSize);
        if ((nint)mapped == -1)
            return;
        try
        {
            ulong[] words = ArrayPool<ulong>.Shared.Rent(unmapped.Length * 2);
            Span<ulong> entries = words.AsSpan(0, unmapped.Length), counts = words.AsSpan(unmapped.Length, unmapped.Length);
            for (int i = 0; i < unmapped.Length; i++)
                _ = Volatile.Read(ref mapped[i * PageSize]);
            using (FileDescriptor pagemap = FileDescriptor.Open("/proc/self/pagemap"))
            {
                if (!TryReadWords(pagemap, (ulong)mapped / PageSize, entries))
                    entries.Clear();
            }

            for (int i = 0, count; i < unmapped.Length; i += count)
            {
                ulong number = entries[i] & Pagemap.FrameMask;
                for (count = 1; i + count < unmapped.Length && (entries[i + count] & Pagemap.FrameMask) == number + (ulong)count;)
                    count++;
                if (number == 0 || !TryReadWords(_kpagecount, number, counts.Slice(i, count)))
                    continue;
                for (int k = i; k < i + count; k++)
                    unmapped[k] = counts[k] == 1;
            }

            ArrayPool<ulong>.Shared.Return(words);
        }
        finally
        {
            _ = LibC.munmap(mapped, length);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _guards?.Dispose();
        Guard.Dispose();
        _writable?.Dispose();
        Readable.Dispose();
        _kpagecount.Dispose();
    }

    private static bool TryReadWords(FileDescriptor file, ulong first, Span<ulong> words)
    {
        fixed (ulong* into = words)
            return LibC.pread(file.Number, into, (nuint)words.Length * 8, (long)first * 8) == words.Length * 8;
    }

    /// <summary>Device and inode as the kernel shows them in maps, which is how mappings are told from others: stat(2) may show others.</summary>
    private static (ulong Device, ulong Inode) Identify(FileDescriptor readable)
    {
        void* probe = LibC.mmap(null, PageSize, LibC.PROT_READ, LibC.MAP_SHARED, readable.Number, 0);
        if ((nint)probe == -1)
            throw Failed("mmap", "the frame pool");
        try
        {
            List<Mapping> mappings = [];
            Mapping.TryReadAll("/proc/self/maps", mappings);
            Mapping own = mappings.Find(mapping => mapping.Start == (ulong)probe);
            return (own.Device, own.Inode);
        }
        finally
        {
            _ = LibC.munmap(probe, PageSize);
        }
    }

    private static void Configure(FileDescriptor context, int command, string? key, string? value)
    {
        if (LibC.syscall(SyscallNumbers.fsconfig, context.Number, command, key, value, 0) != 0)
            throw Failed("fsconfig", $"tmpfs {key}");
    }

    private static FileDescriptor Own(string call, string subject, int number) => number >= 0 ? new FileDescriptor(number) : throw Failed(call, subject);

    private static SyscallException Failed(string call, string subject) => new(call, subject, (Errno)Marshal.GetLastPInvokeError());
}
