using Samepage.Estimate.Figures;
using Samepage.Estimate.Sources;

namespace Samepage.Estimate.Census;

/// <summary>What merging would make of each process's mappings, and pictures of its pages; the last look at a table, for it gives the digests up.</summary>
/// <remarks><para>A mapping of frames serves a run of pages whose frames follow each other, and frames are handed out in the order in which pages are met. So a
/// run goes on where the first copies of two neighbours are neighbours too. 1. Each page that would be merged gets the place of its content's first copy in the
/// domain in place of its digest. 2. Pages are sorted by place. 3. Runs are counted.</para>
/// <para>Each run makes two more mappings at most: its own, and what is left of the area behind it.</para></remarks>
internal sealed class MergePreview(PageSource[] sources, int[] domains, ulong zero)
{
    private const ulong Alone = ulong.MaxValue, Zeros = ulong.MaxValue - 1;
    private const int MappingsOfARun = 2;

    /// <summary>Cells of a picture, at the most.</summary>
    public const int CellsMax = 2048;

    /// <summary>What would become of each source's mappings, by index.</summary>
    public RunFigures[] Runs { get; } = new RunFigures[sources.Length];

    /// <summary>A letter for each cell of a source's pages, by index: see <see cref="PageMap"/>.</summary>
    public string[] Pictures { get; } = [.. sources.Select(_ => "")];

    /// <param name="table">Sorted by content; sorted by place afterwards, without digests.</param>
    /// <param name="mappingsAllowed">Mappings that each source may still get; by index.</param>
    public void Look(PageTable table, long[] mappingsAllowed)
    {
        for (long first = 0, end; first < table.Count; first = end)
        {
            ulong digest = table[first].Digest;
            int domain = domains[table[first].Source];
            end = first + 1;
            while (end < table.Count && table[end].Digest == digest && domains[table[end].Source] == domain)
                end++;
            Mark(table.Slice(first, end), digest == zero);
        }

        table.SortByPlace();
        for (long first = 0, end; first < table.Count; first = end)
        {
            int source = table[first].Source;
            end = table.Find(PageRecord.TagOf(source + 1, 0));
            if (source == PageRecord.SourcesMax - 1)
                end = table.Count;
            ReadOnlySpan<PageRecord> pages = table.Slice(first, end);
            Runs[source] = CountRuns(pages, mappingsAllowed[source]);
            Pictures[source] = Draw(pages);
        }
    }

    private static void Mark(Span<PageRecord> copies, bool zeros)
    {
        int reached = 0;
        ulong firstPlace = 0;
        foreach (PageRecord copy in copies)
        {
            if (copy.Has(PageFlags.Reach) && reached++ == 0)
                firstPlace = copy.Place;
        }

        foreach (ref PageRecord copy in copies)
            copy = new PageRecord(!copy.Has(PageFlags.Reach) ? Alone : zeros ? Zeros : reached > 1 ? firstPlace : Alone, copy.Tag);
    }

    private static RunFigures CountRuns(ReadOnlySpan<PageRecord> pages, long mappingsAllowed)
    {
        SortedDictionary<int, long> lengths = [];
        int length = 0;
        long runs = 0, merged = 0;
        for (int i = 0; i <= pages.Length; i++)
        {
            bool isMerged = i < pages.Length && pages[i].Digest < Zeros;
            bool goesOn = isMerged && length > 0 && pages[i].Place == pages[i - 1].Place + 1 && pages[i].Digest == pages[i - 1].Digest + 1;
            if (!goesOn && length > 0)
            {
                lengths[length] = lengths.GetValueOrDefault(length) + 1;
                (runs, merged, length) = (runs + 1, merged + length, 0);
            }

            length += isMerged ? 1 : 0;
        }

        // Where mappings are short they go to the longest runs, as the daemon has it.
        long left = mappingsAllowed / MappingsOfARun, beyond = 0;
        foreach ((int pages_, long count) in lengths.Reverse())
        {
            long served = Math.Min(count, left);
            left -= served;
            beyond += (count - served) * pages_;
        }

        return new RunFigures(runs, merged, runs * MappingsOfARun, beyond);
    }

    private static string Draw(ReadOnlySpan<PageRecord> pages)
    {
        int cells = Math.Min(pages.Length, CellsMax);
        Span<int> votes = stackalloc int[PageMap.Letters.Length];
        char[] picture = new char[cells];
        for (int cell = 0; cell < cells; cell++)
        {
            votes.Clear();
            foreach (PageRecord page in pages[(int)((long)pages.Length * cell / cells)..(int)((long)pages.Length * (cell + 1) / cells)])
                votes[PageMap.ClassOf(page.Flags, page.Digest == Zeros, page.Digest < Zeros)]++;
            int most = 0;
            for (int i = 1; i < votes.Length; i++)
                most = votes[i] > votes[most] ? i : most;
            picture[cell] = PageMap.Letters[most];
        }

        return new string(picture);
    }
}

/// <summary>What merging would make of a process's mappings.</summary>
/// <param name="Runs">Runs of neighbouring pages that neighbouring frames would serve.</param>
/// <param name="MergedPages">Pages in them.</param>
/// <param name="MappingsNeeded">Mappings more than there are, at the most.</param>
/// <param name="BeyondLimitPages">Pages of runs that the limit of mappings has no room for.</param>
internal readonly record struct RunFigures(long Runs, long MergedPages, long MappingsNeeded, long BeyondLimitPages);

/// <summary>The letters of a picture of pages, each cell by what most of its pages are.</summary>
internal static class PageMap
{
    /// <summary>z zeros, m merged with others, u unique, h in a huge page that is left whole, s shared already, o out of reach.</summary>
    public const string Letters = "zmuhso";

    public static int ClassOf(PageFlags flags, bool zero, bool merged) =>
        (flags & PageFlags.Frame) != 0 ? 4 : (flags & PageFlags.Reach) == 0 ? ((flags & PageFlags.Huge) != 0 ? 3 : 5) : zero ? 0 : merged ? 1 : 2;
}
