using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Threads in every state in which one can be borrowed or held (docs/threads.md): none may notice.</summary>
public sealed class ThreadStatesTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    [Fact]
    public async Task ARestartableSequenceIsNeverGoneOnWithInTheMiddle()
    {
        await using LiveProgram counting = await LiveProgram.Target("rseq");
        await ComeAndGo(counting, 20);
        string said = await counting.Ask("stop", 120);
        Assert.True(said.StartsWith("committed ", StringComparison.Ordinal) && said.Contains(" lost 0 ", StringComparison.Ordinal) && said.EndsWith(" bad 0", StringComparison.Ordinal), said);
        Assert.Equal(0, await counting.Ends());
    }

    [Theory]
    [InlineData("step")]
    [InlineData("queue")]
    [InlineData("stack")]
    public async Task AnOddStateIsKept(string state)
    {
        await using LiveProgram odd = await LiveProgram.Target("oddities", state);
        await ComeAndGo(odd, 20);
        await Fine(odd);
    }

    [Fact]
    public async Task AProgramThatMakesItsOwnCallsIsLeftAlone()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "oddities", "dispatch");
        await using var together = new Together(two);
        // Another thread may be borrowed; then it is taken in, and nothing can be merged in it.
        await Until.True(async () =>
        {
            WireOutcome[] came = await Daemon.Have("attach", two);
            WireStatus status = await Daemon.Status();
            return came.Select(outcome => outcome.Reason).Concat(two.Select(odd => status.Of(odd.Pid).Reason)).Any(reason => reason.Contains("dispatch", StringComparison.Ordinal));
        }, 120, async () => $"the reason says what stands in the way: {(await Daemon.Status()).Of(two[0].Pid)}");
        foreach (LiveProgram odd in two)
            Assert.Equal(0, (await Daemon.Status()).Of(odd.Pid).PagesMerged);
        foreach (LiveProgram odd in two)
        {
            await Until.True(async () => (await Daemon.Have("detach", odd))[0].Done, 120, () => Task.FromResult($"{odd.Name} is given back: {Daemon.Tail}"));
            await Fine(odd);
        }
    }

    [Fact]
    public async Task NoCallComesBackHalfDone()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "eintr", "parts");
        await using var together = new Together(two);
        foreach (LiveProgram program in two)
            await ComeAndGo(program, 10);
        await Daemon.TakeIn(two);
        await Until.True(async () => (await Daemon.Status()).Of(two[0].Pid).Reason.Length > 0, 120, async () => $"a reason is given: {(await Daemon.Status()).Of(two[0].Pid)}");
        await Daemon.GiveBack(two);
        foreach (LiveProgram program in two)
            await WasRight(program);
    }

    [Fact]
    public async Task NoCallAnswersEintrOrReturnsBeforeItsTime()
    {
        await using LiveProgram calling = await LiveProgram.Target("eintr");
        await using LiveProgram company = await LiveProgram.Target("eintr");
        for (int round = 0; round < 6; round++)
        {
            await Daemon.TakeIn(calling, company);
            await Daemon.Merged(calling, 500, 120);
            await Daemon.GiveBack(calling, company);
        }

        await WasRight(calling);
        await WasRight(company);
    }

    /// <summary>Signals come at any moment, also while threads are held: one that has a handler ends the call that it finds, one that is ignored ends none, and queued ones come in their order.</summary>
    [Fact]
    public async Task ASignalEndsTheCallThatItFindsAlsoWhileThreadsAreHeld()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "signals");
        await using var together = new Together(two);
        await Daemon.MergesWithoutRest();
        for (int round = 0; round < 3; round++)
        {
            await Daemon.TakeIn(two);
            await Daemon.Merged(two[0], 1000, 120);
            await Task.Delay(3000);
            await Daemon.GiveBack(two);
        }

        foreach (LiveProgram program in two)
        {
            string said = await program.Ask("report", 120);
            // One that comes in the microsecond in which a held thread goes on finds it before its call, as the kernel has it: docs/limits.md.
            bool isLost = said.EndsWith(" lost 1 woken 0 order 0 bad 0", StringComparison.Ordinal);
            Assert.True(said.StartsWith("sent ", StringComparison.Ordinal) && (isLost || said.EndsWith(" lost 0 woken 0 order 0 bad 0", StringComparison.Ordinal)), $"{said}: {program.Errors}");
            Assert.Equal(0, await program.Ends());
        }
    }

    /// <summary>Has a program taken in and given back over and over. What cannot be done at one moment is tried at the next.</summary>
    private async Task ComeAndGo(LiveProgram program, int times)
    {
        for (int done = 0; done < times;)
        {
            WireOutcome[] came = await Daemon.Have("attach", program);
            await Until.True(async () => (await Daemon.Have("detach", program))[0].Done, 120, () => Task.FromResult($"{program.Name} is given back: {Daemon.Tail}"));
            done += came[0].Done ? 1 : 0;
        }
    }

    private static async Task WasRight(LiveProgram calling)
    {
        string said = await calling.Ask("report", 120);
        Assert.True(said.EndsWith(" eintr 0 early 0 short 0 bad 0", StringComparison.Ordinal), $"{said}: {calling.Errors}");
        Assert.Equal(0, await calling.Ends());
    }

    private static async Task Fine(LiveProgram odd)
    {
        string said = await odd.Ask("stop", 120);
        Assert.True(said.StartsWith("done ", StringComparison.Ordinal) && !said.StartsWith("done 0 ", StringComparison.Ordinal) && said.EndsWith(" wrong 0 bad 0", StringComparison.Ordinal), said);
        Assert.Equal(0, await odd.Ends());
    }
}
