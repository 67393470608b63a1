using System.Runtime.InteropServices;
using Samepage.Linux;
using Samepage.Linux.Interop;
using Samepage.Linux.ProcFs;

namespace Samepage.LinuxTests;

/// <summary>The words of pagemap say what PAGEMAP_SCAN says, on memory of our own that has pages of every kind.</summary>
public sealed unsafe partial class PageSurveyTests : IDisposable
{
    private const int Page = 4096, ZeroPages = 5, MADV_HUGEPAGE = 14, MADV_NOHUGEPAGE = 15;
    private const nuint Bytes = 80 << 20;
    private readonly byte* _memory = (byte*)LibC.mmap(null, Bytes, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS, -1, 0);

    [Fact]
    public void WordsSayWhatAScanSays()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "needs root: the zero page is told by its frame");
        using Pagemap pagemap = Pagemap.TryOpen(Environment.ProcessId)!;
        Assert.SkipWhen(pagemap.Survey((ulong)_memory, (ulong)_memory + Page, []) == Errno.ENOTTY, "this kernel has no PAGEMAP_SCAN to compare with");
        Fill();
        Mapping mapping = Find((ulong)_memory);
        List<PageRegion> scanned = Survey(pagemap, mapping, byWords: false), words = Survey(pagemap, mapping, byWords: true);
        Assert.Equal(scanned, words);
        Assert.Equal(ZeroPagesHere, scanned.Count(region => (region.Categories & Pagemap.ZeroPage) != 0));
        Assert.True(scanned.Count > 20, $"{scanned.Count} regions");
    }

    /// <summary>The ends of the memory are no whole ranges, and so in no huge pages.</summary>
    [Fact]
    public void WordsTellHugePagesFromOthers()
    {
        using Pagemap pagemap = Pagemap.TryOpen(Environment.ProcessId)!;
        Assert.SkipWhen(pagemap.Survey((ulong)_memory, (ulong)_memory + Page, []) == Errno.ENOTTY, "this kernel has no PAGEMAP_SCAN to compare with");
        byte* memory = _memory + Page;
        _ = LibC.munmap(_memory, Page);
        _ = madvise(memory, Bytes - Page, MADV_HUGEPAGE);
        new Span<byte>(memory, (int)Bytes - Page).Fill(7);
        Mapping mapping = Find((ulong)memory);
        Assert.SkipWhen(mapping.AnonymousHugeBytes == 0, "this machine gives no huge pages");
        // Which of them they are the words cannot always tell.
        Assert.Equal(Pages(Survey(pagemap, mapping, byWords: false)), Pages(Survey(pagemap, mapping, byWords: true)));

        static (long All, long Huge) Pages(List<PageRegion> regions) =>
            (regions.Sum(region => (long)(region.End - region.Start)), regions.Where(region => (region.Categories & Pagemap.InHugePage) != 0).Sum(region => (long)(region.End - region.Start)));
    }

    /// <summary>Without PAGEMAP_SCAN the zero page is told by root alone; where pages are is seen by everybody.</summary>
    [Fact]
    public void WordsSayWherePagesAre()
    {
        Fill();
        using Pagemap pagemap = Pagemap.TryOpen(Environment.ProcessId)!;
        Mapping mapping = Find((ulong)_memory);
        long pages = Survey(pagemap, mapping, byWords: true).Sum(region => (long)(region.End - region.Start) / Page);
        Assert.Equal((long)mapping.HeldBytes / Page + ZeroPagesHere, pages);
    }

    [Fact]
    public void AnEmptyMappingOfManyGibibytesTakesNoTime()
    {
        using Pagemap pagemap = Pagemap.TryOpen(Environment.ProcessId)!;
        nuint huge = (nuint)1 << 44;
        byte* reserved = (byte*)LibC.mmap(null, huge, LibC.PROT_NONE, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | LibC.MAP_NORESERVE, -1, 0);
        Assert.NotEqual(-1, (nint)reserved);
        Mapping mapping = Find((ulong)reserved);
        PageSurvey survey = new(pagemap, byWords: true);
        List<PageRegion> regions = [];
        Assert.Equal(Errno.None, survey.Take(mapping, mapping.Start, regions, out ulong next));
        Assert.Equal((mapping.End, 0), (next, regions.Count));
        _ = LibC.munmap(reserved, huge);
    }

    /// <inheritdoc/>
    public void Dispose() => _ = LibC.munmap(_memory, Bytes);

    /// <summary>Pages and holes, and pages that were only read, in two of the pieces that are read at once.</summary>
    private void Fill()
    {
        _ = madvise(_memory, Bytes, MADV_NOHUGEPAGE);
        for (int i = 0; i < 12; i++)
            _memory[(nuint)(i * 3) * Page] = (byte)(i + 1);
        for (int i = 0; i < ZeroPages; i++)
            Assert.Equal(0, _memory[(nuint)(100 + 2 * i) * Page]);
        for (int i = 0; i < 20; i++)
            _memory[Bytes - (nuint)(i + 1) * 2 * Page] = 9;
    }

    /// <summary>Some kernels for virtual machines give whoever reads a page that was never written a page of his own, in place of the zero page.</summary>
    private int ZeroPagesHere
    {
        get
        {
            const ulong OnlyHere = 1UL << 56;
            using Pagemap pagemap = Pagemap.TryOpen(Environment.ProcessId)!;
            Span<ulong> word = stackalloc ulong[1];
            Assert.Equal(1, pagemap.ReadWords((ulong)_memory + (100 * Page), word));
            Assert.NotEqual(0UL, word[0] & Pagemap.Present);
            return (word[0] & OnlyHere) == 0 ? ZeroPages : 0;
        }
    }

    private static Mapping Find(ulong address)
    {
        List<Mapping> mappings = [];
        Assert.True(Mapping.TryReadAll("/proc/self/smaps", mappings));
        return mappings.Single(mapping => mapping.Start <= address && address < mapping.End);
    }

    private static List<PageRegion> Survey(Pagemap pagemap, in Mapping mapping, bool byWords)
    {
        PageSurvey survey = new(pagemap, byWords);
        List<PageRegion> regions = [];
        for (ulong from = mapping.Start; from < mapping.End;)
            Assert.Equal(Errno.None, survey.Take(mapping, from, regions, out from));
        return regions;
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int madvise(void* addr, nuint length, int advice);
}
