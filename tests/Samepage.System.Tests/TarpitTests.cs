using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>A program of an ordinary user makes a part of the agent's memory one on which whoever reads it waits for ever: that is his program's affair, and nobody else's.</summary>
public sealed class TarpitTests
{
    /// <summary>Bounds on hanging, seconds.</summary>
    private const int Bound = 120;

    [Theory]
    [InlineData("words", true)]
    [InlineData("shared", true)]
    [InlineData("operations", true)]
    [InlineData("frames", true)]
    [InlineData("code", true)]
    [InlineData("all", true)]
    [InlineData("words", false)]
    [InlineData("all", false)]
    public async Task WhoLaysATarpitKeepsNobodyButHimself(string part, bool comesFirst)
    {
        Needs.Root();
        string folder = Directory.CreateTempSubdirectory("samepage-test-").FullName;
        // Records are recovered by the order of their names: pids rise.
        LiveProgram? before = comesFirst ? await LiveProgram.Target("tarpit", part) : null;
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "16", "run=8");
        await using var together = new Together(two);
        await using LiveProgram tarpit = before ?? await LiveProgram.Target("tarpit", part);
        foreach (LiveProgram program in two)
            await program.Does("verify");
        Trace[] traces = [.. two.Select(Trace.Of)];
        await using (DaemonUnderTest daemon = await DaemonUnderTest.Start(folder, keep: true))
        {
            await daemon.TakeInInTheEnd(two);
            await daemon.TakeInInTheEnd(tarpit);
            await Laid(tarpit);
            await daemon.Merged(two[0], 1000, Bound);
            await using (LiveProgram third = await LiveProgram.Target("common", "4"))
            {
                await daemon.TakeInInTheEnd(third);
                await daemon.GiveBack(third);
                await third.Does("verify");
            }

            _ = await daemon.Status();
            await daemon.Kill9();
        }

        // Its guardian gives back whom it can, and the next daemon does not wait for the rest.
        for (int i = 0; i < two.Length; i++)
            await traces[i].GoneAfterDeath(Bound);
        Assert.False(tarpit.HasExited);
        await using (DaemonUnderTest next = DaemonUnderTest.Launch(folder, keep: true))
        {
            await next.Ready();
            await next.Serves(two, 1000);
            // What it cannot give back it does not take in a second time.
            if (ProcessView.Of(tarpit.Pid).MappedNames.Any(name => name.Contains("samepage-agent", StringComparison.Ordinal)))
            {
                Called again = await next.Cli("attach", $"{tarpit.Pid}");
                Assert.True(again.ExitCode != 0 && $"{again}".Contains("left", StringComparison.Ordinal), $"{again}");
            }

            _ = await next.Terminate(Bound);
        }

        DaemonUnderTest.Remove(folder);
    }

    [Fact]
    public async Task WhoKeepsThePipeThatGuardsHisDomainsFramesKeepsNobodyElse()
    {
        string setpriv = Needs.Program("setpriv", "util-linux");
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        LiveProgram[] fellows = [.. Enumerable.Range(0, 2).Select(_ => LiveProgram.Start(setpriv, "--reuid=1234", "--regid=1234", "--clear-groups", Repository.Target("common"), "4"))];
        await using var together = new Together(fellows);
        foreach (LiveProgram fellow in fellows)
            await fellow.Ready();
        await using LiveProgram keeper = await LiveProgram.Target("tarpit", "pipe");
        await daemon.TakeInInTheEnd(keeper);
        await Laid(keeper);
        await daemon.TakeInInTheEnd(fellows);
        for (int round = 0; round < 2; round++)
        {
            LiveProgram[] others = await LiveProgram.Targets(2, "common", "8");
            await using var both = new Together(others);
            await daemon.Serves(others, 1000);
        }

        foreach (LiveProgram fellow in fellows)
            await fellow.Does("verify");
        keeper.Kill();
        await daemon.Merged(fellows[0], 500, Bound);
        await daemon.GiveBack(fellows);
        foreach (LiveProgram fellow in fellows)
            await fellow.Does("verify");
    }

    [Theory]
    [InlineData("words")]
    [InlineData("all")]
    public async Task SigtermEndsADaemonThatHasATarpit(string part)
    {
        Needs.Root();
        await using LiveProgram victim = await LiveProgram.Target("common", "16", "run=8"), tarpit = await LiveProgram.Target("tarpit", part);
        await victim.Does("verify");
        Trace trace = Trace.Of(victim);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeInInTheEnd(victim, tarpit);
        await Laid(tarpit);
        _ = await daemon.Terminate(Bound);
        await trace.GoneAfterDeath(Bound);
        await victim.Does("verify");
    }

    private static async Task Laid(LiveProgram tarpit)
    {
        string said = await tarpit.NextLine();
        Assert.True(said == "laid", said);
    }
}
