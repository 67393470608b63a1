using System.Globalization;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>The daemon, or a program, is short of something, or is cheated: nobody else is the worse for it.</summary>
[Collection(SwapFile.Machine)]
public sealed class HardshipTests
{
    /// <summary>One that holds its agent's threads is waited for, ten seconds: with <c>./test --long</c> only.</summary>
    public static TheoryData<string> Turns => Environment.GetEnvironmentVariable("SAMEPAGE_TEST_SECONDS") is null ? ["close"] : ["close", "exit", "stop"];

    /// <summary>Out of descriptors it refuses whom it cannot take in, says why, serves the others, and gives them back.</summary>
    [Fact]
    public async Task ADaemonOutOfDescriptorsRefusesAndGoesOn()
    {
        string prlimit = Needs.Program("prlimit", "util-linux");
        LiveProgram[] many = await LiveProgram.Targets(12, "common", "4");
        await using var together = new Together(many);
        Trace[] before = [.. many.Select(Trace.Of)];
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeIn(many[0], many[1]);
        int open = ProcessView.Of(daemon.Pid).Descriptors.Length;
        await Outside.Must(10, prlimit, $"--nofile={open + 24}:", "--pid", $"{daemon.Pid}");
        Called called = await daemon.Cli(["attach", .. many.Select(program => $"{program.Pid}")]);
        Assert.True(called.ExitCode == 1 && called.ToString().Contains("EMFILE", StringComparison.Ordinal), $"{called}");
        await daemon.Merged(many[0], 700);
        foreach (LiveProgram program in many)
            await program.Does("verify");
        foreach (LiveProgram refused in many.Where(program => called.Errors.Contains($"process {program.Pid} ", StringComparison.Ordinal)))
            Assert.Equal(1, ProcessView.Of(refused.Pid).Threads);
        await many[0].Does("write");
        await many[1].Does("verify");

        await Outside.Must(10, prlimit, "--nofile=4096:", "--pid", $"{daemon.Pid}");
        await daemon.TakeIn(many);
        Called back = await daemon.Cli("detach", "--all");
        Assert.True(back.ExitCode == 0, $"{back}\n{daemon.Tail}");
        foreach (Trace trace in before)
            trace.IsGone();
    }

    /// <summary>Its pool is charged to its own control group: beyond that group's limit it is killed. Programs go on, and are given back when there is memory for that.</summary>
    [Fact]
    public async Task ADaemonOutOfMemoryDiesAndHarmsNobody()
    {
        using MemoryGroup group = MemoryGroup.Make();
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "160");
        await using var together = new Together(two);
        Trace[] before = [.. two.Select(Trace.Of)];
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(launcher: group.Launcher);
        group.Limit(group.Usage + (48 << 20));
        Task<Called> taken = daemon.Cli(["attach", .. two.Select(program => $"{program.Pid}")]);
        await Until.True(() => daemon.HasExited, 40, () => $"120 MiB of frames do not fit in {group.Usage} bytes");
        await taken;
        Assert.NotEqual(0, group.Killed);
        foreach (LiveProgram program in two)
            await program.Does("verify");
        await two[0].Does("write");
        await two[1].Does("verify");
        // The guardian's attempt may have been killed as well; this one has room.
        group.Limit(null);
        await Until.True(async () => (await daemon.Cli("recover", "--timeout", "20")).ExitCode == 0, 40, "what was left is given back");
        foreach (Trace trace in before)
            await trace.GoneAfterDeath(180);
        await two[0].Does("again");
        await two[1].Does("verify");
    }

    /// <summary>Its address space is bounded while it works: it may die of that, and nobody else.</summary>
    [Fact]
    public async Task ADaemonWithoutAddressSpaceHarmsNobody()
    {
        string prlimit = Needs.Program("prlimit", "util-linux");
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "64", "run=4");
        await using var together = new Together(two);
        Trace[] before = [.. two.Select(Trace.Of)];
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        long bytes = ProcessView.Of(daemon.Pid).Status("VmSize") * 1024;
        await Outside.Must(10, prlimit, $"--as={bytes + 65536}:{bytes + 65536}", "--pid", $"{daemon.Pid}");
        await daemon.Cli(["attach", .. two.Select(program => $"{program.Pid}")]);
        foreach (LiveProgram program in two)
            await program.Does("verify");
        await two[0].Does("write");
        await two[1].Does("verify");
        await two[0].Does("again");
        if (!daemon.HasExited)
            await daemon.Cli("detach", "--all");
        if (!daemon.HasExited)
            await daemon.Kill9();
        foreach (Trace trace in before)
            await trace.GoneAfterDeath(180);
        foreach (LiveProgram program in two)
            await program.Does("verify");
    }

    /// <summary>Giving back takes memory. Where a limit leaves none, the kernel would kill the program for it: so it stays merged, and everybody is told.</summary>
    [Fact]
    public async Task AProgramWhoseLimitLeavesNoRoomIsNotKilledByBeingGivenBack()
    {
        using MemoryGroup group = MemoryGroup.Make();
        await using LiveProgram outside = await LiveProgram.Target("common", "64");
        await using LiveProgram inside = LiveProgram.Start(group.Launcher[0], [.. group.Launcher[1..], Repository.Target("common"), "64"]);
        await inside.Ready();
        long used = group.Usage;
        var before = Trace.Of(inside);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeInAndWait(inside, outside);
        await daemon.Merged(inside, 12_000);
        await group.Freed(40 << 20, used);
        group.Limit(group.Usage + (8 << 20));
        if (File.ReadLines("/proc/swaps").Count() > 1)
            group.LimitSwap(0);
        Called called = await daemon.Cli("detach", $"{inside.Pid}");
        Assert.True(called.ExitCode == 1 && called.ToString().Contains("control group", StringComparison.Ordinal), $"{called}");
        await inside.Does("verify");
        Assert.Contains("control group", (await daemon.Status()).Of(inside.Pid).Reason, StringComparison.Ordinal);

        // Nor by the daemon's death.
        await daemon.Kill9();
        await outside.Does("write");
        await inside.Does("verify");
        await Until.True(() => ProcessView.Of(outside.Pid).Threads == 1, 20, () => "the guardian gives the other back");
        await Task.Delay(500); // and would this one, if it dared
        await inside.Does("verify");
        Assert.True(ProcessView.Of(inside.Pid).PssShmemBytes > 0, "it is merged as before");
        Assert.Equal(0, group.Killed);
        group.Limit(null);
        await before.GoneAfterDeath(180);
        await inside.Does("verify");
    }

    /// <summary>Killed at any moment of a merge, also in the middle of an exchange, a program takes nothing with it.</summary>
    [Fact]
    public async Task ProgramsThatAreKilledAtAnyMomentTakeNothingWithThem()
    {
        Needs.Root();
        LiveProgram[] partners = await LiveProgram.Targets(2, "common", "24", "run=2");
        await using var together = new Together(partners);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeIn(partners);
        int seconds = int.Parse(Environment.GetEnvironmentVariable("SAMEPAGE_TEST_SECONDS") ?? "4", CultureInfo.InvariantCulture);
        Random random = new(1);
        int killed = 0;
        for (DateTime end = DateTime.UtcNow.AddSeconds(Math.Min(300, seconds)); DateTime.UtcNow < end || killed < 6; killed++)
        {
            await using LiveProgram victim = await LiveProgram.Target("common", "24", "run=2");
            Task<Called> taken = daemon.Cli("attach", $"{victim.Pid}");
            if (random.Next(3) > 0)
                await Until.True(async () => taken.IsCompleted || (await daemon.Status()).Of(victim.Pid).PagesMerged > random.Next(4000), 20, "it is being merged");
            else
                await Task.Delay(random.Next(400));
            victim.Kill();
            await victim.Ends(10);
            await taken;
            await partners[killed % 2].Does(killed % 4 == 3 ? "write" : "verify");
            if (killed % 4 == 3)
                await partners[killed % 2].Does("again");
        }

        TestContext.Current.SendDiagnosticMessage("{0} programs killed while they were merged", killed);
        Assert.False(daemon.HasExited, daemon.Tail);
        await daemon.Serves(partners, 24 * 256 / 2);
    }

    /// <summary>Most runs lie near each other with single pages between them, and are moved out one by one, or in one stretch: what another process writes there meanwhile is not lost.</summary>
    [Theory]
    [InlineData("always", "vm")]
    [InlineData("never", "vm")]
    [InlineData("always", "mem")]
    public async Task WritesOfAnotherProcessIntoStretchesAreNotLost(string stretches, string way)
    {
        Needs.Root();
        LiveProgram[] two = await LiveProgram.Targets(2, "remote", way);
        await using var together = new Together(two);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(environment: new() { ["SAMEPAGE_STRETCHES"] = stretches });
        await daemon.MergesWithoutRest();
        int seconds = Math.Min(150, int.Parse(Environment.GetEnvironmentVariable("SAMEPAGE_TEST_SECONDS") ?? "2", CultureInfo.InvariantCulture));
        long merges = 0, last = 0, writes = 0;
        DateTime end = DateTime.UtcNow.AddSeconds(seconds);
        for (int round = 0; round < 2 || DateTime.UtcNow < end; round++)
        {
            await daemon.TakeIn(two);
            await daemon.Merged(two[0], 3000);
            for (DateTime rest = DateTime.UtcNow.AddSeconds(seconds / 4.0); DateTime.UtcNow < rest; await Task.Delay(50))
            {
                long now = (await daemon.Status()).Of(two[0].Pid).PagesMerged;
                (merges, last) = (merges + Math.Max(0, now - last), now);
            }

            await daemon.GiveBack(two[round % 2]);
            foreach (LiveProgram program in two)
            {
                string report = await program.Ask("report");
                Assert.True($"{report} ".Contains(" bad 0 ", StringComparison.Ordinal), $"{program.Name}: {report}");
                writes = Math.Max(writes, long.Parse(report.Split(' ')[1], CultureInfo.InvariantCulture));
            }
        }

        Assert.InRange(writes, 5000, long.MaxValue);
        Assert.InRange(merges, 3000, long.MaxValue);
        TestContext.Current.SendDiagnosticMessage("{0} writes of another process, {1} pages merged at least, none lost", writes, merges);
    }

    /// <summary>A program may spoil what is its own. The daemon is not kept by it, does not die of it, and the others are merged and given back as ever.</summary>
    [Theory]
    [MemberData(nameof(Turns))]
    public async Task AProgramThatTurnsAgainstItsAgentHarmsItselfAtMost(string turn)
    {
        Needs.Root();
        LiveProgram[] three = [await LiveProgram.Target("hostile"), .. await LiveProgram.Targets(2, "hostile")];
        await using var together = new Together(three);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.TakeInAndWait(three);
        await daemon.Merged(three[0], 1800);
        Assert.Equal("turned 2", await three[0].Ask(turn));
        await three[1].Does("verify");
        Called called = await daemon.Cli("detach", $"{three[0].Pid}");
        Assert.True(called.ExitCode is 0 or 1, $"{called}");
        LiveProgram[] more = await LiveProgram.Targets(2, "common", "16");
        await using var later = new Together(more);
        await daemon.TakeInAndWait(more);
        await daemon.Merged(more[0], 2500);
        await daemon.GiveBack([.. more, three[1], three[2]]);
        foreach (LiveProgram program in (LiveProgram[])[.. more, three[1], three[2]])
            await program.Does("verify");
        Assert.Equal(1, ProcessView.Of(three[1].Pid).Threads);
        await three[0].Does("verify", 20);
        Assert.False(daemon.HasExited, daemon.Tail);
        three[0].Kill();
        await three[0].Ends(10);
    }
}
