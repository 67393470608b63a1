using System.Buffers;
using System.Runtime.InteropServices;
using Samepage.Linux.Interop;
using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Frames;

/// <summary>The frames of one trust domain: one shmem file, a frame being one page of it.</summary>
/// <remarks>
/// <para>Only the daemon can write the file. A frame is written before anybody maps it and never again until it was punched out, so a mapping of it can only ever show
/// what was compared.</para>
/// <para>Targets get a descriptor that was opened through a read-only clone of the mount (<see cref="MountView"/>). A mode would not do: root, even without
/// capabilities, owns the inode, changes its mode, and opens it anew. What is opened by a descriptor's link in /proc, or by a mapping's, is opened on the descriptor's own
/// mount, and on this one whatever would write fails with EROFS for everybody. The mount is in nobody's namespace, so nobody can make it writable or clone it, and a
/// shared mapping of it can never be made writable (VM_MAYWRITE). Programs may still make merged memory executable, so the mount is not noexec.</para>
/// <para>The file is longer than any pool will be: a program may make a mapping of frames longer, mremap(2), and what it then touches must be there to be asked for (its warden answers with zeros),
/// not behind the end of the file. So a target can have pages that nobody wrote by touching them; they count as memory of its own control group, as any other that it takes.</para>
/// <para>The pool must never lose a page-table entry to reclaim: a missing entry in a mapping of frames means "the program discarded this page"
/// (it then reads as zeros), and nothing else may cause one. So the file lies on a tmpfs mount of its own with <c>noswap</c>, which makes its
/// pages unevictable, and <c>huge=never</c>. The mount is attached nowhere and goes with its last file. The file has no name (any more): gdb takes
/// mappings of files that have one for what can be read from disk, and leaves them out of the core dumps that it makes.</para>
/// <para>A program that asks for huge pages takes entries from everybody as well: <see cref="FrameGuards"/> stand in the way, once a frame is there to be guarded. Before that a program can
/// touch what nobody has written, and make a huge page of it. Were frames written into that, a run of them could be mapped by one entry for all 512 pages, and the kernel takes such an entry of a file away
/// whole where it must part it: at the first write, at a fork, when memory is given back. All 512 would read as zeros. So each 2 MiB are emptied before their first frame is written, and written frames are
/// looked at once they are guarded: what lies in a large page of any size by then is given up (<see cref="TryWrite"/>). Behind that look nobody can make one, for a guard is in the way.
/// The same look meets a kernel that is told to make large pages of every tmpfs (<c>force</c> in <c>/sys/kernel/mm/transparent_hugepage/shmem_enabled</c>): nothing is merged then.</para>
/// <para>The daemon keeps no mapping of the file: frames are written with pwrite(2), so that the number of mappings of a frame, and with it
/// every process's Pss, counts the targets alone.</para>
/// <para>One thread at a time.</para>
/// </remarks>
public sealed unsafe class FramePool : IDisposable
{
    private const int FsConfigSetFlag = 0, FsConfigSetString = 1, FsConfigCreate = 6;
    private const string Name = "samepage-frames";
    private const int PageSize = 4096;
    private const long MaxBytes = 1L << 42;
    private readonly FileDescriptor? _writable;
    private readonly FrameGuards? _guards;
    private readonly FileDescriptor _kpagecount, _kpageflags, _pagemap;

    private const uint StatxBasic = 0x7ff;
    private const ushort OwnerReads = 0x8100; // S_IFREG | 0400

    private FramePool(FileDescriptor? writable, FileDescriptor readable, IReadOnlyList<FileDescriptor>? held)
    {
        (_writable, Readable) = (writable, readable);
        _guards = held is null ? new FrameGuards(readable, FrameGuards.PipesNeeded()) : null;
        Guards = held ?? _guards!.Held;
        _kpagecount = FileDescriptor.Open("/proc/kpagecount");
        _kpageflags = FileDescriptor.Open("/proc/kpageflags");
        // Open from the beginning: when a page is asked about there may be no descriptor left.
        _pagemap = FileDescriptor.Open("/proc/self/pagemap");
        (Device, Inode) = Identify(readable);
    }

    /// <summary>The read-only descriptor that targets get.</summary>
    public FileDescriptor Readable { get; }

    /// <summary>What each agent must have open besides, so that frames stay in their places behind our death.</summary>
    public IReadOnlyList<FileDescriptor> Guards { get; }

    /// <summary>The file's device, as <see cref="Mapping.Device"/>; with <see cref="Inode"/> it tells our mappings from all others.</summary>
    public ulong Device { get; }

    /// <summary>The file's inode.</summary>
    public ulong Inode { get; }

    /// <summary>Whether a mapping shows frames of this pool.</summary>
    public bool Has(in Mapping mapping) => mapping.Inode == Inode && mapping.Device == Device;

    /// <summary>How many descriptors a pool of ours has, about.</summary>
    public static int DescriptorsOfOne { get; } = 5 + 2 * FrameGuards.PipesNeeded();

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
        FileDescriptor writable = Own("openat", Name, LibC.openat(mount.Number, Name, LibC.O_RDWR | LibC.O_CREAT | LibC.O_EXCL | LibC.O_CLOEXEC, 0x100));
        // A mapping of frames that its program makes longer, mremap(2), must not end in SIGBUS.
        if (LibC.ftruncate(writable.Number, MaxBytes) != 0)
            throw Failed("ftruncate", "the frame pool");
        using FileDescriptor view = MountView.ReadOnly(mount);
        FileDescriptor readable = Own("openat", Name, LibC.openat(view.Number, Name, LibC.O_RDONLY | LibC.O_CLOEXEC, 0));
        if (LibC.unlinkat(mount.Number, Name, 0) != 0)
            throw Failed("unlinkat", Name);
        return new FramePool(writable, readable, null);
    }

    /// <summary>The pool of a daemon that has died, by descriptors that one of its targets has: nothing can be written or freed.</summary>
    /// <remarks>A hostile target can have put anything in their place. What is not the very pool that was written down is refused: other programs' frames would not be known for
    /// frames, and their agents would leave with them in place.</remarks>
    /// <param name="readable">Its file.</param>
    /// <param name="guards">Its <see cref="Guards"/>.</param>
    /// <param name="device">Its <see cref="Device"/>, as it was written down.</param>
    /// <param name="inode">Its <see cref="Inode"/>.</param>
    /// <exception cref="SyscallException">It is not that pool.</exception>
    public static FramePool Adopt(FileDescriptor readable, IReadOnlyList<FileDescriptor> guards, ulong device, ulong inode)
    {
        if (WhyNotOurs(readable) is { } other)
            throw NotOurs(other);
        if (guards.Count == 0 || !guards.All(IsGuard))
            throw NotOurs("what guards its frames is no writing end of a pipe");
        FramePool pool = new(null, readable, guards);
        if (pool.Device == device && pool.Inode == inode)
            return pool;
        pool.Dispose();
        throw NotOurs("it is another file than was written down");

        SyscallException NotOurs(string why)
        {
            readable.Dispose();
            foreach (FileDescriptor guard in guards)
                guard.Dispose();
            return new SyscallException("pidfd_getfd", $"the frame pool from a program's agent, which has put something else in its place: {why}", Errno.EPERM);
        }
    }

    /// <summary>A file of the kind that <see cref="Create"/> hands out: of a tmpfs mounted read-only, opened to be read, without a name.</summary>
    private static string? WhyNotOurs(FileDescriptor file)
    {
        LibC.statfs system;
        FileCalls.statx_buffer found;
        if (LibC.fstatfs(file.Number, &system) != 0 || system.f_type != LibC.TMPFS_MAGIC)
            return "it is no file of a tmpfs";
        if ((system.f_flags & LibC.ST_RDONLY) == 0)
            return "its mount is not read-only";
        if ((LibC.fcntl(file.Number, LibC.F_GETFL, 0) & LibC.O_ACCMODE) != LibC.O_RDONLY)
            return "it is open for writing";
        return FileCalls.statx(file.Number, "", (int)LibC.AT_EMPTY_PATH, StatxBasic, &found) == 0 && found is { stx_nlink: 0, stx_uid: 0, stx_mode: OwnerReads } ? null
            : "it has a name, or another owner or mode";
    }

    /// <summary>Whether a file is the writing end of a pipe, as <see cref="Guards"/> are.</summary>
    public static bool IsGuard(FileDescriptor file)
    {
        LibC.statfs system;
        return LibC.fstatfs(file.Number, &system) == 0 && system.f_type == LibC.PIPEFS_MAGIC && (LibC.fcntl(file.Number, LibC.F_GETFL, 0) & LibC.O_ACCMODE) == LibC.O_WRONLY;
    }

    /// <summary>Why the last frames could not be written, for people; empty when they could.</summary>
    public string Refusal { get; private set; } = "";

    /// <summary>Writes neighbouring frames.</summary>
    /// <returns>False when there is no memory, no guard for them, or they came to lie in a large page: they hold nothing then, and nobody may map them. <see cref="Refusal"/> says why.</returns>
    public bool TryWrite(uint firstFrame, ReadOnlySpan<byte> content)
    {
        if (_writable is null)
        {
            Refusal = "the frame pool is that of a daemon that died: nothing new is merged in it";
            return false;
        }

        int count = content.Length / PageSize;
        for (uint extent = firstFrame / FrameGuards.ExtentFrames; extent <= (firstFrame + (uint)count - 1) / FrameGuards.ExtentFrames; extent++)
        {
            // No frame of ours is in it; what is has been touched by somebody else.
            if (!_guards!.Has(extent))
                PunchOut(extent * FrameGuards.ExtentFrames, (extent + 1) * FrameGuards.ExtentFrames);
        }

        fixed (byte* bytes = content)
        {
            if (LibC.pwrite(_writable.Number, bytes, (nuint)content.Length, (long)firstFrame * PageSize) != content.Length)
                Refusal = $"there is no memory for more frames (pwrite: {(Errno)Marshal.GetLastPInvokeError()})";
            else if (!_guards!.TryGuard(firstFrame, count))
                Refusal = _guards.Refusal;
            else if (!AreSmall(firstFrame, count))
                Refusal = "frames came to lie in a large page: a program of this domain has asked for one (MADV_COLLAPSE), or /sys/kernel/mm/transparent_hugepage/shmem_enabled says force";
            else
                Refusal = "";
        }

        if (Refusal.Length > 0)
            Punch(firstFrame, count);
        return Refusal.Length == 0;
    }

    /// <summary>Reads a frame.</summary>
    /// <returns>False when it cannot be read.</returns>
    public bool TryRead(uint frame, Span<byte> content)
    {
        fixed (byte* bytes = content)
            return LibC.pread(Readable.Number, bytes, (nuint)content.Length, (long)frame * PageSize) == content.Length;
    }

    /// <summary>Gives the memory of neighbouring frames back. They read as zeros from now on, but for one that guards others and cannot be replaced: that stays as it is until it is written anew.</summary>
    public void Punch(uint firstFrame, int count)
    {
        List<uint> kept = [];
        _guards?.Release(firstFrame, count, kept);
        uint first = firstFrame, end = firstFrame + (uint)count;
        foreach (uint stays in kept)
        {
            PunchOut(first, stays);
            first = stays + 1;
        }

        PunchOut(first, end);
    }

    private void PunchOut(uint first, uint end)
    {
        if (first < end && _writable is not null &&
            LibC.fallocate(_writable.Number, LibC.FALLOC_FL_PUNCH_HOLE | LibC.FALLOC_FL_KEEP_SIZE, (long)first * PageSize, (long)(end - first) * PageSize) != 0)
        {
            throw Failed("fallocate", $"frames {first}+{end - first}");
        }
    }

    /// <summary>Says of neighbouring frames whether no process at all maps them: not a target, not a child that one forked unseen.</summary>
    /// <remarks>Maps them for a moment, finds their page frame numbers, and asks <c>/proc/kpagecount</c> how many mappings there are besides.
    /// A page under migration reads as unmapped for an instant, so callers ask in several passes before they believe it.</remarks>
    /// <param name="first">The first. One that holds nothing is given memory by being asked about, until it is freed.</param>
    /// <param name="unmapped">Receives one for each; false also where it cannot be told.</param>
    public void FindUnmapped(uint first, Span<bool> unmapped)
    {
        ulong[] rented = ArrayPool<ulong>.Shared.Rent(unmapped.Length);
        Span<ulong> counts = rented.AsSpan(0, unmapped.Length);
        Look(first, _kpagecount, counts);
        for (int i = 0; i < counts.Length; i++)
            unmapped[i] = counts[i] == 1;
        ArrayPool<ulong>.Shared.Return(rented);
    }

    /// <summary>Whether each of some frames that were just written is a page by itself. What cannot be told is not.</summary>
    private bool AreSmall(uint first, int count)
    {
        ulong[] rented = ArrayPool<ulong>.Shared.Rent(count);
        Span<ulong> flags = rented.AsSpan(0, count);
        Look(first, _kpageflags, flags);
        bool small = true;
        foreach (ulong word in flags)
            small &= word != 0 && (word & FrameFlags.InLarge) == 0; // a page that was written has flags
        ArrayPool<ulong>.Shared.Return(rented);
        return small;
    }

    /// <summary>Maps frames for a moment, and reads what the kernel says of each page frame by number.</summary>
    /// <param name="first">The first frame.</param>
    /// <param name="file">A file of one word for each page frame of the machine.</param>
    /// <param name="words">Receives one for each; 0 where it cannot be told.</param>
    private void Look(uint first, FileDescriptor file, Span<ulong> words)
    {
        words.Clear();
        nuint length = (nuint)words.Length * PageSize;
        byte* mapped = (byte*)LibC.mmap(null, length, LibC.PROT_READ, LibC.MAP_SHARED, Readable.Number, (long)first * PageSize);
        if ((nint)mapped == -1)
            return;
        ulong[] rented = ArrayPool<ulong>.Shared.Rent(words.Length);
        try
        {
            Span<ulong> entries = rented.AsSpan(0, words.Length);
            for (int i = 0; i < words.Length; i++)
                _ = Volatile.Read(ref mapped[i * PageSize]);
            if (!TryReadWords(_pagemap, (ulong)mapped / PageSize, entries))
                entries.Clear();
            for (int i = 0, count; i < words.Length; i += count)
            {
                // An entry that is on its way elsewhere has no number.
                ulong number = (entries[i] & Pagemap.Present) != 0 ? entries[i] & Pagemap.FrameMask : 0;
                for (count = 1; i + count < words.Length && (entries[i + count] & Pagemap.Present) != 0 && (entries[i + count] & Pagemap.FrameMask) == number + (ulong)count;)
                    count++;
                if (number == 0 || !TryReadWords(file, number, words.Slice(i, count)))
                    words.Slice(i, count).Clear();
            }
        }
        finally
        {
            ArrayPool<ulong>.Shared.Return(rented);
            _ = LibC.munmap(mapped, length);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _guards?.Dispose();
        foreach (FileDescriptor guard in Guards)
            guard.Dispose();
        _writable?.Dispose();
        Readable.Dispose();
        _kpagecount.Dispose();
        _kpageflags.Dispose();
        _pagemap.Dispose();
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
