using Samepage.Linux.Interop;

namespace Samepage.Linux.ProcFs;

/// <summary>What page tables say of a process's mappings: by <c>PAGEMAP_SCAN</c>, and by the words of pagemap where the kernel has not got that (before 6.7), or forbids it.</summary>
/// <remarks>
/// <para>A word says of a page whether it is there or in swap, and whether it is a file's. What the scan says besides is found so:</para>
/// <list type="bullet">
/// <item><b>The zero page</b> by its frame, which root alone sees; without frames it counts as a page that others map too, as it is. The huge one is called a file's by these kernels, in memory that is no file's.</item>
/// <item><b>Huge pages</b> by the bytes of them that smaps tells of a mapping: as many of its ranges of 2 MiB count as such, from below, as those are, of the ranges that are there in full, and, where frames are seen, in frames that
/// follow each other. A range that was split, and lies in its old frames still, looks the same: then they are as many, and may be others.</item>
/// </list>
/// <para>Reading words takes time by the size of a mapping, whatever is in it, so it is done in pieces; and one of more than a gibibyte of which smaps says that it holds nothing is believed to.</para>
/// <para>One thread at a time.</para>
/// </remarks>
/// <param name="pagemap">The process's.</param>
/// <param name="byWords">Do without the scan, whatever the kernel has.</param>
public sealed class PageSurvey(Pagemap pagemap, bool byWords)
{
    /// <summary>The variable that has the estimate do without the scan, for tests: <c>words</c>.</summary>
    public const string Variable = "SAMEPAGE_PAGEMAP";

    private const ulong Page = 4096, HugeBytes = 2UL << 20, InSwap = 1UL << 62;
    private const int HugePages = (int)(HugeBytes / Page), PagesAtATime = 32 * HugePages;
    private const ulong BelievedEmptyBytes = 1UL << 30;
    private static readonly Lazy<ulong> s_zeroFrame = new(FindZeroFrame);
    private readonly ulong[] _words = new ulong[PagesAtATime];
    private bool _byWords = byWords;
    private ulong _hugeLeft;

    /// <summary>The environment asks to do without the scan.</summary>
    public static bool WordsAreAskedFor => Environment.GetEnvironmentVariable(Variable) == "words";

    /// <summary>Surveys a piece of a mapping, or all of it.</summary>
    /// <param name="mapping">The mapping, as smaps has it.</param>
    /// <param name="from">Where to go on: its start, or what was returned for it last.</param>
    /// <param name="regions">Receives every page that is present or swapped out, with all categories, as <see cref="Pagemap.Survey"/> does; not cleared.</param>
    /// <param name="next">Where to go on; the mapping's end when it is done.</param>
    /// <returns>None; ESRCH when the address space is gone; another when it cannot be read.</returns>
    public Errno Take(in Mapping mapping, ulong from, List<PageRegion> regions, out ulong next)
    {
        next = mapping.End;
        if (!_byWords)
        {
            Errno errno = pagemap.Survey(from, mapping.End, regions);
            if (errno is Errno.None or Errno.ESRCH)
                return errno;
            // ENOTTY from a kernel that has it not, EPERM or ENOSYS from a filter: the words say why if they cannot be had either.
            _byWords = true;
        }

        if (mapping is { HeldBytes: 0, Length: > BelievedEmptyBytes })
            return Errno.None;
        if (from == mapping.Start)
            _hugeLeft = mapping.AnonymousHugeBytes / HugeBytes;
        // So that no range of 2 MiB is parted.
        ulong end = Math.Min(mapping.End, (from & ~(HugeBytes - 1)) + PagesAtATime * Page);
        Span<ulong> words = _words.AsSpan(0, (int)((end - from) / Page));
        Errno refused = pagemap.TryReadWords(from, words, out int known);
        if (refused != Errno.None)
            return refused;
        if (known == 0)
            return Errno.ESRCH;
        next = from + (ulong)known * Page;
        TakeWords(mapping, from, words[..known], regions);
        return Errno.None;
    }

    private void TakeWords(in Mapping mapping, ulong from, ReadOnlySpan<ulong> words, List<PageRegion> regions)
    {
        bool isFile = mapping.Inode != 0 || mapping.Shared;
        for (int i = 0; i < words.Length;)
        {
            int count = 1;
            ulong categories = CategoriesOf(words[i], isFile);
            ulong address = from + (ulong)i * Page;
            if (_hugeLeft > 0 && address % HugeBytes == 0 && i + HugePages <= words.Length && MayBeHuge(words.Slice(i, HugePages), isFile))
            {
                _hugeLeft--;
                (count, categories) = (HugePages, LibC.PAGE_IS_PRESENT | Pagemap.InHugePage);
            }

            i += count;
            if (categories == 0)
                continue;
            ulong end = address + (ulong)count * Page;
            if (regions.Count > 0 && regions[^1] is var last && last.End == address && last.Categories == categories && address > mapping.Start)
                regions[^1] = last with { End = end };
            else
                regions.Add(new PageRegion(address, end, categories));
        }
    }

    private static ulong CategoriesOf(ulong word, bool isFile)
    {
        if ((word & InSwap) != 0)
            return Pagemap.SwappedOut;
        if ((word & Pagemap.Present) == 0)
            return 0;
        if ((word & Pagemap.FilePage) != 0)
            return LibC.PAGE_IS_PRESENT | (isFile ? Pagemap.OfFile : Pagemap.ZeroPage);
        ulong frame = word & Pagemap.FrameMask;
        return LibC.PAGE_IS_PRESENT | (frame != 0 && frame == s_zeroFrame.Value ? Pagemap.ZeroPage : 0);
    }

    private static bool MayBeHuge(ReadOnlySpan<ulong> words, bool isFile)
    {
        ulong first = words[0] & Pagemap.FrameMask;
        if (first % HugePages != 0)
            return false;
        for (int i = 0; i < words.Length; i++)
        {
            ulong frame = words[i] & Pagemap.FrameMask;
            if (CategoriesOf(words[i], isFile) != LibC.PAGE_IS_PRESENT || (first == 0 ? frame != 0 : frame != first + (ulong)i))
                return false;
        }

        return true;
    }

    /// <summary>The frame of the kernel's zero page, as a page of ours shows it that was read and never written; 0 where frames are hidden.</summary>
    private static unsafe ulong FindZeroFrame()
    {
        using Pagemap? own = Pagemap.TryOpen(Environment.ProcessId);
        void* page = LibC.mmap(null, (nuint)Page, LibC.PROT_READ, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS, -1, 0);
        if (own is null || (nint)page == -1)
            return 0;
        byte read = Volatile.Read(ref *(byte*)page); // and used below: a read of which nobody uses anything need not be made
        Span<ulong> word = stackalloc ulong[1];
        int known = own.ReadWords((ulong)page, word);
        _ = LibC.munmap(page, (nuint)Page);
        return read == 0 && known == 1 && (word[0] & Pagemap.Present) != 0 ? word[0] & Pagemap.FrameMask : 0;
    }
}
