using Samepage.Linux;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.LinuxTests;

/// <summary>Large folios are seen as such, whole or mapped by entries, taken apart where nobody holds them, and left where somebody does.</summary>
public sealed unsafe class LargeFoliosTests : IDisposable
{
    private const int Page = 4096, Huge = 2 << 20, MADV_HUGEPAGE = 14;
    private readonly byte* _room = (byte*)LibC.mmap(null, 3 * Huge, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS, -1, 0);
    private readonly Pagemap _pagemap = Pagemap.TryOpen(Environment.ProcessId)!;

    public LargeFoliosTests()
    {
        // So that it is no part of a mapping of somebody else's, who counts what is in his.
        _ = LibC.mprotect(_room, Page, LibC.PROT_NONE);
        _ = LibC.mprotect(_room + (3 * Huge) - Page, Page, LibC.PROT_NONE);
    }

    private byte* Memory => (byte*)(((nuint)_room + Page + Huge - 1) / Huge * Huge);

    private ulong Start => (ulong)Memory;

    [Fact]
    public void PagesByThemselvesAreNotLarge()
    {
        NeedsRoot();
        Assert.Equal(0, LibC.madvise(Memory, Huge, LibC.MADV_NOHUGEPAGE));
        new Span<byte>(Memory, Huge).Fill(7);
        Assert.Equal(Start + Huge, First(Start, Start + Huge));
        Assert.Equal(Start, Folios().EndOf(_pagemap, Start, Start + Huge));
        Assert.Empty(Listed());
        List<ulong> frames = [], pages = [];
        Assert.Equal(Start + 4 * Page, Folios().FindFirst(_pagemap, Start + Page, Start + 4 * Page, Start + Huge, frames, pages));
        Assert.Equal([Start + Page, Start + 2 * Page, Start + 3 * Page], pages);
        Assert.DoesNotContain(0UL, frames);
    }

    [Fact]
    public void AHugePageIsLargeAlsoWhereItIsMappedByEntries()
    {
        MakeHuge();
        Assert.Equal(Start, First(Start, Start + Huge));
        Assert.Equal([Start], Listed());
        Assert.Equal(Start + Huge, Folios().EndOf(_pagemap, Start, Start + Huge));
        // Behind what is not there, it begins where it begins.
        Assert.Equal(Start, First(Start - Page, Start + Huge));
        Assert.Equal(0, LibC.mprotect(Memory + 5 * Page, Page, LibC.PROT_READ));
        Assert.Equal(Start + 9 * Page, First(Start + 9 * Page, Start + Huge));
    }

    [Fact]
    public void WhatNobodyHoldsIsTakenApartAndKeepsItsContent()
    {
        MakeHuge();
        using FileDescriptor self = Self();
        Assert.Equal(Errno.None, PidFd.TryMakeCold(self, Start + 3 * Page, Page));
        Assert.Equal(Start + Huge, First(Start, Start + Huge));
        Assert.Equal(-1, new ReadOnlySpan<byte>(Memory, Huge).IndexOfAnyExcept((byte)7));
    }

    [Fact]
    public void WhatAPipeHoldsStaysAsItIs()
    {
        MakeHuge();
        using FileDescriptor self = Self();
        int* ends = stackalloc int[2];
        Assert.Equal(0, LibC.pipe2(ends, LibC.O_CLOEXEC));
        using FileDescriptor reading = new(ends[0]), writing = new(ends[1]);
        LibC.iovec lent = new() { iov_base = (nuint)Memory + 100 * Page, iov_len = Page };
        Assert.Equal(Page, LibC.vmsplice(writing.Number, &lent, 1, 0));
        _ = PidFd.TryMakeCold(self, Start + 3 * Page, Page);
        Assert.Equal(Start, First(Start, Start + Huge));
        Assert.Equal(Start + Huge, Folios().EndOf(_pagemap, Start, Start + Huge));
    }

    /// <summary>Nothing is moved where it cannot be told.</summary>
    [Fact]
    public void WithoutFlagsEveryPageCountsAsLarge()
    {
        new Span<byte>(Memory, Page).Fill(7);
        Assert.Equal(Start, new LargeFolios(null).FindFirst(_pagemap, Start, Start + Page, Start + Page, [], []));
    }

    public void Dispose()
    {
        _pagemap.Dispose();
        _ = LibC.munmap(_room, 3 * Huge);
    }

    private void MakeHuge()
    {
        NeedsRoot();
        Assert.Equal(0, LibC.madvise(Memory, Huge, MADV_HUGEPAGE));
        new Span<byte>(Memory, Huge).Fill(7);
        List<Mapping> mappings = [];
        Assert.True(Mapping.TryReadAll("/proc/self/smaps", mappings));
        Assert.SkipUnless(mappings.Find(mapping => mapping.Start <= Start && Start < mapping.End).AnonymousHugeBytes == Huge, "this machine gives no huge pages");
    }

    private static LargeFolios Folios() => new(FrameFlags.Here);

    private ulong First(ulong start, ulong end) => Folios().FindFirst(_pagemap, start, end, end, [], []);

    private List<ulong> Listed()
    {
        List<ulong> pages = [];
        Folios().List(_pagemap, Start, Start + Huge, pages);
        return pages;
    }

    private static FileDescriptor Self()
    {
        Assert.True(PidFd.TryOpen(Environment.ProcessId, out FileDescriptor? self, out _));
        return self!;
    }

    private static void NeedsRoot() => Assert.SkipUnless(Environment.IsPrivilegedProcess, "needs root: pages are told by their frames");
}
