using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Input under way: a page that a device or the kernel is about to write is left alone, and the data arrives.</summary>
public sealed class PinsTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    [Theory]
    [InlineData("fixed")]
    [InlineData("plain")]
    public async Task D2_AReadThatIsPendingWhileItsPagesAreMergedArrives(string kind)
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "iopin");
        await using var together = new Together(two);
        Assert.SkipWhen(await File.ReadAllTextAsync("/proc/sys/kernel/io_uring_disabled") is not "0\n", "needs io_uring");
        await two[0].Does(kind);
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 500);
        await two[0].Does("complete");
        await two[0].Does("verify");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task D2_APageThatIsPinnedAfterItWasMergedGetsItsData()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "iopin");
        await using var together = new Together(two);
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 500);
        await two[0].Does("fixed");
        await two[0].Does("plain");
        await two[0].Does("complete");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task E2_PagesThatArePinnedWhenTheirProcessIsGivenBackKeepTheirPlace()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "iopin");
        await using var together = new Together(two);
        Assert.SkipWhen(await File.ReadAllTextAsync("/proc/sys/kernel/io_uring_disabled") is not "0\n", "needs io_uring");
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 500);
        await two[0].Does("fixed");
        Called refused = await Daemon.Cli("detach", $"{two[0].Pid}");
        Assert.True(refused.ExitCode == 1 && refused.Errors.Contains("pinned", StringComparison.Ordinal), $"{refused}");
        Assert.Matches("samepage_incidents_total\\{kind=\"giving_back_held\"\\} [1-9]", await Daemon.Get("/metrics"));
        await two[0].Does("complete");
        await two[0].Does("unpin");
        await Daemon.GiveBack(two);
        await two[0].Does("verify");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task E2_BrokenPagesOfAProcessThatHasARingAreGivenBackWhenTheyAreStill()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "iopin");
        await using var together = new Together(two);
        Assert.SkipWhen(await File.ReadAllTextAsync("/proc/sys/kernel/io_uring_disabled") is not "0\n", "needs io_uring");
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 500);
        await two[0].Does("plain");
        await two[0].Does("complete");
        Assert.Contains(ProcessView.Of(two[0].Pid).Descriptors, descriptor => descriptor.Contains("io_uring", StringComparison.Ordinal));
        await Daemon.GiveBack(two);
        await two[0].Does("verify");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task D2_DirectReadsIntoQuietPagesArrive()
    {
        string file = Path.Combine(Repository.Root, "artifacts", $"direct-{Environment.ProcessId}");
        try
        {
            await using LiveProgram reader = await LiveProgram.Target("iopin", file);
            await using LiveProgram other = await LiveProgram.Target("iopin");
            await Daemon.TakeIn(reader, other);
            for (int round = 0; round < 3; round++)
            {
                string answer = await reader.Ask("direct");
                Assert.SkipWhen(answer == "no direct I/O here", $"needs a file system with direct I/O at {file}");
                Assert.True(answer == "ok", $"{answer}: {reader.Errors}");
            }

            await other.Does("verify");
        }
        finally
        {
            File.Delete(file);
        }
    }
}
