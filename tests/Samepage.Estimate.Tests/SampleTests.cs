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
