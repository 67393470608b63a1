using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary><c>attach --wait</c>: each process counts once it has settled, and the wait has a bound if one is given.</summary>
public sealed class SettledTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    /// <summary>While nothing is scanned nobody settles: stopped programs cannot be held, so one waits in vain.</summary>
    [Fact]
    public async Task AWaitThatIsBoundedEndsAndSaysWhoIsLate()
    {
        await using LiveProgram program = await LiveProgram.Target("common", "1");
        await File.WriteAllTextAsync(Path.Combine(Daemon.RunFolder, "control", "ksm", "sleep_millisecs"), "60000");
        try
        {
            Called called = await Daemon.Cli("attach", "--wait", "--timeout", "6", $"{program.Pid}");
            Assert.True(called.ExitCode == 1, $"{called}");
            Assert.True(called.Errors.Contains($"process {program.Pid} (common) has not settled within 6 s: ", StringComparison.Ordinal), $"{called}");
            Assert.True(called.Errors.Contains("0 of 1 settled", StringComparison.Ordinal), $"no word on the way: {called}");
            Assert.True(called.Output.Contains("common", StringComparison.Ordinal), $"{called}");
        }
        finally
        {
            await File.WriteAllTextAsync(Path.Combine(Daemon.RunFolder, "control", "ksm", "sleep_millisecs"), "20");
        }

        await Daemon.GiveBack(program);
    }

    /// <summary>Programs that write again and again are settled at one moment each, and never all of them together.</summary>
    [Fact]
    public async Task ManyProgramsThatNeverRestTogetherAreWaitedForOneByOne()
    {
        LiveProgram[] many = await LiveProgram.Targets(12, "common", "1");
        await using var together = new Together(many);
        using CancellationTokenSource over = new();
        // At every moment one of them has just written.
        Task writing = Task.Run(async () =>
        {
            for (int i = 0; !over.IsCancellationRequested; i++)
            {
                await many[i % many.Length].Does("poke");
                await Task.Delay(150);
            }
        });
        Called called = await Daemon.Cli(["attach", "--wait", "--timeout", "600", .. many.Select(program => $"{program.Pid}")]);
        await over.CancelAsync();
        await writing;
        Assert.True(called.ExitCode == 0, $"{called}");
        await Daemon.GiveBack(many);
    }
}
