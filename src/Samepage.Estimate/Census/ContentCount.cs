using Samepage.Estimate.Figures;
using Samepage.Estimate.Sources;

namespace Samepage.Estimate.Census;

/// <summary>Walks a table sorted by content, and says of every page what it is among its copies.</summary>
/// <remarks>Sources stand in the order of their domains, so within a content the copies of a domain lie together, and within those the ones of a process.</remarks>
internal sealed class ContentCount
{
    private const int Kinds = 16;
    private readonly int[] _domains;
    private readonly Ledger _ledger;
    private readonly ulong _zero;
    private readonly PairCounts _pairs;
    private readonly FrequentContents _frequent;
    private readonly PageFigures?[] _cells;
    private readonly List<int> _holders = [];

    /// <param name="sources">The sources, by index.</param>
    /// <param name="domains">The domain of each.</param>
    /// <param name="ledger">Whose cells receive the figures.</param>
    /// <param name="zero">The digest of a page of zeros.</param>
    public ContentCount(PageSource[] sources, int[] domains, Ledger ledger, ulong zero)
    {
        (_domains, _ledger, _zero) = (domains, ledger, zero);
        _cells = new PageFigures?[sources.Length * Kinds];
        _pairs = new PairCounts(sources);
        _frequent = new FrequentContents();
    }

    /// <summary>Frames that are shared already, each once; 0 where frame numbers are hidden.</summary>
    public long FramesShared { get; private set; }

    /// <summary>What pairs of processes have in common.</summary>
    public PairCounts Pairs => _pairs;

    /// <summary>The contents with the most copies.</summary>
    public FrequentContents Frequent => _frequent;

    /// <summary>Is told every content but zeros with the copies of each domain that merging reaches, where there are any.</summary>
    public Action<ulong, int, long>? OnContent { get; init; }

    /// <summary>Counts a whole table.</summary>
    public void Count(PageTable table)
    {
        for (long first = 0, end; first < table.Count; first = end)
        {
            ulong digest = table[first].Digest;
            end = first + 1;
            while (end < table.Count && table[end].Digest == digest)
                end++;
            Count(digest, table.Slice(first, end));
        }
    }

    private PageFigures CellOf(in PageRecord record) => _cells[record.Source * Kinds + (int)record.Kind] ??= _ledger.CellOf(record.Source, record.Kind);

    private void Count(ulong digest, ReadOnlySpan<PageRecord> copies)
    {
        bool frames = false;
        foreach (PageRecord copy in copies)
            frames |= copy.Has(PageFlags.Frame);
        if (frames)
            FramesShared++; // And where a content has the digest that the frame has as its key, once in 2^64, it is counted too.
        if (digest == _zero)
            CountZeros(copies);
        else
            CountContent(digest, copies);
    }

    private void CountZeros(ReadOnlySpan<PageRecord> copies)
    {
        foreach (PageRecord copy in copies)
        {
            if (copy.Has(PageFlags.Frame))
                continue;
            PageFigures cell = CellOf(copy);
            if (!copy.Has(PageFlags.Reach))
            {
                cell.ZeroOutOfReach++;
                continue;
            }

            cell.Zero++;
            cell.SavedShare++;
            if (copy.Has(PageFlags.Changed))
                continue;
            cell.Stable++;
            cell.StableZero++;
            cell.Unchanged++;
        }
    }

    private void CountContent(ulong digest, ReadOnlySpan<PageRecord> copies)
    {
        _holders.Clear();
        long reached = 0;
        for (int first = 0, end; first < copies.Length; first = end)
        {
            int domain = _domains[copies[first].Source];
            end = first + 1;
            while (end < copies.Length && _domains[copies[end].Source] == domain)
                end++;
            long here = CountDomain(copies[first..end], elsewhere: reached > 0);
            reached += here;
            if (here > 0)
                OnContent?.Invoke(digest, domain, here);
        }

        _pairs.Add(_holders);
        if (reached > 1)
            _frequent.Offer(digest, reached, copies);
    }

    /// <returns>Pages of the content that merging reaches in this domain.</returns>
    private long CountDomain(ReadOnlySpan<PageRecord> copies, bool elsewhere)
    {
        long reached = 0;
        int processes = 0, last = -1;
        foreach (PageRecord copy in copies)
        {
            if (!copy.Has(PageFlags.Reach))
                continue;
            reached++;
            processes += copy.Source == last ? 0 : 1;
            last = copy.Source;
        }

        double share = reached == 0 ? 0 : (double)(reached - 1) / reached;
        bool held = reached > 0, stableBefore = false;
        last = -1;
        foreach (PageRecord copy in copies)
        {
            if (copy.Has(PageFlags.Frame))
                continue;
            PageFigures cell = CellOf(copy);
            if (!copy.Has(PageFlags.Reach))
            {
                cell.DuplicatesOutOfReach += held ? 1 : 0;
                held = true;
                continue;
            }

            if (copy.Source == last)
                cell.Internal++;
            else if (last >= 0)
                cell.InDomain++;
            else if (elsewhere)
                cell.AcrossDomains++;
            else
                cell.Unique++;
            if (copy.Source != last)
                _holders.Add(copy.Source);
            last = copy.Source;
            cell.WithOthers += processes > 1 ? 1 : 0;
            cell.SavedShare += share;
            if (copy.Has(PageFlags.Changed))
                continue;
            cell.Unchanged++;
            cell.Stable += stableBefore ? 1 : 0;
            stableBefore = true;
        }

        return reached;
    }
}

/// <summary>How many contents two processes have in common, for the processes with the most memory.</summary>
internal sealed class PairCounts
{
    public const int SourcesMax = 48;
    private readonly int[] _places;
    private readonly long[,] _contents;

    public PairCounts(PageSource[] sources)
    {
        Sources = [.. sources.OrderByDescending(source => source.ExpectedPages).Take(SourcesMax).OrderBy(source => source.Index)];
        _places = new int[sources.Length];
        Array.Fill(_places, -1);
        for (int i = 0; i < Sources.Length; i++)
            _places[Sources[i].Index] = i;
        _contents = new long[Sources.Length, Sources.Length];
    }

    /// <summary>The processes that are looked at.</summary>
    public PageSource[] Sources { get; }

    /// <summary>Contents that two hold, or that one holds itself.</summary>
    public long this[int one, int other] => _contents[Math.Min(one, other), Math.Max(one, other)];

    /// <summary>Enters one content.</summary>
    /// <param name="holders">Who holds it, rising, each once.</param>
    public void Add(List<int> holders)
    {
        for (int i = 0; i < holders.Count; i++)
        {
            int one = _places[holders[i]];
            for (int j = i; one >= 0 && j < holders.Count; j++)
            {
                if (_places[holders[j]] is >= 0 and int other)
                    _contents[one, other]++;
            }
        }
    }
}

/// <summary>The contents with the most copies, but for zeros.</summary>
internal sealed class FrequentContents
{
    private const int Most = 20;
    private readonly PriorityQueue<Frequent, long> _least = new();

    /// <summary>Enters a content, if it has more copies than the least that is kept.</summary>
    public void Offer(ulong digest, long copies, ReadOnlySpan<PageRecord> records)
    {
        if (_least.Count == Most && _least.TryPeek(out _, out long least) && copies <= least)
            return;
        int sources = 0, last = -1;
        PageRecord example = default;
        foreach (PageRecord record in records)
        {
            if (!record.Has(PageFlags.Reach))
                continue;
            if (last < 0)
                example = record;
            sources += record.Source == last ? 0 : 1;
            last = record.Source;
        }

        if (_least.Count == Most)
            _ = _least.Dequeue();
        _least.Enqueue(new Frequent(digest, copies, sources, example), copies);
    }

    /// <summary>Those that were kept, the most frequent first.</summary>
    public IEnumerable<Frequent> All => from entry in _least.UnorderedItems orderby entry.Priority descending, entry.Element.Digest select entry.Element;

    /// <param name="Digest">Its digest.</param>
    /// <param name="Copies">Pages that merging reaches.</param>
    /// <param name="Sources">Processes that hold it.</param>
    /// <param name="Example">One of the pages.</param>
    public readonly record struct Frequent(ulong Digest, long Copies, int Sources, PageRecord Example);
}
