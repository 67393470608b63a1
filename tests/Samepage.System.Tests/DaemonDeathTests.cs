using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>The daemon ends, well or badly: no process may be the worse for it.</summary>
public sealed class DaemonDeathTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1000)]
    [InlineData(4000)]
    [InlineData(10000)]
    public async Task KilledWhileMergingItLeavesEveryProcessWholeAndPrivate(long mergedPages)
    {
        Needs.Root();
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "64", "run=8");
        await using var together = new Together(two);
        foreach (LiveProgram program in two)
            await program.Does("verify");
        Trace[] before = [.. two.Select(Trace.Of)];
        await using (DaemonUnderTest doomed = await DaemonUnderTest.Start())
        {
            await doomed.TakeIn(two);
            if (mergedPages > 0)
                await doomed.Merged(two[0], mergedPages);
            await doomed.Kill9();
        }

        for (int i = 0; i < two.Length; i++)
        {
            await two[i].Does("verify");
            await before[i].GoneAfterDeath(10);
            await two[i].Does("verify");
        }

        await two[0].Does("write");
        await two[1].Does("verify");
        await two[0].Does("again");

        await using DaemonUnderTest next = await DaemonUnderTest.Start();
        await next.TakeInAndWait(two);
        await next.Merged(two[0], 64 * 256 / 2);
        await next.GiveBack(two);
        foreach (LiveProgram program in two)
            await program.Does("verify");
    }

    [Fact]
    public async Task KilledInTheMiddleOfAStormItHarmsNothing()
    {
        Needs.Root();
        LiveProgram[] two = await StormTests.Storms("write", 0);
        await using var together = new Together(two);
        int[] threads = [.. two.Select(storm => ProcessView.Of(storm.Pid).Threads)];
        for (int round = 0; round < 4; round++)
        {
            await using DaemonUnderTest doomed = await DaemonUnderTest.Start();
            await doomed.TakeIn(two);
            await doomed.Merged(two[round % 2], 200 * (round + 1));
            await doomed.Kill9();
            for (int i = 0; i < two.Length; i++)
            {
                var view = ProcessView.Of(two[i].Pid);
                int was = threads[i];
                await Until.True(() => view.Threads == was && !view.MappedNames.Any(name => name.Contains("memfd", StringComparison.Ordinal)), 20,
                    () => $"{view.Threads} threads, were {was}; {string.Join("; ", view.MappedNames)}");
                await StormTests.Report(two[i]);
            }
        }

        foreach (LiveProgram storm in two)
        {
            storm.CloseInput();
            await StormTests.Found(storm, "done");
        }
    }

    [Fact]
    public async Task H1_TerminatedItGivesEverybodyBackAndExitsWith0()
    {
        Needs.Root();
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "64");
        await using var together = new Together(two);
        foreach (LiveProgram program in two)
            await program.Does("verify");
        Trace[] before = [.. two.Select(Trace.Of)];
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeIn(two);
        await daemon.Merged(two[0], 5000);
        Assert.True(await daemon.Terminate() == 0, daemon.Tail);
        for (int i = 0; i < two.Length; i++)
        {
            before[i].IsGone();
            await two[i].Does("verify");
        }
    }
}
