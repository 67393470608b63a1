using Samepage.Api;
using Samepage.Web;

namespace Samepage.LinuxTests;

/// <summary>What the web page is told of the past.</summary>
public sealed class SavingsHistoryTests
{
    private readonly SavingsHistory _history = new();

    [Fact]
    public void SamplesAreTakenEveryFewSecondsHoweverOftenThereAreFigures()
    {
        for (int tenth = 0; tenth <= 200; tenth++)
            Note(tenth / 10.0, tenth);
        Assert.Equal([new Savings(0, 0, 0, 4096), new Savings(5, 50, 50 * 4096, 4096), new Savings(10, 100, 100 * 4096, 4096), new Savings(15, 150, 150 * 4096, 4096), new Savings(20, 200, 200 * 4096, 4096)], _history.Since(-1));
        Assert.Equal([15, 20], _history.Since(10).Select(sample => sample.At));
        Assert.Empty(_history.Since(20));
    }

    [Fact]
    public void TheLastHourIsKeptFinelyTheLastDayByTheMinuteAndNothingBefore()
    {
        const int Days = 3 * 86_400;
        for (int second = 0; second <= Days; second++)
            Note(second, second);
        Savings[] samples = _history.Since(-1);
        long[] at = [.. samples.Select(sample => sample.At)];
        Assert.Equal(at.Order().Distinct(), at);
        Assert.Equal(3600 / SavingsHistory.FineSeconds, at.Count(moment => moment > Days - 3600));
        Assert.InRange(Days - at[0], 86_400 - SavingsHistory.CoarseSeconds, 86_400);
        foreach ((long before, long after) in at.Zip(at.Skip(1)))
        {
            int apart = (int)(after - before), wanted = before > Days - 3600 ? SavingsHistory.FineSeconds : SavingsHistory.CoarseSeconds;
            Assert.InRange(apart, after <= Days - 3600 || before > Days - 3600 ? wanted : 1, wanted);
        }

        Assert.InRange(samples.Length, 1, 720 + 1440);
        Assert.All(samples, sample => Assert.Equal(sample.At, sample.ProfitBytes));
    }

    [Fact]
    public void AHoleInTimeIsAHole()
    {
        Note(0, 1);
        Note(1000, 2);
        Note(1001, 3);
        Assert.Equal([0, 1000], _history.Since(-1).Select(sample => sample.At));
    }

    private void Note(double seconds, long sharing) => _history.Note(
        TimeSpan.FromSeconds(seconds),
        new StatusReport(1, 0, 0, 0, PagesSharing: sharing, 0, 0, ZeroPages: 1, PageSize: 4096, ProfitBytes: sharing, 0, "", new DaemonReport(0, 0, 0, 0, 0, 0), [], []));
}
