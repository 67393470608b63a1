using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Threads asleep in system calls: none may return before its time, none may see EINTR.</summary>
public sealed class SleepersTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    [Fact]
    public async Task NoSleepingCallIsInterruptedByAttachMergeOrDetach()
    {
        await using LiveProgram sleepers = await LiveProgram.Target("sleepers", "10");
        await using LiveProgram company = await LiveProgram.Target("common", "16");
        await Daemon.TakeInAndWait(sleepers, company);
        await Daemon.Merged(sleepers, 7000);
        await NobodyReturned(sleepers, "attach");

        for (int round = 0; round < 3; round++)
        {
            await sleepers.Does("churn");
            await Daemon.Merged(sleepers, 7000);
            await sleepers.Does("verify");
        }

        await NobodyReturned(sleepers, "merging");
        await Daemon.GiveBack(sleepers);
        await NobodyReturned(sleepers, "detach");
        await sleepers.Does("verify");

        string woken = await sleepers.Ask("wake", 120);
        Assert.True(woken.EndsWith("wrong 0", StringComparison.Ordinal), $"{woken}: {sleepers.Errors}");
        await sleepers.Tell("quit");
        Assert.Equal(0, await sleepers.Ends());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task NoSleepingCallIsInterruptedWhenTheDaemonIsKilled(bool whileItHoldsThem)
    {
        await using LiveProgram sleepers = await LiveProgram.Target("sleepers", "12");
        var before = Trace.Of(sleepers);
        await using DaemonUnderTest doomed = await DaemonUnderTest.Start();
        if (whileItHoldsThem)
        {
            await doomed.Kill9WhileItHolds(sleepers);
        }
        else
        {
            await doomed.TakeIn(sleepers);
            await doomed.Merged(sleepers, 500);
            await doomed.Kill9();
        }

        await before.GoneAfterDeath(20, memoryGrewBack: false);
        await NobodyReturned(sleepers, "the daemon's death");
        string woken = await sleepers.Ask("wake", 120);
        Assert.True(woken.EndsWith("wrong 0", StringComparison.Ordinal), $"{woken}: {sleepers.Errors}");
        await sleepers.Does("verify");
        await sleepers.Tell("quit");
        Assert.Equal(0, await sleepers.Ends());
    }

    [Fact]
    public async Task AProgramThatCannotBeHeldNowIsLeftAloneAndSaysWhy()
    {
        await using LiveProgram sleepers = await LiveProgram.Target("sleepers", "8", "write");
        await Daemon.TakeIn(sleepers);
        await Until.True(async () => (await Daemon.Status()).Of(sleepers.Pid).Reason.Contains("write", StringComparison.Ordinal), 20,
            async () => $"the reason names the call that must not be interrupted: {(await Daemon.Status()).Of(sleepers.Pid)}");
        await NobodyReturned(sleepers, "attach");
        string woken = await sleepers.Ask("wake", 60);
        Assert.True(woken.EndsWith("wrong 0", StringComparison.Ordinal), $"{woken}: {sleepers.Errors}");
        await Daemon.Merged(sleepers, 7000);
        Assert.Equal("", (await Daemon.Status()).Of(sleepers.Pid).Reason);
        await sleepers.Does("verify");
        await sleepers.Tell("quit");
        Assert.Equal(0, await sleepers.Ends());
    }

    private static async Task NobodyReturned(LiveProgram sleepers, string after)
    {
        string report = await sleepers.Ask("report");
        Assert.True(report.EndsWith("returned 0 eintr 0", StringComparison.Ordinal), $"after {after}: {report}: {sleepers.Errors}");
    }
}
