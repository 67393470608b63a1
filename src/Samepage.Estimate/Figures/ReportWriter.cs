using Samepage.Estimate.Census;
using Samepage.Estimate.Sources;

namespace Samepage.Estimate.Figures;

/// <summary>Makes the report of what a census counted.</summary>
internal sealed class ReportWriter(PageSource[] sources, string[] domainNames, int[] domains, Ledger ledger, CensusOptions options)
{
    private const int PageBytes = PageSource.PageBytes;

    public EstimateReport Write(ContentCount count, SampledSaving saving, MergePreview preview, int mappingLimit, List<SamplePoint> points, Effort effort, bool partial, bool framesHidden)
    {
        (int Source, MemoryKind Kind, PageFigures Figures)[] cells = [.. ledger.Cells.Select(cell => (cell.Source, cell.Kind, Scale(cell.Figures)))];
        SourceEstimate[] processes = [.. sources.Select(source => Describe(source, CensusRun.Sum(cells.Where(cell => cell.Source == source.Index).Select(cell => cell.Figures)), preview))];
        PageFigures all = CensusRun.Sum(cells.Select(cell => cell.Figures));
        Costs costs = CostsOf(processes, all, mappingLimit);
        long beyond = processes.Sum(process => process.BeyondLimitPages);
        Saving saved = saving.All;
        long savedPages = Math.Max(0, all.Zero + saved.Pages - beyond);
        Totals totals = new(all, savedPages, Math.Max(0, all.Zero + saved.Low - beyond), Math.Max(0, all.Zero + saved.High - beyond), saving.StableOf(all),
            count.FramesShared * options.OneOf, savedPages * PageBytes - costs.RecordBytes - costs.AgentBytes - costs.DaemonBytes);
        return new EstimateReport
        {
            Partial = partial,
            FramesHidden = framesHidden,
            PageSize = PageBytes,
            Sample = 1.0 / options.OneOf,
            Totals = totals,
            Costs = costs,
            Domains = [.. domainNames.Select((name, domain) => Domain(name, domain, cells, saving))],
            Processes = processes,
            Kinds = [.. cells.GroupBy(cell => cell.Kind).OrderBy(kind => kind.Key).Select(kind => new KindEstimate(kind.Key, CensusRun.Sum(kind.Select(cell => cell.Figures))))],
            Pairs = PairsOf(count.Pairs),
            Contents = [.. count.Frequent.All.Select(Describe)],
            Samples = points,
            Clones = options.Clones > 1 ? ClonesOf(all, processes) : null,
            Effort = effort,
        };
    }

    /// <summary>A sample keeps one content of so many, and all zeros.</summary>
    private PageFigures Scale(PageFigures figures) => options.OneOf == 1 ? figures : figures with
    {
        Internal = figures.Internal * options.OneOf,
        InDomain = figures.InDomain * options.OneOf,
        AcrossDomains = figures.AcrossDomains * options.OneOf,
        Unique = figures.Unique * options.OneOf,
        WithOthers = figures.WithOthers * options.OneOf,
        DuplicatesOutOfReach = figures.DuplicatesOutOfReach * options.OneOf,
        Stable = figures.StableZero + (figures.Stable - figures.StableZero) * options.OneOf,
        Unchanged = figures.StableZero + (figures.Unchanged - figures.StableZero) * options.OneOf,
        SavedShare = figures.Zero + (figures.SavedShare - figures.Zero) * options.OneOf,
    };

    private DomainEstimate Domain(string name, int domain, (int Source, MemoryKind, PageFigures Figures)[] cells, SampledSaving saving)
    {
        PageFigures sum = CensusRun.Sum(cells.Where(cell => domains[cell.Source] == domain).Select(cell => cell.Figures));
        Saving saved = saving[domain];
        return new DomainEstimate(name, domains.Count(other => other == domain), sum, sum.Zero + saved.Pages, sum.Zero + saved.Low, sum.Zero + saved.High);
    }

    private SourceEstimate Describe(PageSource source, PageFigures figures, MergePreview preview)
    {
        SourceDescription what = source.Description;
        RunFigures runs = preview.Runs[source.Index];
        bool served = what.Pid != 0 && what.Obstacle.Length == 0 && !source.IsGone;
        long profit = (long)((figures.SavedShare - runs.BeyondLimitPages) * PageBytes - figures.Tracked * options.Cost.RecordBytesOfAPage) - (served ? options.Cost.AgentBytes : 0);
        return new SourceEstimate(what.Pid, what.Name, what.Domain, source.Refusal.Length > 0 ? source.Refusal : what.Obstacle, source.IsGone, figures, profit, source.Mappings,
            runs.MappingsNeeded, runs.BeyondLimitPages, [.. ledger.LeftOf(source.Index)], preview.Pictures[source.Index])
        {
            Unread = source.Refusal.Length > 0 && !source.IsGone,
        };
    }

    private Costs CostsOf(SourceEstimate[] processes, PageFigures all, int mappingLimit)
    {
        int served = processes.Count(process => process.Pid != 0 && process.Obstacle.Length == 0);
        return new Costs((long)(all.Tracked * options.Cost.RecordBytesOfAPage), served * options.Cost.AgentBytes, options.Cost.DaemonBytes, mappingLimit);
    }

    /// <summary>n clones hold each page n times: all but one of them are saved, and what one has in itself besides.</summary>
    private ClonesEstimate ClonesOf(PageFigures one, SourceEstimate[] processes)
    {
        long more = options.Clones - 1, saved = more * one.Tracked + one.Saved, later = more * one.Unchanged + one.Stable;
        Costs each = CostsOf(processes, one, 0);
        long costs = options.Clones * (each.RecordBytes + each.AgentBytes) + each.DaemonBytes;
        return new ClonesEstimate(options.Clones, options.Clones * one.Tracked, saved, later, saved * PageBytes - costs, later * PageBytes - costs);
    }

    private PairEstimate[] PairsOf(PairCounts pairs) =>
        [.. from one in Enumerable.Range(0, pairs.Sources.Length)
            from other in Enumerable.Range(one, pairs.Sources.Length - one)
            where pairs[one, other] > 0
            select new PairEstimate(pairs.Sources[one].Index, pairs.Sources[other].Index, pairs[one, other] * options.OneOf)];

    private ContentEstimate Describe(FrequentContents.Frequent content)
    {
        Span<byte> page = stackalloc byte[PageBytes];
        bool seen = sources[content.Example.Source].TryReadPage(content.Example.Page, page);
        return new ContentEstimate($"{content.Digest:x16}", content.Copies, content.Sources, seen ? ContentGuess.Of(page) : "", seen && options.Preview ? ContentGuess.Preview(page) : "");
    }
}
