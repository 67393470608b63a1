using System.Diagnostics;
using Samepage.Linux;
using Samepage.Linux.Interop;
using Samepage.Linux.Kernels;
using Samepage.Linux.ProcFs;

namespace Samepage.LinuxTests;

/// <summary>References to pages of our own and of others are seen, and seen to end.</summary>
public sealed unsafe class PageReferencesTests : IDisposable
{
    private readonly PageReferences? _references;
    private readonly OwnPages _own = new();
    private readonly string _why;

    public PageReferencesTests() => _references = PageReferences.TryOpen(out _why);

    [Fact]
    public void ItIsThereOrSaysWhyNot() => Assert.Equal(_references is null, _why.Length > 0);

    [Fact]
    public void AFreshPageIsHeldByNobody()
    {
        Assert.Equal([false, false, false, false], Held());
        Assert.Equal([1u, 1, 1, 1], Counts());
    }

    [Fact]
    public void APageInAPipeIsHeldUntilItIsRead()
    {
        Assert.Equal([false, false, false, false], Held());
        (FileDescriptor reading, FileDescriptor writing) = _own.Splice([1, 3, 3]);
        using (reading)
        using (writing)
        {
            Assert.Equal([false, true, false, true], Held());
            Assert.Equal([1u, 2, 1, 3], Counts());
            byte* read = stackalloc byte[4096];
            Assert.Equal(4096, LibC.read(reading.Number, read, 4096));
            Assert.Equal([false, false, false, true], Held());
        }

        Assert.Equal([false, false, false, false], Held());
    }

    [Fact]
    public void APageInARegisteredBufferIsHeldUntilThatEnds()
    {
        Assert.Equal([false, false, false, false], Held());
        using FileDescriptor? ring = _own.TryPin([0, 2, 2]);
        Assert.SkipWhen(ring is null, "needs io_uring");
        Assert.Equal([true, false, true, false], Held());
        Assert.Equal([1 + PageReferences.Pin, 1, 1 + 2 * PageReferences.Pin, 1], Counts());
        OwnPages.Unpin(ring!);
        Assert.Equal([false, false, false, false], Held());
    }

    /// <summary>A shell and its child, which was forked, have the same pages until one of them writes.</summary>
    [Fact]
    public void PagesThatAnotherProcessSharesWithItsChildAreHeldByNobody()
    {
        using Process shell = Process.Start(new ProcessStartInfo("/bin/sh", ["-c", "(echo $0; read line); :"]) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
        try
        {
            Assert.NotNull(shell.StandardOutput.ReadLine());
            string children = File.ReadAllText($"/proc/{shell.Id}/task/{shell.Id}/children").Trim();
            ulong[] shared = [.. Heap(shell.Id).Intersect(Heap(int.Parse(children, System.Globalization.CultureInfo.InvariantCulture)))];
            Assert.NotEmpty(shared);
            bool[] held = new bool[shared.Length];
            uint[] counts = new uint[shared.Length];
            Assert.True(Oracle.TryFindHeld(shared, held, out Errno errno), errno.ToString());
            Assert.DoesNotContain(true, held);
            Assert.True(Oracle.TryRead(shared, counts, out errno), errno.ToString());
            Assert.All(counts, count => Assert.Equal(2u, count));
        }
        finally
        {
            shell.StandardInput.Close();
            shell.WaitForExit();
        }
    }

    [Fact]
    public void WhatIsNoFrameOfMemoryIsHeld_AndAPageOfSharedMemory()
    {
        ulong[] frames = Frames();
        bool[] held = new bool[4];
        Assert.True(Oracle.TryFindHeld([frames[OwnPages.Private], (1UL << 34) - 1, 1UL << 34, ulong.MaxValue], held, out Errno errno), errno.ToString());
        Assert.Equal([true, true, true, true], held);
        uint[] counts = new uint[2];
        Assert.False(Oracle.TryRead([frames[0], ulong.MaxValue], counts, out errno));
        Assert.Equal(Errno.EFAULT, errno);
    }

    /// <summary>More than are read by one run of the program, and the one that is held among the last.</summary>
    [Fact]
    public void ManyPagesAreReadAtOnce()
    {
        const int Many = 2 * KernelWords.Capacity + 7;
        ulong[] own = Frames(), frames = [.. Enumerable.Repeat(own[0], Many - 1), own[1]];
        (FileDescriptor reading, FileDescriptor writing) = _own.Splice([1]);
        using (reading)
        using (writing)
        {
            bool[] held = new bool[Many];
            Assert.True(Oracle.TryFindHeld(frames, held, out Errno errno), errno.ToString());
            Assert.Equal(own, Frames());
            Assert.Equal([Many - 1], held.Index().Where(page => page.Item).Select(page => page.Index));
        }

        Assert.True(Oracle.TryFindHeld([], [], out _));
        Assert.True(Oracle.TryRead([], [], out _));
    }

    [Fact]
    public void TheKernelTellsWhereItsFieldsAre()
    {
        KernelTypes? types = KernelTypes.TryRead();
        Assert.SkipWhen(types is null, "this kernel shows no type information");
        Assert.Equal(types!.OffsetOf("page"u8, "_mapcount"u8) + 4, types.OffsetOf("page"u8, "_refcount"u8)); // the first is in a nameless union
        Assert.InRange(types.SizeOf("page"u8), 56, 256);
        Assert.Equal((-1, -1, -1), (types.OffsetOf("page"u8, "_ref"u8), types.OffsetOf("pag"u8, "flags"u8), types.SizeOf("no such structure"u8)));
        Assert.All((string[])["/dev/null", "/proc/version", "/sys/kernel/btf", "/nowhere"], path => Assert.Null(KernelTypes.TryRead(path)));
    }

    /// <summary>Both ways to empty the kernel's lists do so, with pages that a thread touched just now, on whatever CPU it ran.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void PagesTouchedJustNowLeaveTheListsOfTheirCpu(bool byMoving)
    {
        const int Rounds = 50;
        using LruBatches batches = new() { ByMoving = byMoving };
        ulong[] frames = new ulong[OwnPages.Count];
        uint[] counts = new uint[OwnPages.Private];
        int strays = 0;
        for (int i = 0; i < Rounds; i++)
        {
            OwnPages? fresh = null;
            Thread other = new(() => fresh = new OwnPages());
            other.Start();
            other.Join();
            using (fresh)
            {
                Assert.True(fresh!.TryFind(frames));
                Errno errno = batches.Drain();
                Assert.SkipWhen(errno is Errno.ENOSYS or Errno.EINVAL, $"this kernel cannot: {errno}");
                Assert.Equal(Errno.None, errno);
                Assert.True(Oracle.TryRead(frames.AsSpan(0, OwnPages.Private), counts, out errno), errno.ToString());
                strays += counts.All(count => count == 1) ? 0 : 1;
            }
        }

        Assert.InRange(strays, 0, 5); // the kernel may look at a page, or move it
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _references?.Dispose();
        _own.Dispose();
    }

    private PageReferences Oracle
    {
        get
        {
            Assert.SkipWhen(_references is null, _why);
            return _references!;
        }
    }

    private ulong[] Frames()
    {
        ulong[] frames = new ulong[OwnPages.Count];
        Assert.True(_own.TryFind(frames));
        return frames;
    }

    private bool[] Held()
    {
        bool[] held = new bool[OwnPages.Private];
        Assert.True(Oracle.TryFindHeld(Frames().AsSpan(0, held.Length), held, out Errno errno), errno.ToString());
        return held;
    }

    private uint[] Counts()
    {
        uint[] counts = new uint[OwnPages.Private];
        Assert.True(Oracle.TryRead(Frames().AsSpan(0, counts.Length), counts, out Errno errno), errno.ToString());
        return counts;
    }

    private static List<ulong> Heap(int pid)
    {
        List<Mapping> mappings = [];
        Assert.True(Mapping.TryReadAll($"/proc/{pid}/smaps", mappings));
        Mapping heap = mappings.Single(mapping => mapping.Name == "[heap]");
        ulong[] words = new ulong[(heap.End - heap.Start) / 4096];
        using Pagemap pagemap = Pagemap.TryOpen(pid)!;
        return [.. words.Take(pagemap.ReadWords(heap.Start, words)).Where(word => (word & Pagemap.Present) != 0).Select(word => word & Pagemap.FrameMask)];
    }
}
