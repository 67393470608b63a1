using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>A process that is given back shows no thread, no descriptor and no mapping of ours.</summary>
public sealed class DetachTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    [Fact]
    public async Task A5_GivenBackAProcessIsAsItWasBefore()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "64", "run=16", "zeros=1024");
        await using var together = new Together(two);
        foreach (LiveProgram program in two)
            await program.Does("verify");
        Trace[] before = [.. two.Select(Trace.Of)];
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 64 * 256 / 2);
        await Daemon.GiveBack(two[0]);
        // Pages of zeros stay with the kernel's zero page, which counts for nobody.
        before[0].IsGone(memoryGrewBack: false);
        await two[0].Does("verify");
        await two[1].Does("verify");
        await two[0].Does("write");
        await two[1].Does("verify");
        before[0].IsGone();

        Called all = await Daemon.Cli("detach", "--all");
        Assert.True(all.ExitCode == 0, $"{all}");
        before[1].IsGone(memoryGrewBack: false);
        await two[1].Does("verify");
        Assert.DoesNotContain((await Daemon.Status()).Processes, process => process.State is "merging" or "settling" or "detaching");
        Assert.Equal(0, (await Daemon.Status()).PagesShared);
    }

    [Fact]
    public async Task TakenInAndGivenBackManyTimesNothingPilesUp()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "8");
        await using var together = new Together(two);
        await two[0].Does("verify");
        var before = Trace.Of(two[0]);
        string[] descriptors = [];
        for (int round = 0; round < 10; round++)
        {
            await Daemon.TakeIn(two);
            await Daemon.Merged(two[0], 100);
            await Daemon.GiveBack(two);
            before.IsGone();
            if (round == 0)
                descriptors = Opened();
        }

        await two[0].Does("verify");
        Assert.True(Opened().Length <= descriptors.Length + 2, $"the daemon's descriptors pile up: {string.Join(", ", Opened())}; were {string.Join(", ", descriptors)}");
    }

    /// <summary>Nothing is left to give back in it, but its one thread cannot be held, so nobody can see to it that nothing is; the daemon tries, tells, and goes on.</summary>
    [Fact]
    public async Task AProgramWhoseThreadsCannotBeHeldKeepsItsAgentAndTheDaemonGoesOn()
    {
        // Of a daemon of its own: it has nothing in common with anybody but itself.
        await using LiveProgram program = await LiveProgram.Target("common", "1", "same=1024");
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeInAndWait(program);
        await daemon.Merged(program, 1000);
        await program.Tell("stall");
        await Until.True(async () => ProcessView.Of(program.Pid).Standing.Contains("pipe_write", StringComparison.Ordinal) && (await daemon.Status()).Of(program.Pid).PagesMerged == 0, 20,
            () => Task.FromResult($"it waits, and nothing in it is merged: {ProcessView.Of(program.Pid).Standing}"));
        Called called = await daemon.Cli("detach", $"{program.Pid}");
        Assert.True(called.ExitCode == 1 && called.Errors.Contains("waits in write", StringComparison.Ordinal), $"{called}\n{daemon.Tail}");
        Assert.False(daemon.HasExited, daemon.Tail);
        Assert.Equal("merging", (await daemon.Status()).Of(program.Pid).State);
        program.Kill(); // or the daemon would try for as long once more before it ends
    }

    /// <summary>What the daemon has open, but for the libraries that it loads when it first needs them.</summary>
    private string[] Opened() => [.. ProcessView.Of(Daemon.Pid).Descriptors.Where(descriptor => !descriptor.EndsWith(".dll", StringComparison.Ordinal))];

    [Fact]
    public async Task AProcessThatWasNeverTakenInCannotBeGivenBack()
    {
        await using LiveProgram stranger = await LiveProgram.Target("common", "1");
        Called called = await Daemon.Cli("detach", $"{stranger.Pid}");
        Assert.True(called.ExitCode == 1 && called.Errors.Contains("was not taken in", StringComparison.Ordinal), $"{called}");
        await stranger.Does("verify");
    }

    /// <summary>An answer is waited for only so long, and what was asked for goes on: who asks again may find it done.</summary>
    [Fact]
    public async Task WhoAsksAgainForWhatWasGivenBackIsToldThatItIsDone()
    {
        await using LiveProgram program = await LiveProgram.Target("common", "1");
        await Daemon.TakeIn(program);
        await Daemon.GiveBack(program);
        await Daemon.GiveBack(program);
        // And it is no less so of a process that is taken in once more.
        await Daemon.TakeIn(program);
        await Daemon.GiveBack(program);
        Assert.Equal("absent", (await Daemon.Status()).Of(program.Pid).State);
        await program.Does("verify");
    }
}
