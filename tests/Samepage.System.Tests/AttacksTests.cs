using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Programs that do what few programs do. Each of these attacks gave wrong bytes, hung a thread or killed the program once.</summary>
public sealed class AttacksTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    /// <summary>A thread of the agent's comes before all others for a moment, while its program stands still. Its program is root's without capabilities, which may have no such priority.</summary>
    [Fact]
    public async Task WhatTheAgentsThreadIsMadeToForkHasNoPriority()
    {
        string setpriv = Needs.Program("setpriv", "util-linux");
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        LiveProgram[] two = [.. Enumerable.Range(0, 2).Select(_ => LiveProgram.Start(setpriv, "--bounding-set=-all", "--inh-caps=-all", Repository.Target("grabber")))];
        await using var together = new Together(two);
        foreach (LiveProgram program in two)
            await program.Ready();
        await daemon.MergesWithoutRest();
        Task<string>[] caught = [.. two.Select(program => program.NextLine(180))];
        await daemon.TakeIn(two);
        for (int round = 0; round < 20 && !caught.Any(one => one.IsCompletedSuccessfully); round++)
        {
            await Task.WhenAny(Task.WhenAny(caught), Task.Delay(2000, TestContext.Current.CancellationToken));
            await daemon.Control("run", "2");
            await daemon.Control("run", "1");
        }

        Assert.SkipUnless(caught.Any(one => one.IsCompletedSuccessfully), "the agent's thread was never seen with a real-time priority: that wants CAP_SYS_NICE, and no RT_GROUP_SCHED in the way");
        for (int i = 0; i < two.Length; i++)
        {
            _ = caught[i].ContinueWith(static late => late.Exception, TaskScheduler.Default);
            if (!caught[i].IsCompletedSuccessfully)
                continue;
            Assert.Equal("caught 0", await caught[i]);
            await two[i].Does("verify");
        }
    }

    /// <summary>The kernel makes a huge page only where address and place in the pool agree modulo 2 MiB: one of these offsets agrees for most of the memory.</summary>
    [Fact]
    public async Task HugePagesAskedForInPlaceOfFramesTakeNothingFromAnybody()
    {
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        foreach (string offset in (string[])["0", "1", "2", "3", "4", "5"])
        {
            LiveProgram[] two = await LiveProgram.Targets(2, "attacker", offset);
            await using var together = new Together(two);
            await daemon.TakeIn(two);
            await daemon.Merged(two[0], 4000);
            await two[0].Does("collapse");
            await two[0].Does("pageout");
            await two[1].Does("verify");
            if (offset != "5")
                continue;
            await daemon.Kill9();
            await two[1].Does("collapse");
            await two[0].Does("verify");
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task AProgramThatLocksWhatItMapsKeepsItsMemoryAsItWas(bool merged)
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "attacker");
        await using var together = new Together(two);
        if (!merged)
            await two[0].Does("lock");
        await Daemon.TakeIn(two);
        if (merged)
        {
            await Daemon.Merged(two[0], 4000);
            await two[0].Does("lock");
            await Daemon.GiveBack(two);
        }
        else
        {
            await Until.True(async () => (await Daemon.Status()).Of(two[0].Pid) is { State: "skipped" } skipped && skipped.Reason.Contains("MCL_FUTURE", StringComparison.Ordinal), 20,
                async () => $"skipped, because it locks what it maps: {(await Daemon.Status()).Of(two[0].Pid)}");
        }

        await two[0].Does("verify");
        await two[0].Does("discard");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task MemoryThatGrowsIsZeroWhateverTheFramesBehindItHold()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "attacker");
        await using var together = new Together(two);
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 4000);
        foreach (LiveProgram program in two)
            await Until.True(() => Grows(program), 60, $"{program.Name} ({program.Pid}) makes its memory longer");
        foreach (LiveProgram program in two)
            await program.Does("extra");
        await Daemon.Merged(two[0], 6000);
        foreach (LiveProgram program in two)
            await program.Does("verify");
        await Daemon.GiveBack(two);
        foreach (LiveProgram program in two)
            await program.Does("verify");

        // What was merged in several steps lies in several mappings, which mremap(2) refuses to make longer as one (docs/limits.md): merged anew, it does not.
        async Task<bool> Grows(LiveProgram program)
        {
            string answer = await program.Ask("grow");
            if (answer == "ok")
                return true;
            Assert.Equal("grow: Bad address", answer);
            await Daemon.GiveBack(program);
            await Daemon.TakeInAndWait(program);
            await Daemon.Merged(program, 4000);
            return false;
        }
    }

    /// <summary>More than a warden has slots for; and none for which it has a descriptor.</summary>
    [Theory]
    [InlineData("verify", 300)]
    [InlineData("nofile", 20)]
    public async Task ForksThatTheWardenCannotServeAreServedByTheDaemon(string before, int count)
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "attacker");
        await using var together = new Together(two);
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 4000);
        await two[0].Does(before);
        string answer = await two[0].Ask($"forks {count}", 60);
        Assert.StartsWith("bad 0 ", answer, StringComparison.Ordinal);
        await two[0].Does("discard");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task AFilterThatComesOverAllThreadsKillsNothing()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "attacker");
        await using var together = new Together(two);
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 4000);
        await two[0].Does("filter");
        await Until.True(async () => two[0].HasExited || (await Daemon.Status()).Of(two[0].Pid).State == "skipped", 20,
            async () => $"skipped once it has a filter: {(await Daemon.Status()).Of(two[0].Pid)}");
        Assert.Contains("seccomp", (await Daemon.Status()).Of(two[0].Pid).Reason, StringComparison.Ordinal);
        Assert.Equal(1, ProcessView.Of(two[0].Pid).Threads);
        await two[0].Does("verify");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task AProgramInAPidNamespaceOfItsOwnIsServedLikeAnyOther()
    {
        string unshare = Needs.Program("unshare", "util-linux");
        await using LiveProgram outer = LiveProgram.Start(unshare, "--pid", "--fork", "--user", "--map-root-user", "--mount-proc", Repository.Target("attacker"));
        await outer.Ready();
        int inner = int.Parse((await File.ReadAllTextAsync($"/proc/{outer.Pid}/task/{outer.Pid}/children")).Split(' ')[0], System.Globalization.CultureInfo.InvariantCulture);
        Called called = await Daemon.Cli("attach", "--wait", $"{inner}");
        Assert.True(called.ExitCode == 0, $"{called}\n{Daemon.Tail}");
        await outer.Does("extra");
        await outer.Does("pattern 100000");
        await Until.True(async () => (await Daemon.Status()).Of(inner).PagesMerged >= 1500, 30, async () => $"{(await Daemon.Status()).Of(inner)}\n{Daemon.Tail}");
        await outer.Does("verify");
        called = await Daemon.Cli("detach", $"{inner}");
        Assert.True(called.ExitCode == 0, $"{called}\n{Daemon.Tail}");
        Assert.Equal(1, ProcessView.Of(inner).Threads);
        await outer.Does("verify");
        await outer.Tell("quit");
        Assert.Equal(0, await outer.Ends());
    }

    [Fact]
    public async Task AProcessThatSharesItsMemoryWithAnotherIsNotMergedMeanwhile()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "attacker");
        await using var together = new Together(two);
        await two[0].Does("twin");
        await Daemon.TakeIn(two);
        await Until.True(async () => (await Daemon.Status()).Of(two[0].Pid).Reason.Contains("CLONE_VM", StringComparison.Ordinal), 20,
            async () => $"says why nothing is merged: {(await Daemon.Status()).Of(two[0].Pid)}");
        Assert.Equal(0, (await Daemon.Status()).Of(two[0].Pid).PagesMerged);
        await two[0].Does("verify");
        await two[0].Tell("quit");
        Assert.Equal(0, await two[0].Ends());
    }
}
