using Samepage.Api;
using Samepage.Cli;
using Samepage.Daemon;

namespace Samepage.LinuxTests;

/// <summary>Figures that are shared out, and what <c>samepage top</c> makes of them.</summary>
public sealed class ObservationTests
{
    [Theory]
    [InlineData(1000, 3, new long[] { 1, 1, 1 })]
    [InlineData(7, 100, new long[] { 33, 33, 34 })]
    [InlineData(long.MaxValue / 2, 3_000_000_000, new long[] { 1_000_000_000, 1, 1_999_999_999 })]
    [InlineData(0, 5, new long[] { 2, 3 })]
    public void PartsOfACostAreTheWholeCost(long bytes, long pages, long[] parts)
    {
        Apportioned cost = new(bytes, pages);
        long[] given = [.. parts.Select(cost.Take)];
        Assert.Equal(bytes, given.Sum());
        Assert.All(given.Zip(parts), pair => Assert.InRange(pair.First, (long)((Int128)bytes * pair.Second / pages), (long)((Int128)bytes * pair.Second / pages) + 1));
    }

    [Fact]
    public void ACostThatNobodyBearsIsNobodys() => Assert.Equal(0, new Apportioned(100, 0).Take(0));

    [Theory]
    [InlineData("", 10, new long[] { })]
    [InlineData("▁▁▁", 10, new long[] { 5, 5, 5 })]
    [InlineData("▁█▄", 10, new long[] { -100, 100, 0 })]
    [InlineData("▁█", 2, new long[] { 50, 0, 9 })]
    [InlineData("▁█", 10, new[] { long.MinValue, long.MaxValue })]
    public void ALineOfFiguresGoesFromTheLeastToTheMost(string line, int width, long[] figures) => Assert.Equal(line, Sparkline.Of(figures, width));

    [Fact]
    public void TopSortsByWhatIsAskedForAndTellsRates()
    {
        TopView view = new();
        view.Look(Status(100, 1, Process(3, "b", merged: 5, profit: 9, breaks: 10), Process(1, "c", merged: 7, profit: 1, breaks: 0), Process(2, "a", merged: 7, profit: -4, breaks: 50)), 0);
        Assert.Equal([3, 1, 2], Order(TopOrder.Saved));
        Assert.Equal([1, 2, 3], Order(TopOrder.Merged));
        Assert.Equal([1, 2, 3], Order(TopOrder.Pid));
        Assert.Equal([2, 3, 1], Order(TopOrder.Name));
        Assert.Equal((0.0, 0.0), (view.PagesPerSecond, view.ProcessorShare));

        view.Look(Status(300, 1.5, Process(3, "b", merged: 5, profit: 9, breaks: 30), Process(1, "c", merged: 7, profit: 1, breaks: 0), Process(2, "a", merged: 7, profit: -4, breaks: 50)), 2);
        Assert.Equal([3, 1, 2], Order(TopOrder.Breaks));
        Assert.Equal(10.0, view.Rows(TopOrder.Breaks)[0].BreaksPerSecond);
        Assert.Equal((100.0, 0.25), (view.PagesPerSecond, view.ProcessorShare));
        Assert.Equal([6, 6], view.Savings);

        // Another daemon counts from nothing: no rate is made of the two.
        view.Look(Status(0, 0, Process(3, "b", merged: 5, profit: 9, breaks: 0)) with { Daemon = new DaemonReport(78, 0, 0, 0, 0, 0) }, 1);
        Assert.Equal((0.0, 0.0), (view.PagesPerSecond, view.Rows(TopOrder.Saved)[0].BreaksPerSecond));

        int[] Order(TopOrder order) => [.. view.Rows(order).Select(row => row.Process.Pid)];
    }

    private static ProcessReport Process(int pid, string name, long merged, long profit, long breaks) =>
        new(pid, name, "uid:0", "merging", "", true, 100, merged, 0, 0, 0, 0, breaks, profit, 0, 0);

    private static StatusReport Status(long scanned, double processor, params ProcessReport[] processes) =>
        new(1, 0, scanned, 0, 0, 0, 0, 0, 4096, processes.Sum(process => process.ProfitBytes), 0, "", new DaemonReport(77, 0, 0, 0, 0, 0) { ProcessorSeconds = processor }, [], processes);
}
