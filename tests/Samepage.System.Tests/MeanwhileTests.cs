using System.Globalization;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>What others do to a program's memory at the very moment at which it is merged, given back and joined: nobody can hold them.</summary>
/// <remarks>Each on a daemon of its own, which merges without rest: more is exchanged so.</remarks>
public sealed class MeanwhileTests
{
    /// <summary>Who comes upon a page that is missing for a moment waits, and finds what was there.</summary>
    /// <remarks>It read zeros, and so did the program from then on: pages that were being joined were filled by the warden.</remarks>
    [Fact]
    public async Task E2_WhoReadsPageAfterPageFromOutsideFindsAllOfThem()
    {
        Needs.Root();
        LiveProgram[] two = await LiveProgram.Targets(2, "remote", "sweep");
        await using var together = new Together(two);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.MergesWithoutRest();
        for (int round = 0; round < 3; round++)
        {
            await daemon.TakeIn(two);
            await daemon.Merged(two[0], 2000);
            await daemon.GiveBack(two[round % 2]);
            await AllIsThere(two);
        }
    }

    /// <summary>Who has a copy of the descriptor by which the warden answers, and is late, fills what he takes for discarded: no page is lost by it.</summary>
    [Fact]
    public async Task E2_ALateAnswerTakesNoPageAway()
    {
        Needs.Root();
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "32", "run=3");
        await using var together = new Together(two);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.MergesWithoutRest();
        long filled = 0;
        for (int round = 0; round < 3; round++)
        {
            await daemon.TakeIn(two);
            await daemon.Merged(two[0], 3000);
            await using LiveProgram late = await LiveProgram.Target("late", $"{two[0].Pid}");
            await daemon.GiveBack(two[0]);
            filled += long.Parse((await late.Ask("report")).Split(' ')[3], CultureInfo.InvariantCulture);
            await two[0].Does("verify");
        }

        Assert.InRange(filled, 1, long.MaxValue);
    }

    /// <summary>Pages are written and pinned between the moment at which it is decided what to give back and that at which it is: what a device writes into them arrives.</summary>
    [Fact]
    public async Task D2_PagesThatArePinnedWhileTheirProcessIsGivenBackGetTheirData()
    {
        Needs.Root();
        Assert.SkipWhen(await File.ReadAllTextAsync("/proc/sys/kernel/io_uring_disabled") is not "0\n", "needs io_uring");
        LiveProgram[] two = await LiveProgram.Targets(2, "pinner");
        await using var together = new Together(two);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.MergesWithoutRest();
        for (int round = 0; round < 5; round++)
        {
            await daemon.TakeIn(two);
            await daemon.Merged(two[0], 2000);
            await daemon.GiveBack(two);
            await AllIsThere(two);
        }
    }

    private static async Task AllIsThere(LiveProgram[] programs)
    {
        foreach (LiveProgram program in programs)
        {
            string report = await program.Ask("report");
            Assert.True(report.EndsWith(" bad 0", StringComparison.Ordinal), $"{program.Name}: {report}");
        }
    }
}
