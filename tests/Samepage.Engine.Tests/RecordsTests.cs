using Samepage.Engine;

namespace Samepage.EngineTests;

/// <summary>What the records cost.</summary>
public sealed class RecordsTests
{
    private const int Pages = 1_000_000;

    [Fact]
    public void AMillionUniquePagesCostAtMostTwentyFourBytesEach()
    {
        VastMachine machine = new();
        using ScanEngine engine = new(machine);
        SpaceId space = new(1);
        engine.Add(space, new DomainId(1));
        for (int i = 0; i < 3; i++)
        {
            Assert.True(engine.Visit(space));
            engine.EndPass();
        }

        Assert.Equal((Pages, Pages), (engine.PagesScanned, engine.FiguresOf(space).Counts.Unique));
        Assert.InRange(engine.MetadataBytes / (double)Pages, 12, 24);
        engine.Remove(space);
    }

    /// <summary>One space whose pages are all different and were all written once.</summary>
    private sealed class VastMachine : IMachine
    {
        private static readonly PageRun All = new(new PageNumber(0x7f0000), Pages);
        private bool _collected;

        public int PageSize => 16;

        public bool TracksWrites => true;

        public bool TryListAreas(SpaceId space, List<Area> areas, out bool changed)
        {
            changed = areas.Count == 0;
            areas.Clear();
            areas.Add(new Area(All, AreaKind.Mergeable));
            return true;
        }

        public bool TryCollectWritten(SpaceId space, List<Area> areas, bool everything, List<WrittenRun> written)
        {
            written.Clear();
            if (!_collected)
                written.Add(new WrittenRun(All, IsZeroPage: false));
            return _collected = true;
        }

        public bool TryCollectMerged(SpaceId space, List<Area> areas, bool everything, List<MergedRun> merged, out bool unchanged)
        {
            merged.Clear();
            unchanged = false;
            return true;
        }

        public void Read(SpaceId space, PageRun range, Span<byte> content, Span<PageFact> facts)
        {
            for (int i = 0; i < range.Count; i++)
                BitConverter.TryWriteBytes(content[(i * PageSize)..], range.Start.Value + (ulong)i);
            facts.Fill(PageFact.Own);
        }

        public void BeginWriteFrames(DomainId domain, FrameId first, ReadOnlyMemory<byte> content) => throw new InvalidOperationException("nothing is equal here");

        public bool EndWriteFrames() => throw new InvalidOperationException("nothing was begun");

        public bool TryReadFrame(DomainId domain, FrameId frame, Span<byte> content) => throw new InvalidOperationException("nothing is equal here");

        public void Execute(SpaceId space, List<PlannedRun> plan, Span<PageOutcome> outcomes) => throw new InvalidOperationException("nothing is equal here");

        public void FindUnmapped(DomainId domain, FrameId first, Span<bool> unmapped) => unmapped.Fill(true);

        public void FreeFrames(DomainId domain, FrameId first, int count) => throw new InvalidOperationException("nothing is equal here");
    }
}
