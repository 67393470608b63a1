using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Programs that keep whoever looks into them, on purpose or not, keep nobody else: others are taken in, merged, answered and given back meanwhile.</summary>
public sealed class KeepersTests
{
    private const string Pages = "2048";
    private const int Least = 1500;

    [Fact]
    public async Task AProgramThatDoesNotGiveTheLockOfItsAddressSpaceKeepsNobodyElse()
    {
        Needs.Root();
        LiveProgram[] keepers = await LiveProgram.Targets(2, "keeper", Pages);
        await using var together = new Together(keepers);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeInAndWait(keepers);
        await daemon.Merged(keepers[0], Least);
        await keepers[0].Does("trap");
        await OthersAreServed(daemon);
        await daemon.GiveBack(keepers[1]);

        Called called = await daemon.Cli("detach", $"{keepers[0].Pid}");
        Assert.True(called.ExitCode == 1 && called.Errors.Contains("it has kept us", StringComparison.Ordinal), $"{called}\n{daemon.Tail}");
        await OthersAreServed(daemon);
        await keepers[0].Does("release");
        await Until.True(async () => (await daemon.Status()).Processes.All(process => process.Pid != keepers[0].Pid), 120, () => Task.FromResult($"the detach goes on when it lets go\n{daemon.Tail}"));
        foreach (LiveProgram keeper in keepers)
            await keeper.Does("verify");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task TheDaemonEndsAndTheNextOneStartsWhateverOneProgramDoes(bool isKilled)
    {
        Needs.Root();
        string folder = Directory.CreateTempSubdirectory("samepage-test-").FullName;
        LiveProgram[] keepers = await LiveProgram.Targets(2, "keeper", Pages), others = await LiveProgram.Targets(2, "common", "8");
        await using var together = new Together([.. keepers, .. others]);
        Trace[] before = [.. others.Select(Trace.Of)];
        await using DaemonUnderTest doomed = await DaemonUnderTest.Start(folder, keep: true);
        await doomed.TakeInAndWait([.. keepers, .. others]);
        await doomed.Merged(others[0], 1000);
        await keepers[0].Does("trap");
        if (isKilled)
            await doomed.Kill9();
        else
            Assert.Equal(1, await doomed.Terminate(120));
        foreach (Trace other in before)
            await other.GoneAfterDeath(180);

        await using DaemonUnderTest next = await DaemonUnderTest.Start(folder);
        await next.Serves(others, 1000);
        await OthersAreServed(next);
        await keepers[0].Does("release");
        foreach (LiveProgram program in (LiveProgram[])[.. keepers, .. others])
            await program.Does("verify");
    }

    [Fact]
    public async Task AProgramThatStoppedItselfKeepsNobodyElse()
    {
        Needs.Root();
        LiveProgram[] stopped = await LiveProgram.Targets(3, "common", "8");
        await using var together = new Together(stopped);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeInAndWait(stopped);
        await daemon.Merged(stopped[0], 1000);
        await StoppedTests.Stop(stopped[0]);
        await OthersAreServed(daemon);
        await daemon.Control("run", "0");
        await daemon.Control("run", "1");
        await daemon.Control("run", "2");
        await daemon.Control("run", "1");
        StoppedTests.Go(stopped[0]);
        foreach (LiveProgram program in stopped)
            await program.Does("verify");
    }

    [Fact]
    public async Task AFrozenControlGroupKeepsNobodyElse()
    {
        Needs.Root();
        using UnifiedGroup group = UnifiedGroup.Make();
        LiveProgram[] frozen = await LiveProgram.Targets(2, "common", "8");
        await using var together = new Together(frozen);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        group.Take(frozen[0].Pid);
        await daemon.TakeInAndWait(frozen);
        await daemon.Merged(frozen[0], 1000);
        group.Freeze(true);
        Task<Called> asked = daemon.Cli("detach", $"{frozen[0].Pid}");
        await OthersAreServed(daemon);
        Called called = await asked;
        Assert.NotEqual(0, called.ExitCode);
        group.Freeze(false);
        foreach (LiveProgram program in frozen)
            await program.Does("verify");
    }

    /// <summary>Two programs more are taken in, merged and given back, and the daemon answers.</summary>
    private static async Task OthersAreServed(DaemonUnderTest daemon)
    {
        LiveProgram[] others = await LiveProgram.Targets(2, "common", "8");
        await using var together = new Together(others);
        await daemon.Serves(others, 1000);
        _ = await daemon.Status();
    }
}
