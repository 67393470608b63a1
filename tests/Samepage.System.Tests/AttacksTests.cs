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
        await daemon.MergesWithoutRest();
        // Their moment is short, and a try that comes too late may leave an agent that answers no more.
        bool isCaught = false;
        for (int round = 0; round < 20 && !isCaught; round++)
            isCaught = await AreCaught(daemon, setpriv);
        Assert.SkipUnless(isCaught, "the agent's thread was never seen with a real-time priority: that wants CAP_SYS_NICE, and no RT_GROUP_SCHED in the way");
    }

    /// <summary>Two programs look for the moment for a while.</summary>
    /// <returns>False when neither has caught it.</returns>
    private static async Task<bool> AreCaught(DaemonUnderTest daemon, string setpriv)
    {
        LiveProgram[] two = [.. Enumerable.Range(0, 2).Select(_ => LiveProgram.Start(setpriv, "--bounding-set=-all", "--inh-caps=-all", Repository.Target("grabber")))];
        await using var together = new Together(two);
        foreach (LiveProgram program in two)
            await program.Ready();
        Task<string>[] caught = [.. two.Select(program => program.NextLine(180))];
        await daemon.TakeInInTheEnd(two);
        await Task.WhenAny(Task.WhenAll(caught), Task.Delay(8000, TestContext.Current.CancellationToken));
        for (int i = 0; i < two.Length; i++)
        {
            _ = caught[i].ContinueWith(static late => late.Exception, TaskScheduler.Default);
            if (!caught[i].IsCompletedSuccessfully)
                continue;
            Assert.Equal("caught 0", await caught[i]);
            await two[i].Does("verify");
        }

        return caught.Any(one => one.IsCompletedSuccessfully);
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

    /// <summary>A program of the domain has huge pages made of the pool before there are frames in it. Then a run of 512 frames could be mapped by one entry, which the kernel takes away whole: when it was
    /// first tried, 3,072 of 4,096 pages of an honest program were zero when it was given back.</summary>
    /// <remarks>Where the memory begins, and how many frames there are before, is so that the runs in which it was merged then had addresses and places in the pool that agree. That no frame lies in a
    /// large page is seen whatever the runs are.</remarks>
    [Fact]
    public async Task HugePagesMadeOfThePoolBeforeThereAreFramesTakeNothingFromAnybody()
    {
        const int Offset = 448, Others = 5, ExtentFrames = 512;
        Needs.Root();
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await using Thief attacker = await Thief.Start([], ExtentFrames + Offset - Others, 9_000_000);
        await daemon.TakeIn(attacker.Program);
        await daemon.Merged(attacker.Program, (ExtentFrames + Offset) * 9 / 5, 120);
        Assert.Matches("^made [1-9]", await attacker.Program.Ask("ahead 64"));
        LiveProgram[] two = await LiveProgram.Targets(2, "attacker", $"{Offset}");
        await using var together = new Together(two);
        await daemon.TakeIn(two);
        foreach (LiveProgram one in two)
            await daemon.Merged(one, 3600, 120);
        string[] range = (await two[0].Ask("address")).Split(' ');
        Assert.Equal(0, LargePages(ProcessView.Of(two[0].Pid).Frames(Convert.ToUInt64(range[0], 16), Convert.ToUInt64(range[1], 16))));
        foreach (LiveProgram one in two)
            await one.Does("verify");
        await daemon.GiveBack(two[0]);
        foreach (LiveProgram one in two)
            await one.Does("verify");
    }

    /// <summary>How many page frames are part of a large page: KPF_COMPOUND_HEAD, KPF_COMPOUND_TAIL.</summary>
    private static int LargePages(IEnumerable<ulong> numbers)
    {
        using FileStream flags = new("/proc/kpageflags", FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 0);
        byte[] word = new byte[8];
        return numbers.Count(number =>
        {
            flags.Position = (long)number * 8;
            return number != 0 && flags.Read(word) == 8 && (BitConverter.ToUInt64(word) & 0x18000) != 0;
        });
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
            await program.Does("grow");
        foreach (LiveProgram program in two)
            await program.Does("extra");
        await Daemon.Merged(two[0], 6000);
        foreach (LiveProgram program in two)
            await program.Does("verify");
        await Daemon.GiveBack(two);
        foreach (LiveProgram program in two)
            await program.Does("verify");
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
        await Daemon.GiveBack(two);
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
        // It gave up to gain privileges for that, which is seen first where nobody can look at the filter at once.
        string reason = (await Daemon.Status()).Of(two[0].Pid).Reason;
        Assert.True(reason.Contains("seccomp", StringComparison.Ordinal) || reason.Contains("PR_SET_NO_NEW_PRIVS", StringComparison.Ordinal), reason);
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
        await Daemon.TakeIn(two);
        await Daemon.Merged(two[0], 4000);
        await two[0].Does("twin");
        await SaysWhy(two[0], "CLONE_VM");
        await two[0].Does("verify");
        await two[0].Tell("quit");
        Assert.Equal(0, await two[0].Ends());
    }

    /// <summary>Whoever they are to each other: a child, one that its maker has made a sibling (CLONE_PARENT), a child's child whose parent has ended.</summary>
    [Theory]
    [InlineData("child")]
    [InlineData("sibling")]
    [InlineData("orphan")]
    public async Task AProcessThatBeginsToShareItsMemoryIsNotMergedMeanwhile(string who)
    {
        await using LiveProgram one = LiveProgram.Start(Repository.Target("kin"), who, "later"), other = LiveProgram.Start(Repository.Target("kin"), who, "later");
        _ = await one.NextLine();
        _ = await other.NextLine();
        await Daemon.TakeIn(one, other);
        await Daemon.Merged(one, 4000);
        await one.Does("share");
        await SaysWhy(one, "CLONE_VM");
        await Worked(one, 100);
    }

    /// <summary>One that shares its memory from the beginning is not taken in: also where it is itself the child, of clone(2) or vfork(2), and others work in the memory.</summary>
    [Theory]
    [InlineData("child")]
    [InlineData("sibling")]
    [InlineData("orphan")]
    [InlineData("parent")]
    [InlineData("vfork")]
    public async Task AProcessThatSharesItsMemoryIsNotTakenIn(string who)
    {
        await using LiveProgram one = LiveProgram.Start(Repository.Target("kin"), who), other = LiveProgram.Start(Repository.Target("kin"), who);
        string[] pids = [(await one.NextLine())["ready ".Length..], (await other.NextLine())["ready ".Length..]];
        Called called = await Daemon.Cli(["attach", .. pids]);
        Assert.True(called.ExitCode != 0 && called.Errors.Contains("CLONE_VM", StringComparison.Ordinal), $"{called}");
        await Worked(one, 50);
    }

    /// <summary>The kernel may drop such a page wherever it lies at the moment, so also where it is compared: nobody must wait for it then.</summary>
    [Fact]
    public async Task PagesThatTheKernelDropsWhileTheyAreComparedKeepNobody()
    {
        Needs.Root();
        LiveProgram[] two = await LiveProgram.Targets(2, "lazy", "32", "reclaim");
        await using var together = new Together(two);
        await Daemon.MergesWithoutRest();
        await Daemon.TakeIn(two);
        await Daemon.Merged(two[0], 1000, 120);
        await Task.Delay(10000);
        foreach (LiveProgram lazy in two)
        {
            string said = await lazy.Ask("report", 60);
            Assert.True(said.StartsWith("rounds ", StringComparison.Ordinal) && said.Contains(" bad 0 ", StringComparison.Ordinal), $"{said}: {lazy.Errors}\n{Daemon.Tail}");
        }
    }

    /// <summary>The kernel's threads that work for io_uring discard memory as soon as the program is held.</summary>
    [Fact]
    public async Task WhatAPolledQueueDiscardsIsZero()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "ringed");
        await using var together = new Together(two);
        await Daemon.TakeIn(two);
        await Task.Delay(15000);
        foreach (LiveProgram ringed in two)
        {
            string said = await ringed.Ask("report", 60);
            Assert.True(said.EndsWith(" bad 0", StringComparison.Ordinal), $"{said}: {ringed.Errors}");
        }
    }

    private Task SaysWhy(LiveProgram program, string word) =>
        Until.True(async () => (await Daemon.Status()).Of(program.Pid).Reason.Contains(word, StringComparison.Ordinal), 120, async () => $"says why nothing is merged: {(await Daemon.Status()).Of(program.Pid)}");

    private static async Task Worked(LiveProgram program, long least)
    {
        await Until.True(async () => Number(await program.Ask("report"), 1) >= least, 120, async () => $"it works: {await program.Ask("report")}");
        string said = await program.Ask("report");
        Assert.True(Number(said, 3) == 0, said);
    }

    private static long Number(string said, int word) => long.Parse(said.Split(' ')[word], System.Globalization.CultureInfo.InvariantCulture);
}
