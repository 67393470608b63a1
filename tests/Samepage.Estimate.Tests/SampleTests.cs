using Samepage.Estimate;
using Samepage.Estimate.Census;

namespace Samepage.EstimateTests;

/// <summary>A sample's interval holds: the full count lies within it as often as it promises, whatever the memory looks like.</summary>
public sealed class SampleTests
{
    private const int Rounds = 40;

    [Theory]
    [InlineData("replicas")]
    [InlineData("workers")]
    [InlineData("few copies")]
    [InlineData("one content all over")]
    [InlineData("long tail")]
    [InlineData("zeros")]
    [InlineData("nothing in common")]
    public void TheFullCountLiesWithinTheInterval(string workload)
    {
        int held = 0;
        double widths = 0;
        for (int round = 0; round < Rounds; round++)
        {
            ListedSource[] sources = Workload(workload, round);
            EstimateReport full = Counted.Of(sources);
            Totals sampled = Counted.Of(new CensusOptions { OneOf = 16, Cost = Counted.Costs, HeavyCapacity = 1 << 10 }, sources).Totals;
            Assert.Equal(full.Totals.Figures.Zero, sampled.Figures.Zero);
            Assert.InRange(sampled.SavedPages, sampled.SavedPagesLow, sampled.SavedPagesHigh);
            held += full.Totals.SavedPages >= sampled.SavedPagesLow && full.Totals.SavedPages <= sampled.SavedPagesHigh ? 1 : 0;
            widths += (sampled.SavedPagesHigh - sampled.SavedPagesLow) / Math.Max(1.0, full.Totals.SavedPages);
        }

        Assert.True(held >= Rounds * 9 / 10, $"{workload}: held {held} of {Rounds} times");
        Assert.True(workload is "nothing in common" || widths / Rounds < 2, $"{workload}: the interval is {widths / Rounds:N2} of the figure wide");
    }

    [Fact]
    public void CopiesStayTogether()
    {
        ulong[] common = [.. Counted.Fresh(4000)];
        EstimateReport report = Counted.Of(new CensusOptions { OneOf = 8, Cost = Counted.Costs }, new ListedSource(1, "uid:1").With(common), new ListedSource(2, "uid:1").With(common));
        Assert.Equal(report.Totals.Figures.InDomain, report.Totals.Figures.Unique);
        Assert.InRange(report.Totals.Figures.InDomain, 3000, 5000);
        Assert.InRange(report.Effort.RecordBytes, 16, 4000 * 16 / 2);
    }

    [Fact]
    public void OverSeveralReadingsTheSameContentsAreKept()
    {
        // A quarter of what two have in common, and half of the zeros, are written by one of them before the second reading.
        ulong[] common = [.. Counted.Fresh(16_000)];
        EstimateReport full = Count(1), sampled = Count(8);
        Assert.Equal([16_400L, 12_200L], full.Samples.Select(point => point.SavedPages));
        Assert.Equal([16_400L, 12_200L], full.Samples.Select(point => point.StablePages));
        Assert.Equal((200, 200), (sampled.Totals.Figures.Zero, sampled.Totals.Figures.StableZero));
        Assert.Equal(sampled.Totals.SavedPages, sampled.Totals.StablePages);
        Assert.All(full.Samples.Zip(sampled.Samples), pair => Assert.InRange(pair.Second.StablePages, pair.First.StablePages * 0.9, pair.First.StablePages * 1.1));
        Assert.InRange(sampled.Totals.Figures.Unchanged, full.Totals.Figures.Unchanged * 0.9, full.Totals.Figures.Unchanged * 1.1);

        EstimateReport Count(int oneOf)
        {
            int listed = 0;
            ListedSource writer = new ListedSource(2, "uid:1")
            {
                BeforeListing = source =>
                {
                    if (listed++ == 0)
                        return;
                    for (int i = 0; i < 4000; i++)
                        source.Area(0)[i] += 1UL << 50;
                    for (int i = 0; i < 200; i++)
                        source.Area(1)[i] = (7UL << 50) + (ulong)i;
                },
            }.With(common).With(Counted.Same(0, 400));
            return Counted.Of(new CensusOptions { Samples = 2, Interval = TimeSpan.Zero, OneOf = oneOf, Cost = Counted.Costs }, new ListedSource(1, "uid:1").With(common), writer);
        }
    }

    private static ListedSource[] Workload(string name, int round)
    {
        // Contents of its own: the same in every run, so that a run holds as often as any other.
        ulong next = (1UL + (ulong)round) << 48;
        ulong[] Fresh(int count) => [.. Enumerable.Range(0, count).Select(_ => next++)];
        Random random = new(round);
        ListedSource[] sources = [.. Enumerable.Range(1, 4).Select(pid => new ListedSource(pid, $"uid:{pid / 3}"))];
        ulong[] common = Fresh(1500);
        ulong filler = Fresh(1)[0];
        foreach (ListedSource source in sources)
        {
            _ = name switch
            {
                "replicas" => source.With(common),
                "workers" => source.With(common.Take(random.Next(300, 1500))).With(Fresh(500)),
                "few copies" => source.With(common.Take(100)).With(Fresh(1500)),
                "one content all over" => source.With(Counted.Same(filler, 600)).With(common.Take(400)),
                "long tail" => source.With(Enumerable.Range(0, 1500).Select(_ => common[(int)(1500 * Math.Pow(random.NextDouble(), 4))])),
                "zeros" => source.With(Counted.Same(0, 1000)).With(common.Take(200)),
                _ => source.With(Fresh(1500)),
            };
        }

        return sources;
    }
}
