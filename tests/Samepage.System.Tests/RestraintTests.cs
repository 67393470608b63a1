using System.Globalization;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Memory that is not plain, before or after it was merged: it keeps what makes it what it is, or is left alone.</summary>
public sealed class RestraintTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    private const string MapCount = "/proc/sys/vm/max_map_count";
    private const long Reserve = 1000;

    /// <summary>Those that this kernel and processor have.</summary>
    public static TheoryData<string> Kinds => [.. ((string[])["secret", "pkey", "seal", "dontdump", "wipe", "lock", "onfault"]).Where(IsThere)];

    public static TheoryData<string> Carried => [.. ((string[])["dontfork", "name"]).Where(IsThere)];

    public static TheoryData<string> Late => [.. ((string[])["pkey", "dontdump", "dontfork", "lock", "onfault"]).Where(IsThere)];

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task MemoryOfAKindOfItsOwnIsLeftAlone(string kind)
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "special", kind);
        await using var together = new Together(two);
        (ulong start, ulong end) = await Area(two[0]);
        string flags = ProcessView.Of(two[0].Pid).FlagsAt(start);
        Trace[] before = [.. two.Select(Trace.Of)];
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 500);
        Assert.Equal(512, (await Daemon.Status()).Of(two[0].Pid).PagesMerged, 20.0);
        Assert.Empty(ProcessView.Of(two[0].Pid).Frames(start, end).Where(frame => frame != 0).Intersect(ProcessView.Of(two[1].Pid).Frames(start, end)));
        Assert.Equal(flags, ProcessView.Of(two[0].Pid).FlagsAt(start));
        foreach (string command in (string[])["verify", "child", "write"])
            await two[0].Does(command);
        await Daemon.GiveBack(two);
        foreach (Trace trace in before)
            trace.IsGone();
        Assert.Equal(flags, ProcessView.Of(two[0].Pid).FlagsAt(start));
        await two[0].Does("child");
        await two[1].Does("verify");
    }

    /// <summary>It is merged, and is what it was all the time, as far as the kernel shows it of frames: a child has none of what fork does not copy.</summary>
    [Theory]
    [MemberData(nameof(Carried))]
    public async Task MemoryOfAKindThatCanBeCarriedIsMergedWithIt(string kind)
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "special", kind);
        await using var together = new Together(two);
        (ulong start, _) = await Area(two[0]);
        string marks = Marks(two[0], start), flags = ProcessView.Of(two[0].Pid).FlagsAt(start);
        Trace[] before = [.. two.Select(Trace.Of)];
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 760);
        Assert.Equal(marks, Marks(two[0], start));
        foreach (string command in (string[])["verify", "child", "write", "child"])
            await two[0].Does(command);
        await two[1].Does("verify");
        await Daemon.GiveBack(two);
        foreach (Trace trace in before)
            trace.IsGone();
        Assert.Equal(flags, ProcessView.Of(two[0].Pid).FlagsAt(start));
        await two[0].Does("child");
        await two[1].Does("verify");
    }

    /// <summary>What comes over merged memory is there when it is given back.</summary>
    [Theory]
    [MemberData(nameof(Late))]
    public async Task MemoryThatBecomesAKindOfItsOwnWhileItIsMergedIsOneAfterwards(string kind)
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "special", kind, "late");
        await using var together = new Together(two);
        (ulong start, _) = await Area(two[0]);
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 760);
        await two[0].Does("now");
        await two[1].Does("verify");
        string flags = Marks(two[0], start);
        long locked = ProcessView.Of(two[0].Pid).Status("VmLck");
        foreach (string command in (string[])["child", "write", "child"])
            await two[0].Does(command);
        await two[1].Does("verify");
        Called called = await Daemon.Cli("detach", $"{two[0].Pid}");
        if (kind == "pkey")
            Assert.True(called.ExitCode == 1 && called.ToString().Contains("protection key", StringComparison.Ordinal), $"{called}");
        else
            Assert.True(called.ExitCode == 0 && ProcessView.Of(two[0].Pid).Threads == 1, $"{called}\n{Daemon.Tail}");
        Assert.Equal(flags, Marks(two[0], start));
        Assert.Equal(locked, ProcessView.Of(two[0].Pid).Status("VmLck"));
        await two[0].Does("child");
        await two[1].Does("verify");
    }

    /// <summary>Sealed memory can be replaced by nothing, so it cannot be given back: it stays as it is, served and right, and everybody is told.</summary>
    [Fact]
    public async Task MemoryThatIsSealedWhileItIsMergedStaysAndIsRight()
    {
        Assert.SkipUnless(IsThere("seal"), "this kernel has no mseal(2)");
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        LiveProgram[] two = await LiveProgram.Targets(2, "special", "seal", "late");
        await using var together = new Together(two);
        await daemon.TakeInAndWait(two);
        await daemon.Merged(two[0], 760);
        await two[0].Does("now");
        Called called = await daemon.Cli("detach", $"{two[0].Pid}");
        Assert.True(called.ExitCode == 1 && called.ToString().Contains("mseal", StringComparison.Ordinal), $"{called}");
        Assert.Contains("mseal", (await daemon.Status()).Of(two[0].Pid).Reason, StringComparison.Ordinal);
        foreach (string command in (string[])["verify", "child", "write", "child"])
            await two[0].Does(command);
        await daemon.GiveBack(two[1]);
        await two[1].Does("write");
        await daemon.Kill9();
        foreach (string command in (string[])["verify", "child", "write", "child"])
            await two[0].Does(command);
        await two[0].Tell("quit");
        Assert.Equal(0, await two[0].Ends());
    }

    [Fact]
    public async Task AProgramThatMayMakeNothingExecutableIsServed()
    {
        Assert.SkipUnless(IsThere("deny"), "this kernel has no PR_SET_MDWE");
        LiveProgram[] two = await LiveProgram.Targets(2, "special", "deny");
        await using var together = new Together(two);
        Trace[] before = [.. two.Select(Trace.Of)];
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 760);
        await two[0].Does("write");
        await Daemon.GiveBack(two);
        foreach (Trace trace in before)
            trace.IsGone();
    }

    /// <summary>A program may map as much as the reserve says, whatever was merged in it; and when it has taken even that, everything still goes on.</summary>
    [Fact]
    public async Task AReserveOfMappingsIsLeftToTheProgram()
    {
        using var limit = new Setting(MapCount, "12000");
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "96", "run=1");
        LiveProgram attacker = await LiveProgram.Target("special", "plain");
        await using var together = new Together([.. two, attacker]);
        long alone = await Fill(attacker);
        Called full = await Daemon.Cli("attach", $"{attacker.Pid}");
        Assert.True(full.ExitCode == 1 && full.ToString().Contains("ENOMEM", StringComparison.Ordinal), $"{full}");
        await attacker.Does("write");
        await Daemon.TakeIn(two);
        await Until.True(async () => (await Daemon.Status()).Of(two[0].Pid).Reason.Contains("vm.max_map_count", StringComparison.Ordinal), 40,
            async () => $"says that mappings hold it back: {(await Daemon.Status()).Of(two[0].Pid)}");
        Assert.InRange(ProcessView.Of(two[0].Pid).Maps.Length, 5000, 12000 - Reserve);
        Assert.InRange(alone, 11_900, 12_000);

        await attacker.Does("room");
        await Daemon.TakeInAndWait(attacker);
        long taken = await Fill(attacker);
        Assert.InRange(taken, Reserve, alone);
        await attacker.Does("write");
        await attacker.Does("child");
        // With none left it cannot even be given back; it loses nothing by that.
        Called called = await Daemon.Cli("detach", $"{attacker.Pid}");
        Assert.True(called.ExitCode == 1 && called.ToString().Contains("ENOMEM", StringComparison.Ordinal), $"{called}");
        await attacker.Does("verify");
        await attacker.Does("room");
        await Daemon.GiveBack([.. two, attacker]);
        foreach (LiveProgram program in two)
            await program.Does("verify");
        Assert.InRange(await Fill(attacker), alone - 2, alone);
        await attacker.Does("verify");
    }

    private static async Task<long> Fill(LiveProgram attacker)
    {
        string[] filled = (await attacker.Ask("fill")).Split(' ');
        Assert.Equal("ENOMEM", filled[1]);
        return long.Parse(filled[0], CultureInfo.InvariantCulture);
    }

    private static async Task<(ulong Start, ulong End)> Area(LiveProgram program)
    {
        string[] range = (await program.Ask("address")).Split(' ');
        return (ulong.Parse(range[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture), ulong.Parse(range[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture));
    }

    /// <summary>The flags that a program sets, without those that tell what kind of mapping it is.</summary>
    private static string Marks(LiveProgram program, ulong address) =>
        string.Join(' ', ProcessView.Of(program.Pid).FlagsAt(address).Split(' ').Where(flag => flag is "dc" or "dd" or "lo" or "sl" or "wf"));

    private static bool IsThere(string kind)
    {
        using System.Diagnostics.Process process = System.Diagnostics.Process.Start(new System.Diagnostics.ProcessStartInfo(Repository.Target("special"), [kind]) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
        string? line = process.StandardOutput.ReadLine();
        process.StandardInput.Close();
        process.WaitForExit();
        return line == "ready";
    }
}
