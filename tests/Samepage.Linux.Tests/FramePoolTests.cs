using Samepage.Doctor;
using Samepage.Linux;
using Samepage.Linux.Frames;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.LinuxTests;

/// <summary>Frames and page tables of the kernel that runs.</summary>
[Collection(nameof(Alone))]
public sealed unsafe class FramePoolTests
{
    private const int Page = 4096;

    [Fact]
    public void FramesAreWrittenReadAndPunched()
    {
        using FramePool pool = Create();
        Assert.True(pool.TryWrite(3, Filled(7, 2 * Page)));
        Assert.Equal(Filled(7, 2 * Page), Read(pool, 3, 2));
        Assert.Equal(Filled(0, Page), Read(pool, 2, 1));
        pool.Punch(3, 1);
        Assert.Equal(Filled(0, Page), Read(pool, 3, 1));
        Assert.Equal(Filled(7, Page), Read(pool, 4, 1));
    }

    /// <summary>Without a guard MADV_COLLAPSE could take a frame from everybody. The limit on pipes, 256 pages unless somebody raised it, holds for who lacks CAP_SYS_RESOURCE: then there are several of them, and where the last
    /// is full there is an end.</summary>
    [Fact]
    public void FramesThatCannotBeGuardedHoldNothing()
    {
        const uint ExtentFrames = 512;
        const int Pipes = 3, Dead = 300;
        uint limit = uint.Parse(File.ReadAllText("/proc/sys/fs/pipe-max-size"), System.Globalization.CultureInfo.InvariantCulture) / Page;
        Assert.SkipWhen(limit > 4096, "fs.pipe-max-size was raised");
        using FramePool pool = Create(), other = Create();
        WithoutLargePipes(() =>
        {
            using FrameGuards guards = new(pool.Readable, Pipes);
            Assert.InRange(FrameGuards.PipesNeeded(), 2, FrameGuards.PipesMost);
            for (uint extent = 0; extent < Pipes * limit; extent++)
            {
                Assert.True(other.TryWrite(extent * ExtentFrames, Filled(7, Page)), $"extent {extent}: {other.Refusal}");
                Assert.True(guards.TryGuard(extent * ExtentFrames, 1), $"extent {extent}: {guards.Refusal}");
            }

            uint first = Pipes * limit * ExtentFrames;
            Assert.False(guards.TryGuard(first, 1));
            Assert.Contains("CAP_SYS_RESOURCE", guards.Refusal, StringComparison.Ordinal);
            // What has become free in any of them is used again.
            List<uint> kept = [];
            for (uint extent = 0; extent < Dead; extent++)
                guards.Release(extent * ExtentFrames, (int)ExtentFrames, kept);
            Assert.Empty(kept);
            Assert.Equal(Pipes * (int)limit - Dead, Enumerable.Range(0, Pipes * (int)limit).Count(extent => guards.Has((uint)extent)));
            Assert.InRange(guards.PagesHeld, Pipes * (int)limit - Dead, Pipes * (int)limit - 1);
            Assert.True(guards.TryGuard(first, 1), guards.Refusal);
        });
    }

    [Fact]
    public void FramesThatOnlyASecondPipeCanGuardKeepTheirPlaces()
    {
        const uint ExtentFrames = 512;
        const int Huge = (int)ExtentFrames * Page;
        uint limit = uint.Parse(File.ReadAllText("/proc/sys/fs/pipe-max-size"), System.Globalization.CultureInfo.InvariantCulture) / Page;
        Assert.SkipWhen(limit > 4096, "fs.pipe-max-size was raised");
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "needs root: a pool of frames is a mount of its own");
        WithoutLargePipes(() =>
        {
            using FramePool pool = FramePool.Create();
            for (uint extent = 0; extent <= limit; extent++)
                Assert.True(pool.TryWrite(extent * ExtentFrames, Filled(7, Page)), $"extent {extent}: {pool.Refusal}");
            void* room = LibC.mmap(null, 2 * Huge, LibC.PROT_NONE, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS, -1, 0);
            byte* place = (byte*)(((nuint)room + Huge - 1) / Huge * Huge);
            Assert.Equal((nint)place, (nint)LibC.mmap(place, Huge, LibC.PROT_READ, LibC.MAP_SHARED | LibC.MAP_FIXED, pool.Readable.Number, limit * Huge));
            Assert.Equal(7, Volatile.Read(ref *place));
            Assert.True(PidFd.TryOpen(Environment.ProcessId, out FileDescriptor? self, out _));
            using FileDescriptor own = self!;
            Assert.False(PidFd.TryCollapse(own, (ulong)place, Huge), "nothing keeps the frame in its place");
            Assert.Equal(0, LibC.munmap(room, 2 * Huge));
        });
    }

    /// <summary>As a daemon in a container, which may not make a pipe as large as it likes.</summary>
    private static void WithoutLargePipes(Action does)
    {
        const int SysResource = 24;
        System.Runtime.ExceptionServices.ExceptionDispatchInfo? failure = null;
        // Capabilities are a thread's own.
        Thread thread = new(() =>
        {
            try
            {
                LibC.__user_cap_header_struct header = new() { version = LibC._LINUX_CAPABILITY_VERSION_3 };
                LibC.__user_cap_data_struct* own = stackalloc LibC.__user_cap_data_struct[2];
                Assert.Equal(0, LibC.syscall(SyscallNumbers.capget, (nint)(&header), (nint)own, 0, 0, 0));
                own[0].effective &= ~(1u << SysResource);
                Assert.Equal(0, LibC.syscall(SyscallNumbers.capset, (nint)(&header), (nint)own, 0, 0, 0));
                does();
            }
            catch (Exception failed)
            {
                failure = System.Runtime.ExceptionServices.ExceptionDispatchInfo.Capture(failed);
            }
        });
        thread.Start();
        thread.Join();
        failure?.Throw();
    }

    /// <summary>A run that one entry maps loses all of its pages at the first write.</summary>
    [Fact]
    public void FramesWrittenWhereSomebodyHasMadeAHugePageAreSmallPages()
    {
        const int Frames = 512, Huge = Frames * Page;
        using FramePool pool = Create();
        void* room = LibC.mmap(null, 2 * Huge, LibC.PROT_NONE, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS, -1, 0);
        byte* place = (byte*)(((nuint)room + Huge - 1) / Huge * Huge);
        Assert.Equal((nint)place, (nint)LibC.mmap(place, Huge, LibC.PROT_READ, LibC.MAP_SHARED | LibC.MAP_FIXED, pool.Readable.Number, 0));
        _ = Volatile.Read(ref *place);
        Assert.True(PidFd.TryOpen(Environment.ProcessId, out FileDescriptor? self, out _));
        using FileDescriptor own = self!;
        Assert.SkipUnless(PidFd.TryCollapse(own, (ulong)place, Huge), "this kernel makes no huge page of a file");

        byte[] content = Filled(7, Huge);
        Assert.True(pool.TryWrite(0, content), pool.Refusal);
        Assert.Equal((nint)place, (nint)LibC.mmap(place, Huge, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_PRIVATE | LibC.MAP_FIXED, pool.Readable.Number, 0));
        for (int i = 0; i < Frames; i++)
            Assert.Equal(7, Volatile.Read(ref place[i * Page]));
        Volatile.Write(ref *place, 8);
        using Pagemap pagemap = Pagemap.TryOpen(Environment.ProcessId)!;
        ulong[] words = new ulong[Frames];
        Assert.Equal(Frames, pagemap.ReadWords((ulong)place, words));
        Assert.All(words, word => Assert.NotEqual(0ul, word & Pagemap.Present));
        Assert.Equal(0, LibC.munmap(room, 2 * Huge));
    }

    /// <summary>Whoever maps frames has the writing end of the pipe that guards them: a page of his own in it must not have a living guard thrown out for a dead one.</summary>
    [Theory]
    [InlineData(1, Page)]
    [InlineData(3, Page)]
    [InlineData(1, 100)]
    public void WhatOthersWriteIntoThePipeOfTheGuardsTakesNoGuardAway(int pieces, int bytes)
    {
        const uint Extent = 512, Living = 20;
        const int Rounds = 12, Huge = (int)Extent * Page;
        using FramePool pool = Create();
        for (uint i = 0; i < Living; i++)
            Assert.True(pool.TryWrite(i * Extent, Filled((byte)(i + 1), Page)), pool.Refusal);
        // He makes room, over and over.
        void Widen() => Assert.Equal(256 * Page, LibC.fcntl(pool.Guards[0].Number, LibC.F_SETPIPE_SZ, 256 * Page));
        Widen();
        byte[] junk = Filled(0, bytes);
        fixed (byte* start = junk)
        {
            for (int i = 0; i < pieces; i++)
                Assert.Equal(bytes, LibC.write(pool.Guards[0].Number, start, (nuint)bytes));
        }

        // Frames that come and go leave dead guards, which are thrown out now and then.
        for (int round = 0; round < Rounds; round++)
        {
            for (uint i = Living; i < 2 * Living && pool.TryWrite(i * Extent, Filled(99, Page)); i++)
            {
                pool.Punch(i * Extent, 1);
                Widen();
            }
        }

        void* room = LibC.mmap(null, 2 * Huge, LibC.PROT_NONE, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS, -1, 0);
        byte* place = (byte*)(((nuint)room + Huge - 1) / Huge * Huge);
        Assert.True(PidFd.TryOpen(Environment.ProcessId, out FileDescriptor? self, out _));
        using FileDescriptor own = self!;
        for (uint i = 0; i < Living; i++)
        {
            Assert.Equal((nint)place, (nint)LibC.mmap(place, Huge, LibC.PROT_READ, LibC.MAP_SHARED | LibC.MAP_FIXED, pool.Readable.Number, i * Huge));
            _ = Volatile.Read(ref *place);
            Assert.False(PidFd.TryCollapse(own, (ulong)place, Huge), $"nothing keeps frame {i * Extent} in its place");
        }

        Assert.Equal(0, LibC.munmap(room, 2 * Huge));
    }

    [Fact]
    public void TargetsCannotWriteFrames()
    {
        using FramePool pool = Create();
        byte value = 1;
        Assert.Equal(-1, LibC.pwrite(pool.Readable.Number, &value, 1, 0));
        Assert.Equal(-1, (nint)LibC.mmap(null, Page, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_SHARED, pool.Readable.Number, 0));
    }

    /// <summary>Root owns the inode: what is opened anew must be opened on a mount that is read-only.</summary>
    [Fact]
    public void WhatTargetsGetCannotBeOpenedAnewForWriting()
    {
        using FramePool pool = Create();
        Assert.Equal((-1, Errno.EROFS), (LibC.fchmod(pool.Readable.Number, 0x180), (Errno)System.Runtime.InteropServices.Marshal.GetLastPInvokeError()));
        Assert.False(FileDescriptor.TryOpen($"/proc/self/fd/{pool.Readable.Number}", writable: true, out _, out Errno errno));
        Assert.Equal(Errno.EROFS, errno);
    }

    [Fact]
    public void OnlyThePoolThatWasWrittenDownIsAdopted()
    {
        using FramePool pool = Create(), other = Create();
        FileDescriptor Again(FileDescriptor of) => FileDescriptor.Open($"/proc/self/fd/{of.Number}");
        FileDescriptor Copy(FileDescriptor of) => new(LibC.fcntl(of.Number, 1030 /* F_DUPFD_CLOEXEC */, 3));
        using (FramePool adopted = FramePool.Adopt(Again(pool.Readable), [Copy(pool.Guards[0])], pool.Device, pool.Inode))
            Assert.Equal((pool.Device, pool.Inode), (adopted.Device, adopted.Inode));
        (FileDescriptor Pool, FileDescriptor Guard)[] wrong =
        [
            (Again(other.Readable), Copy(pool.Guards[0])),
            (Again(pool.Readable), FileDescriptor.Open("/dev/null", writable: true)),
            (FileDescriptor.Open("/proc/self/maps"), Copy(pool.Guards[0])),
            (new FileDescriptor(LibC.memfd_create("samepage-frames", LibC.MFD_CLOEXEC)), Copy(pool.Guards[0])),
        ];
        foreach ((FileDescriptor file, FileDescriptor guard) in wrong)
            Assert.Equal(Errno.EPERM, Assert.Throws<SyscallException>(() => FramePool.Adopt(file, [Copy(pool.Guards[0]), guard], pool.Device, pool.Inode)).Errno);
    }

    [Fact]
    public void C11_AFrameIsUnmappedOnlyWhenNobodyMapsIt()
    {
        using FramePool pool = Create();
        Assert.True(pool.TryWrite(5, Filled(7, Page)));
        Assert.True(IsUnmapped(pool, 5));
        byte* mapped = Map(pool.Readable, 5, 1);
        Assert.Equal(7, Volatile.Read(ref *mapped));
        Assert.False(IsUnmapped(pool, 5));
        List<Mapping> mappings = [];
        Assert.True(Mapping.TryReadAll("/proc/self/maps", mappings));
        Mapping own = mappings.Single(mapping => mapping.Start <= (ulong)mapped && (ulong)mapped < mapping.End);
        Assert.Equal((pool.Device, pool.Inode, 5ul * Page), (own.Device, own.Inode, own.Offset));
        Assert.Equal(0, LibC.munmap(mapped, Page));
        Assert.True(IsUnmapped(pool, 5));
    }

    [Fact]
    public void C11_OfNeighbouringFramesThoseThatSomebodyMapsAreTold()
    {
        const int Frames = 40;
        using FramePool pool = Create();
        Assert.True(pool.TryWrite(100, Filled(7, Frames * Page)));
        int[] mapped = [0, 3, 4, 17, 39];
        List<nint> mappings = [];
        foreach (int frame in mapped)
        {
            byte* page = Map(pool.Readable, (uint)(100 + frame), 1);
            Assert.Equal(7, Volatile.Read(ref *page));
            mappings.Add((nint)page);
        }

        bool[] unmapped = new bool[Frames];
        pool.FindUnmapped(100, unmapped);
        Assert.Equal([.. Enumerable.Range(0, Frames).Select(frame => !mapped.Contains(frame))], unmapped);
        foreach (nint page in mappings)
            Assert.Equal(0, LibC.munmap((void*)page, Page));
        pool.FindUnmapped(100, unmapped);
        Assert.DoesNotContain(false, unmapped);
    }

    [Fact]
    public void WithoutADescriptorLeftUnmappedFramesAreFoundAllTheSame()
    {
        using FramePool pool = Create();
        Assert.True(pool.TryWrite(100, Filled(7, 2 * Page)));
        byte* page = Map(pool.Readable, 101, 1);
        Assert.Equal(7, Volatile.Read(ref *page));
        bool[] unmapped = new bool[2];
        Exception? failed;
        using (FewDescriptors.None())
            failed = Record.Exception(() => pool.FindUnmapped(100, unmapped));
        Assert.Null(failed);
        Assert.Equal([true, false], unmapped);
        Assert.Equal(0, LibC.munmap(page, Page));
    }

    private static bool IsUnmapped(FramePool pool, uint frame)
    {
        Span<bool> unmapped = stackalloc bool[1];
        pool.FindUnmapped(frame, unmapped);
        return unmapped[0];
    }

    [Fact]
    public void E1_BrokenAndMissingPagesAreNotListedAsFrames()
    {
        using FileDescriptor file = new(LibC.memfd_create("samepage-test", LibC.MFD_CLOEXEC));
        Assert.Equal(0, LibC.ftruncate(file.Number, 8 * Page));
        foreach (int written in new[] { 0, 1, 2, 5 })
        {
            byte value = 7;
            Assert.Equal(1, LibC.pwrite(file.Number, &value, 1, written * Page));
        }

        byte* mapped = (byte*)LibC.mmap(null, 8 * Page, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_PRIVATE, file.Number, 0);
        Assert.NotEqual(-1, (nint)mapped);
        foreach (int touched in new[] { 0, 1, 2, 5 })
            Assert.Equal(7, Volatile.Read(ref mapped[touched * Page]));
        Volatile.Write(ref mapped[Page], 8);
        using Pagemap pagemap = Pagemap.TryOpen(Environment.ProcessId)!;
        List<PageRegion> regions = [];
        Errno errno = pagemap.CollectFilePages((ulong)mapped, (ulong)mapped + 8 * Page, regions);
        Assert.SkipWhen(errno == Errno.ENOTTY, "needs PAGEMAP_SCAN: Linux 6.7 or later");
        Assert.Equal(Errno.None, errno);
        Assert.Equal([(0, 1), (2, 3), (5, 6)], regions.Select(region => ((int)((region.Start - (ulong)mapped) / Page), (int)((region.End - (ulong)mapped) / Page))));
        ulong[] words = new ulong[8];
        Assert.Equal(8, pagemap.ReadWords((ulong)mapped, words));
        Assert.Equal([true, true, true, false, false, true, false, false], words.Select(word => (word & Pagemap.Present) != 0));
        Assert.Equal([true, false, true, false, false, true, false, false], words.Select(word => (word & Pagemap.FilePage) != 0));
        Assert.NotEqual(0ul, words[1] & Pagemap.Exclusive);
        Assert.Equal(0, LibC.munmap(mapped, 8 * Page));
    }

    private static FramePool Create()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "needs root: a pool of frames is a mount of its own");
        return FramePool.Create();
    }

    private static byte* Map(FileDescriptor file, uint frame, int count)
    {
        void* mapped = LibC.mmap(null, (nuint)(count * Page), LibC.PROT_READ, LibC.MAP_SHARED, file.Number, (long)frame * Page);
        Assert.NotEqual(-1, (nint)mapped);
        return (byte*)mapped;
    }

    private static byte[] Read(FramePool pool, uint frame, int count)
    {
        byte[] content = new byte[count * Page];
        fixed (byte* buffer = content)
            Assert.Equal(content.Length, LibC.pread(pool.Readable.Number, buffer, (nuint)content.Length, (long)frame * Page));
        return content;
    }

    private static byte[] Filled(byte value, int length)
    {
        byte[] content = new byte[length];
        content.AsSpan().Fill(value);
        return content;
    }
}
