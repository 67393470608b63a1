using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Two daemons on one machine, each with a run directory of its own: no program is taken in by both.</summary>
public sealed class TwoDaemonsTests
{
    [Fact]
    public async Task WhoeverComesSecondSkipsTheProgramAndSaysWhoHasIt()
    {
        Needs.Root();
        await using DaemonUnderTest first = await DaemonUnderTest.Start(), second = await DaemonUnderTest.Start();
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "8");
        await using var together = new Together(two);
        await first.TakeInInTheEnd(two);
        Called called = await Refused(second, two[0]);
        Assert.True($"{called}".Contains($"samepage daemon {first.Pid} has it already", StringComparison.Ordinal), $"{called}");
        await first.GiveBack(two);
        await second.Serves(two, 1000);

        // Neither is a program taken in that a daemon which died has left.
        await first.TakeInInTheEnd(two);
        first.KillGuardian();
        await first.Kill9();
        called = await Refused(second, two[0]);
        Assert.True($"{called}".Contains("samepage recover", StringComparison.Ordinal), $"{called}");
        called = await first.Cli("recover", "--timeout", "60");
        Assert.True(called.ExitCode == 0, $"{called}");
        await second.Serves(two, 1000);
    }

    [Fact]
    public async Task OfTwoThatRaceForAProgramOneGetsIt()
    {
        Needs.Root();
        await using DaemonUnderTest first = await DaemonUnderTest.Start(), second = await DaemonUnderTest.Start();
        await using LiveProgram program = await LiveProgram.Target("common", "4");
        for (int round = 0; round < 12; round++)
        {
            WireOutcome[][] outcomes = await Task.WhenAll(first.Have("attach", program), second.Have("attach", program));
            // On a crowded machine an answer may come before it is settled whose it is.
            await Until.True(async () => Agents(program) == 1 && await Has(first, program) != await Has(second, program), 120,
                async () => $"round {round}: one has it: {Agents(program)} agents; {outcomes[0][0]}; {outcomes[1][0]}; {(await first.Status()).Of(program.Pid)}; {(await second.Status()).Of(program.Pid)}");
            await (await Has(first, program) ? first : second).GiveBack(program);
            await program.Does("verify");
        }
    }

    /// <summary>At a moment at which the other holds its threads the program is refused as traced: then it is asked again.</summary>
    private static async Task<Called> Refused(DaemonUnderTest daemon, LiveProgram program)
    {
        Called called = await daemon.Cli("attach", $"{program.Pid}");
        for (int tries = 0; tries < 100 && $"{called}".Contains("traced by", StringComparison.Ordinal); tries++)
            called = await daemon.Cli("attach", $"{program.Pid}");
        Assert.Equal(1, called.ExitCode);
        return called;
    }

    private static int Agents(LiveProgram program) => ProcessView.Of(program.Pid).MappedNames.Count(name => name.Contains("samepage-agent", StringComparison.Ordinal));

    private static async Task<bool> Has(DaemonUnderTest daemon, LiveProgram program) => (await daemon.Status()).Of(program.Pid).State is "settling" or "merging";

    /// <summary>Anybody may lock any process's descriptor, for ever: that is no reason not to serve it.</summary>
    [Fact]
    public async Task AClaimThatIsNoDaemonsKeepsNoProgramFromBeingServed()
    {
        Needs.Root();
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await using LiveProgram program = await LiveProgram.Target("common", "4");
        await using LiveProgram claimer = LiveProgram.Start(Needs.Program("python3", "python3"), "-c",
            $"import fcntl, os, sys, time\nfd = os.pidfd_open({program.Pid})\nfcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\nprint('ready', flush=True)\nsys.stdin.read()");
        await claimer.Ready();
        await daemon.TakeInInTheEnd(program);
        await daemon.GiveBack(program);
        await program.Does("verify");
    }
}
