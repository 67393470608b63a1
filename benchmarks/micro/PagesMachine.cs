using Samepage.Engine;

namespace Samepage.MicroBench;

/// <summary>A machine whose pages never change and merge at once: a page is 16 bytes, made up when it is read.</summary>
/// <param name="pagesPerSpace">Pages of each space.</param>
/// <param name="content">What is in a page of a space.</param>
internal sealed class PagesMachine(long pagesPerSpace, Func<long, long, ulong> content) : IMachine
{
    private readonly HashSet<int> _collected = [];
    private readonly PageRun _all = new(new PageNumber(0x7f0000), pagesPerSpace);

    public int PageSize => 16;

    public bool TracksWrites { get; init; }

    public bool TryListAreas(SpaceId space, List<Area> areas, out bool changed)
    {
        changed = areas.Count == 0;
        areas.Clear();
        areas.Add(new Area(_all, AreaKind.Mergeable));
        return true;
    }

    public bool TryCollectWritten(SpaceId space, List<Area> areas, bool everything, List<WrittenRun> written)
    {
        written.Clear();
        if (_collected.Add(space.Value) || everything || !TracksWrites)
            written.Add(new WrittenRun(_all, IsZeroPage: false));
        return true;
    }

    /// <summary>What is merged stays so.</summary>
    public bool TryCollectMerged(SpaceId space, List<Area> areas, bool everything, List<MergedRun> merged, out bool unchanged)
    {
        merged.Clear();
        return unchanged = true;
    }

    public void Read(SpaceId space, PageRun range, Span<byte> content, Span<PageFact> facts)
    {
        for (int i = 0; i < range.Count; i++)
            BitConverter.TryWriteBytes(content[(i * PageSize)..], Content(space, (long)range.Start.Value + i));
        facts.Fill(PageFact.Own);
    }

    public void BeginWriteFrames(DomainId domain, FrameId first, ReadOnlyMemory<byte> content)
    {
    }

    public bool EndWriteFrames() => true;

    public bool TryReadFrame(DomainId domain, FrameId frame, Span<byte> content) => false;

    public void Execute(SpaceId space, List<PlannedRun> plan, Span<PageOutcome> outcomes) => outcomes.Clear();

    public void FindUnmapped(DomainId domain, FrameId first, Span<bool> unmapped) => unmapped.Fill(true);

    public void FreeFrames(DomainId domain, FrameId first, int count)
    {
    }

    private ulong Content(SpaceId space, long page) => content(space.Value, page - (long)_all.Start.Value);
}
