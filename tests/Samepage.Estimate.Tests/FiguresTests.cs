using Samepage.Estimate;
using Samepage.Estimate.Census;
using Samepage.Estimate.Figures;
using Samepage.Estimate.Sources;

namespace Samepage.EstimateTests;

/// <summary>Sources whose pages are known, and figures that must be exact.</summary>
public sealed class FiguresTests
{
    [Fact]
    public void KnownNumbersComeOutExactly()
    {
        ulong[] common = [.. Counted.Fresh(100)];
        EstimateReport report = Counted.Of(
            new ListedSource(1, "uid:1").With(Counted.Same(0, 7)).With(common).With(Counted.Same(5, 4)).With(Counted.Fresh(30)),
            new ListedSource(2, "uid:1").With(Counted.Same(0, 3)).With(common).With(Counted.Fresh(20)),
            new ListedSource(3, "uid:2").With(common.Take(40)).With(Counted.Fresh(10)));
        PageFigures all = report.Totals.Figures;
        Assert.Equal((10, 3, 100, 40), (all.Zero, all.Internal, all.InDomain, all.AcrossDomains));
        Assert.Equal(100 + 1 + 30 + 20 + 10, all.Unique);
        Assert.Equal(all.Resident, all.Tracked);
        Assert.Equal(113, report.Totals.SavedPages);
        Assert.Equal((113L, 0L), (report.Domains[0].SavedPages, report.Domains[1].SavedPages));
        Assert.Equal(113 * 4096 - all.Tracked * 22 - 3000 - 100_000, report.Totals.ProfitBytes);
        Assert.Equal((100L, 100L, 0L), (report.Processes[0].Figures.WithOthers, report.Processes[1].Figures.WithOthers, report.Processes[2].Figures.WithOthers));
        Assert.Equal(113, report.Processes.Sum(process => process.Figures.SavedShare), 6);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void RandomSourcesComeOutAsAPlainCountHasThem(int seed)
    {
        Random random = new(seed);
        ListedSource[] sources = [.. Enumerable.Range(1, 9).Select(pid => new ListedSource(pid, $"uid:{pid % 3}"))];
        List<(int Pid, string Domain, ulong Content)> pages = [];
        foreach (ListedSource source in sources)
        {
            ulong[] contents = [.. Enumerable.Range(0, random.Next(2000)).Select(_ => (ulong)(random.Next(4) == 0 ? random.Next(6) : random.Next(4000)))];
            source.With(contents);
            pages.AddRange(contents.Select(content => (source.Description.Pid, source.Description.Domain, content)));
        }

        PageFigures all = Counted.Of(sources).Totals.Figures;
        var others = pages.Where(page => page.Content != 0).ToArray();
        long inProcess = others.Distinct().Count();
        long inDomain = others.Select(page => (page.Domain, page.Content)).Distinct().Count();
        long ever = others.Select(page => page.Content).Distinct().Count();
        Assert.Equal(pages.Count - others.Length, all.Zero);
        Assert.Equal((others.Length - inProcess, inProcess - inDomain, inDomain - ever, ever), (all.Internal, all.InDomain, all.AcrossDomains, all.Unique));
        Assert.Equal(all.Zero + all.Internal + all.InDomain, all.SavedShare, 3);
        Assert.Equal(all.Saved, all.Stable);
    }

    [Fact]
    public void WhatIsOutOfReachSavesNothingAndIsCountedApart()
    {
        ulong[] common = [.. Counted.Fresh(10)];
        EstimateReport report = Counted.Of(
            new ListedSource(1, "uid:1").With(common).With(common.Take(4), MemoryKind.Anonymous, PageFlags.Huge).With(Counted.Same(0, 5), MemoryKind.MainStack, PageFlags.None),
            new ListedSource(2, "uid:1", "under a seccomp filter").With(common, flags: PageFlags.None));
        PageFigures all = report.Totals.Figures;
        Assert.Equal((0, 14, 5, 4), (all.Saved, all.DuplicatesOutOfReach, all.ZeroOutOfReach, all.Huge));
        Assert.Equal(10, all.Unique);
        Assert.Equal("under a seccomp filter", report.Processes[1].Obstacle);
        Assert.Equal(1000, report.Costs.AgentBytes);
    }

    [Fact]
    public void HugePagesThatMergingSplitsCountAsAnyPageDoes()
    {
        ulong[] common = [.. Counted.Fresh(10)];
        EstimateReport report = Counted.Of(
            new ListedSource(1, "uid:1").With(common, flags: PageFlags.Huge | PageFlags.Reach).With(Counted.Same(0, 3), flags: PageFlags.Huge | PageFlags.Reach),
            new ListedSource(2, "uid:1").With(common));
        PageFigures all = report.Totals.Figures;
        Assert.Equal((13, 3, 10, 10, 0), (all.Saved, all.Zero, all.InDomain, all.Unique, all.DuplicatesOutOfReach));
        Assert.Equal((0, 13), (all.Huge, all.HugeReached));
        Assert.Equal("mmmmmmmmmmzzz", report.Processes[0].Picture);
    }

    [Fact]
    public void PagesOnOneFrameAreSharedAlreadyAndTheFrameCountsOnce()
    {
        EstimateReport report = Counted.Of(
            new ListedSource(1, "uid:1").With([100, 101, 102], find: PageFind.Shared),
            new ListedSource(2, "uid:1").With([100, 101], find: PageFind.Shared),
            new ListedSource(3, "uid:1").With([0], find: PageFind.Shared).With([1, 2], find: PageFind.Unread).With([3], find: PageFind.Absent));
        Assert.Equal((6, 3, 0), (report.Totals.Figures.Shared, report.Totals.FramesShared, report.Totals.SavedPages));
        Assert.True(report.FramesHidden);
        Assert.Equal(2, report.Totals.Figures.Unread);
        Assert.Equal(8, report.Totals.Figures.Resident);
    }

    [Fact]
    public void KindsAddUpToEverything()
    {
        ulong[] common = [.. Counted.Fresh(10)];
        EstimateReport report = Counted.Of(new ListedSource(1, "uid:1").With(common, MemoryKind.Heap).With(common, MemoryKind.ThreadStack).With(Counted.Same(0, 2), MemoryKind.Heap));
        Assert.Equal([MemoryKind.Heap, MemoryKind.ThreadStack], report.Kinds.Select(kind => kind.Kind));
        Assert.Equal((2, 10), (report.Kinds[0].Figures.Saved, report.Kinds[1].Figures.Saved));
        Assert.Equal(report.Totals.Figures, CensusRun.Sum(report.Kinds.Select(kind => kind.Figures)));
    }

    [Fact]
    public void AProcessThatEndsMeanwhileIsNotCounted()
    {
        ulong[] common = [.. Counted.Fresh(10)];
        EstimateReport report = Counted.Of(new ListedSource(1, "uid:1").With(common), new ListedSource(2, "uid:1") { EndsMeanwhile = true }.With(common));
        Assert.True(report.Processes[1].Gone);
        Assert.Equal((0, 10), (report.Totals.SavedPages, report.Totals.Figures.Resident));
    }

    [Fact]
    public void WhatPairsHaveInCommonIsCountedByContent()
    {
        ulong[] common = [.. Counted.Fresh(10)];
        EstimateReport report = Counted.Of(
            new ListedSource(1, "uid:1").With(common).With(common), new ListedSource(2, "uid:1").With(common.Take(6)), new ListedSource(3, "uid:2").With(common.Take(3)));
        Assert.Equal([new(0, 0, 10), new(0, 1, 6), new(0, 2, 3), new(1, 1, 6), new(1, 2, 3), new(2, 2, 3)], report.Pairs);
        Assert.Equal(20, report.Contents.Count > 0 ? report.Contents.Count + 10 : 0);
        Assert.Equal((4L, 3), (report.Contents[0].Copies, report.Contents[0].Processes));
    }

    [Fact]
    public void ARunIsAsLongAsFirstCopiesFollowEachOther()
    {
        ulong[] common = [.. Counted.Fresh(100)];
        EstimateReport report = Counted.Of(
            new ListedSource(1, "uid:1").With(common), new ListedSource(2, "uid:1").With(common), new ListedSource(3, "uid:1").With(common.Reverse()).With(Counted.Same(0, 50)));
        Assert.Equal((2L, 2L, 200L), (report.Processes[0].MappingsNeeded, report.Processes[1].MappingsNeeded, report.Processes[2].MappingsNeeded));
        Assert.Equal(new string('m', 100), report.Processes[0].Picture);
        Assert.Equal(new string('m', 100) + new string('z', 50), report.Processes[2].Picture);
    }

    [Fact]
    public void WhereMappingsAreShortTheLongestRunsAreServed()
    {
        ulong[] common = [.. Counted.Fresh(70_000)];
        EstimateReport report = Counted.Of(
            new ListedSource(1, "uid:1").With(common), new ListedSource(2, "uid:1").With(common.Where((_, i) => i % 2 == 0)));
        long allowed = (Linux.ProcFs.MappingLimit.ForMerging((int)report.Costs.MappingLimit) - 1) / 2;
        Assert.SkipUnless(allowed < 35_000, "vm.max_map_count is raised here");
        Assert.Equal(35_000 - allowed, report.Processes[1].BeyondLimitPages);
        Assert.Equal(35_000 - report.Processes.Sum(process => process.BeyondLimitPages), report.Totals.SavedPages);
    }

    [Fact]
    public void OverTheSamplesWhatKeepsItsContentIsStable()
    {
        ulong[] common = [.. Counted.Fresh(100)];
        int listed = 0;
        ListedSource changing = new ListedSource(2, "uid:1") { BeforeListing = source => listed = Change(source, listed) }.With(common).With(Counted.Same(0, 10));
        EstimateReport report = Counted.Of(new CensusOptions { Samples = 3, Interval = TimeSpan.Zero, Cost = Counted.Costs }, new ListedSource(1, "uid:1").With(common), changing);
        Assert.Equal([(110L, 110L), (85L, 85L), (110L, 85L)], report.Samples.Select(point => (point.SavedPages, point.StablePages)));
        Assert.Equal((110, 85), (report.Totals.SavedPages, report.Totals.StablePages));

        static int Change(ListedSource source, int listed)
        {
            // In the second reading 20 pages and 5 zeros differ; in the third they are what they were.
            for (int i = 0; i < 20; i++)
                source.Area(0)[i] += listed == 1 ? 1UL << 50 : listed == 2 ? unchecked((ulong)-(1L << 50)) : 0;
            source.Area(1).AsSpan(0, 5).Fill(listed == 1 ? 77UL << 50 : 0);
            if (listed == 1)
            {
                for (int i = 0; i < 5; i++)
                    source.Area(1)[i] += (ulong)i;
            }

            return listed + 1;
        }
    }

    [Fact]
    public void ClonesShareEverythingAtFirstAndLaterWhatWasNotWritten()
    {
        // Of 100 contents, twenty pages are copies within it and ten are zeros; thirty of the contents and four zeros are written between the two readings.
        ulong[] own = [.. Counted.Fresh(100)];
        int listed = 0;
        ListedSource guest = new ListedSource(0, "uid:1") { BeforeListing = Write }.With(own).With(own[80..]).With(Counted.Same(0, 10));
        EstimateReport report = Counted.Of(new CensusOptions { Clones = 10, Samples = 2, Interval = TimeSpan.Zero, Cost = Counted.Costs }, guest);
        Assert.Equal(new ClonesEstimate(10, 1300, 1300 - 130 + 26, 9 * 96 + 26, 1196 * 4096L - 10 * 2860 - 100_000, 890 * 4096L - 10 * 2860 - 100_000), report.Clones);
        Assert.Equal((130, 96, 26, 6), (report.Totals.Figures.Tracked, report.Totals.Figures.Unchanged, report.Totals.Figures.Stable, report.Totals.Figures.StableZero));

        void Write(ListedSource source)
        {
            if (listed++ == 0)
                return;
            for (int i = 0; i < 30; i++)
                source.Area(0)[i] += 1UL << 50;
            for (int i = 0; i < 4; i++)
                source.Area(2)[i] = (7UL << 50) + (ulong)i;
        }
    }

    [Fact]
    public void WhatIsSaidOfClonesIsWhatSoManyOfThemAreCountedTo()
    {
        ulong[] own = [.. Counted.Fresh(60)];
        ListedSource Guest(int pid) => new ListedSource(pid, "uid:1").With(own).With(own[..7]).With(Counted.Same(0, 5));
        EstimateReport three = Counted.Of(Guest(1), Guest(2), Guest(3)), one = Counted.Of(new CensusOptions { Clones = 3, Cost = Counted.Costs }, Guest(1));
        Assert.Equal((three.Totals.SavedPages, three.Totals.Figures.Tracked, three.Totals.ProfitBytes), (one.Clones!.SavedPages, one.Clones.Pages, one.Clones.ProfitBytes));
        Assert.Equal(one.Clones.SavedPages, one.Clones.StablePages);
        Assert.Null(three.Clones);
    }

    [Fact]
    public void InterruptedItSaysSoAndCountsWhatItHas()
    {
        using CancellationTokenSource cancelled = new();
        ListedSource second = new ListedSource(2, "uid:1") { BeforeListing = _ => cancelled.Cancel() }.With(Counted.Fresh(1000));
        using CensusRun census = new([new ListedSource(1, "uid:1").With(Counted.Same(0, 100)), second], new CensusOptions { Cost = Counted.Costs, Threads = 1 });
        EstimateReport report = census.Run(cancelled.Token);
        Assert.True(report.Partial);
        Assert.Equal(100, report.Totals.SavedPages);
        Assert.InRange(report.Totals.Figures.Unique, 0, 200);
    }
}
