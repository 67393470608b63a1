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
        await using DaemonUnderTest doomed = await DaemonUnderTest.Start();
        await doomed.TakeIn(two);
        if (mergedPages > 0)
            await doomed.Merged(two[0], mergedPages);
        await doomed.Kill9();

        for (int i = 0; i < two.Length; i++)
        {
            await two[i].Does("verify");
            await before[i].GoneAfterDeath(180);
            await two[i].Does("verify");
        }

        await two[0].Does("write");
        await two[1].Does("verify");
        await two[0].Does("again");

        await using DaemonUnderTest next = await DaemonUnderTest.Start();
        await next.Serves(two, 64 * 256 / 2);
    }

    /// <summary>The kernel frees the threads that a dead tracer held: they must wait until the exchange under way has ended (see Gate).</summary>
    [Theory]
    [InlineData("mprotect")]
    [InlineData("fork")]
    public async Task KilledWhileItHoldsTheThreadsOfAStormItHarmsNothing(string operation)
    {
        Needs.Root();
        LiveProgram[] two = await StormTests.Storms(operation, 0);
        await using var together = new Together(two);
        int[] threads = [.. two.Select(storm => ProcessView.Of(storm.Pid).Threads)];
        string folder = Directory.CreateTempSubdirectory("samepage-test-").FullName;
        for (int round = 0; round < 2; round++)
        {
            await using DaemonUnderTest doomed = await DaemonUnderTest.Start(folder, keep: true);
            await doomed.Kill9WhileItHolds(two);
            foreach (LiveProgram storm in two)
                await StormTests.Report(storm);
        }

        for (int i = 0; i < two.Length; i++)
        {
            await Given(two[i], threads[i]);
            two[i].CloseInput();
            await StormTests.Found(two[i], "done");
        }

        DaemonUnderTest.Remove(folder);
    }

    /// <summary>A program that may open no descriptors any more, as one sees to that confines itself: its agent must be taken over by sockets all the same, and its children be answered for.</summary>
    [Fact]
    public async Task KilledItsProgramsWithoutDescriptorsAreGivenBack()
    {
        Needs.Root();
        LiveProgram[] two = await LiveProgram.Targets(2, "attacker");
        await using var together = new Together(two);
        Trace before = Trace.Of(two[0]);
        await using DaemonUnderTest doomed = await DaemonUnderTest.Start();
        await doomed.TakeInAndWait(two);
        await doomed.Merged(two[0], 4000);
        // To raise the hard one again would take a capability that not every root has.
        await Outside.Must(20, Needs.Program("prlimit", "util-linux"), "--pid", $"{two[0].Pid}", "--nofile=0:");
        await doomed.Kill9();
        Assert.StartsWith("bad 0 ", await two[0].Ask("forks 20", 180), StringComparison.Ordinal);
        await before.GoneAfterDeath(180);
        Assert.Matches("Max open files +0 +[1-9]", await File.ReadAllTextAsync($"/proc/{two[0].Pid}/limits"));
        await two[0].Does("discard");
        await two[1].Does("verify");
    }

    /// <summary>What a thread keeps in its registers is what it finds there behind the gate.</summary>
    [Fact]
    public async Task KilledWhileItHoldsThreadsItLeavesTheirRegistersAsTheyWere()
    {
        Needs.Root();
        Assert.SkipUnless(System.Runtime.Intrinsics.X86.Avx.IsSupported, "the processor has no AVX, whose registers this looks at");
        await using LiveProgram program = await LiveProgram.Target("vectors");
        string folder = Directory.CreateTempSubdirectory("samepage-test-").FullName;
        for (int round = 0; round < 2; round++)
        {
            await using DaemonUnderTest doomed = await DaemonUnderTest.Start(folder, keep: true);
            await doomed.Kill9WhileItHolds(program);
            string found = await program.Ask("report", 20);
            Assert.True(found.EndsWith(" bad 0", StringComparison.Ordinal) && !found.StartsWith("checks 0 ", StringComparison.Ordinal), found);
        }

        await program.Tell("quit");
        Assert.Equal(0, await program.Ends());
        DaemonUnderTest.Remove(folder);
    }

    [Fact]
    public async Task KilledWithItsGuardianItLeavesProcessesRightUntilTheyAreRecovered()
    {
        Needs.Root();
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "64", "run=8");
        await using var together = new Together(two);
        foreach (LiveProgram program in two)
            await program.Does("verify");
        Trace[] before = [.. two.Select(Trace.Of)];
        await using DaemonUnderTest doomed = await DaemonUnderTest.Start();
        await doomed.TakeIn(two);
        await doomed.Merged(two[0], 4000);
        doomed.KillGuardian();
        await doomed.Kill9();

        foreach (LiveProgram program in two)
            await program.Does("verify");
        await two[0].Does("write");
        await two[1].Does("verify");
        Assert.True(ProcessView.Of(two[1].Pid).PssShmemBytes > 0, "nothing was merged any more: the guardian was not killed");

        // Twice at once, as a guardian and a service manager would have it: whoever comes second waits for the first.
        Called[] recovered = await Task.WhenAll(doomed.Cli("recover", "--timeout", "20"), doomed.Cli("recover", "--timeout", "20"));
        Assert.All(recovered, called => Assert.True(called.ExitCode == 0, $"{called}"));
        foreach (Trace trace in before)
            await trace.GoneAfterDeath(1);
        await two[0].Does("again");
        await two[1].Does("verify");
        Assert.Equal(0, (await doomed.Cli("recover")).ExitCode);
    }

    [Fact]
    public async Task AGuardianThatSomebodyHasEndedIsReplaced()
    {
        Needs.Root();
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "16");
        await using var together = new Together(two);
        Trace[] before = [.. two.Select(Trace.Of)];
        await using DaemonUnderTest doomed = await DaemonUnderTest.Start();
        await doomed.TakeIn(two);
        await doomed.Merged(two[0], 2000);
        doomed.KillGuardian();
        await Until.True(() => doomed.Log.Contains("another is started", StringComparison.Ordinal), 120, () => $"the daemon starts another guardian: {doomed.Tail}");
        await doomed.Kill9();
        foreach (Trace trace in before)
            await trace.GoneAfterDeath(180);
        foreach (LiveProgram program in two)
            await program.Does("verify");
    }

    /// <summary>Memory can be written while it is joined, and nobody may see that: see AgentAssembler.Join.</summary>
    [Theory]
    [InlineData("readonly", "r--p")]
    [InlineData("noaccess", "---p")]
    [InlineData("code", "r-xp")]
    public async Task KilledWhileItJoinsMemoryItLeavesTheProtectionThatThatHad(string what, string protection)
    {
        Needs.Root();
        LiveProgram[] two = await LiveProgram.Targets(2, "kinds", "moved", "16");
        await using var together = new Together(two);
        ulong[] area = [.. (await two[0].Ask("address")).Split(' ').Select(address => Convert.ToUInt64(address, 16))];
        await using DaemonUnderTest doomed = await DaemonUnderTest.Start();
        await doomed.TakeInAndWait(two);
        await doomed.Merged(two[0], 1600);
        await two[0].Does($"now {what}");
        int split = Mappings().Length;
        doomed.KillGuardian();
        Task asked = doomed.Post("detach", two[0].Pid);
        await Until.True(() => Mappings().Length < split * 9 / 10, 120, () => $"it was joining what it gave back: {Mappings().Length} mappings, were {split}\n{doomed.Tail}");
        doomed.Kill();
        // It answers when no thread of it waits at the gate any more.
        _ = await two[0].Ask("address");
        Assert.All(Mappings(), mapping => Assert.Equal(protection, mapping.Split(' ')[1]));
        await doomed.Ends(10);
        await asked.ContinueWith(static _ => { }, TaskScheduler.Default); // it lost the daemon

        Called recovered = await doomed.Cli("recover", "--timeout", "20");
        Assert.True(recovered.ExitCode == 0, $"{recovered}");
        Assert.All(Mappings(), mapping => Assert.Equal(protection, mapping.Split(' ')[1]));
        await two[0].Does("now accessible");
        foreach (LiveProgram program in two)
            await program.Does("verify");

        string[] Mappings() => ProcessView.Of(two[0].Pid).Within(area[0], area[1]);
    }

    private static Task Given(LiveProgram storm, int threads) => Until.True(
        () => ProcessView.Of(storm.Pid) is var view && view.Threads == threads && !view.MappedNames.Any(name => name.Contains("samepage", StringComparison.Ordinal)), 20,
        () => $"{ProcessView.Of(storm.Pid).Threads} threads, were {threads}; {string.Join("; ", ProcessView.Of(storm.Pid).MappedNames)}");

    /// <summary>Whoever uses the control files of a daemon that is killed is told so at once; its guardian takes them away, or the next daemon does.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task KilledItLeavesNobodyHangingInItsControlFiles(bool hasGuardian)
    {
        Needs.Root();
        string folder = Directory.CreateTempSubdirectory("samepage-test-").FullName;
        string files = Path.Combine(folder, "control", "ksm");
        await using (DaemonUnderTest doomed = await DaemonUnderTest.Start(folder, keep: true))
        {
            await using LiveProgram shell = LiveProgram.StartIn(files, new Dictionary<string, string>(), "sh", "-c", "echo ready; while read -r line; do cat run 2>&1; ls . 2>&1; done");
            await shell.Ready();
            if (!hasGuardian)
                doomed.KillGuardian();
            await doomed.Kill9();
            Assert.Contains("not connected", await shell.Ask("", 10), StringComparison.Ordinal);
            Assert.Contains("not connected", await shell.NextLine(10), StringComparison.Ordinal);
            if (hasGuardian)
                await Until.True(() => !File.ReadAllText("/proc/self/mountinfo").Contains(folder, StringComparison.Ordinal), 20, () => "the guardian unmounts it");
            else
                Assert.Contains(folder, File.ReadAllText("/proc/self/mountinfo"), StringComparison.Ordinal);
            await using DaemonUnderTest next = await DaemonUnderTest.Start(folder, keep: true);
            Assert.Equal("1\n", File.ReadAllText(Path.Combine(files, "run")));
            Assert.Equal(0, await next.Terminate());
        }

        Assert.DoesNotContain(folder, File.ReadAllText("/proc/self/mountinfo"), StringComparison.Ordinal);
        Directory.Delete(folder, recursive: true);
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
