using System.Buffers.Binary;
using Samepage.Estimate;
using Samepage.Estimate.Census;
using Samepage.Estimate.Figures;
using Samepage.Estimate.Sources;

namespace Samepage.EstimateTests;

/// <summary>A source whose pages are written down: a number for each content, 0 for zeros.</summary>
internal sealed class ListedSource(int pid, string domain, string obstacle = "") : PageSource(new SourceDescription(pid, $"program {pid}", domain, obstacle))
{
    private readonly List<(MemoryKind Kind, PageFlags Flags, PageFind Find, ulong[] Contents, ulong Start)> _areas = [];
    private ulong _next = 16;

    internal override long ExpectedPages => _areas.Sum(area => area.Contents.Length);

    /// <summary>What happens when it is listed: for changes between two samples.</summary>
    public Action<ListedSource>? BeforeListing { get; set; }

    /// <summary>It ends when it is listed.</summary>
    public bool EndsMeanwhile { get; init; }

    /// <summary>Adds an area, a page away from the one before.</summary>
    public ListedSource With(IEnumerable<ulong> contents, MemoryKind kind = MemoryKind.Anonymous, PageFlags flags = PageFlags.Reach, PageFind find = PageFind.Own)
    {
        _areas.Add((kind, flags, find, [.. contents], _next));
        _next += (ulong)_areas[^1].Contents.Length + 1;
        return this;
    }

    /// <summary>The contents of an area, to be changed.</summary>
    public ulong[] Area(int index) => _areas[index].Contents;

    internal override IEnumerable<Batch> List(Ledger ledger)
    {
        BeforeListing?.Invoke(this);
        Mappings = _areas.Count;
        IsGone = EndsMeanwhile;
        foreach (var area in _areas)
        {
            ledger.Enter(Index, area.Kind, new PageFigures
            {
                Resident = area.Contents.Length,
                Huge = area.Flags == PageFlags.Huge ? area.Contents.Length : 0,
                HugeReached = area.Flags == (PageFlags.Huge | PageFlags.Reach) ? area.Contents.Length : 0,
            });
            for (int done = 0; done < area.Contents.Length;)
            {
                Batch batch = new(this);
                done += batch.Take(new Piece(area.Start + (ulong)done, area.Contents.Length - done, area.Kind, area.Flags));
                yield return batch;
            }
        }
    }

    internal override bool TryRead(Batch batch, PageFound[] pages, byte[] content)
    {
        int at = 0;
        foreach (Piece piece in batch.Pieces)
        {
            for (int i = 0; i < piece.Count; i++, at++)
            {
                var area = AreaOf(piece.Start + (ulong)i);
                ulong number = area.Contents[(int)(piece.Start + (ulong)i - area.Start)];
                pages[at] = new PageFound(area.Find, area.Find == PageFind.Shared ? number : 0);
                Fill(number, content.AsSpan(at * PageBytes, PageBytes));
            }
        }

        return true;
    }

    internal override bool TryReadPage(ulong page, Span<byte> content)
    {
        var area = AreaOf(page);
        Fill(area.Contents[(int)(page - area.Start)], content);
        return true;
    }

    private (MemoryKind Kind, PageFlags Flags, PageFind Find, ulong[] Contents, ulong Start) AreaOf(ulong page) => _areas.Last(area => area.Start <= page);

    private static void Fill(ulong number, Span<byte> page)
    {
        page.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(page, number);
        BinaryPrimitives.WriteUInt64LittleEndian(page[2048..], number * 3);
    }
}

/// <summary>Takes a census of listed sources.</summary>
internal static class Counted
{
    public static readonly CostModel Costs = new(22, 1000, 100_000);

    public static EstimateReport Of(params PageSource[] sources) => Of(new CensusOptions { Cost = Costs, Threads = 3 }, sources);

    public static EstimateReport Of(CensusOptions options, params PageSource[] sources)
    {
        using CensusRun census = new(sources, options);
        return census.Run(CancellationToken.None);
    }

    /// <summary>Numbers that no other call gives.</summary>
    public static IEnumerable<ulong> Fresh(int count) => Enumerable.Range(0, count).Select(_ => Interlocked.Increment(ref s_fresh));

    public static IEnumerable<ulong> Same(ulong number, int count) => Enumerable.Repeat(number, count);

    private static ulong s_fresh = 1UL << 40;
}
