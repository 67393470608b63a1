using System.Runtime.InteropServices;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Programs that ask for merging are found by themselves, and so are those that rules are about.</summary>
public sealed partial class OptInTests
{
    private const int SIGHUP = 1;
    private const string Nobody = "settle_seconds = 1\nadvised = false\n";

    /// <summary>Rules that leave the rest of this machine alone.</summary>
    private static readonly string s_advised = $"settle_seconds = 1\n[[exclude]]\nname = \"qemu*\"\n{Repository.OthersExcluded}";

    [Fact]
    public async Task A1_A5_AdvisedMemoryIsFoundAndGivenBackWhenTheAdviceIsTakenBack()
    {
        Needs.Root();
        Assert.SkipUnless(Directory.Exists("/sys/kernel/mm/ksm"), "this kernel keeps no advice to merge: it is built without its own merging");
        string rules = Rules(s_advised);
        using OpenFolder own = new("common", "advised-");
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(rules: rules);
        LiveProgram[] advised = [LiveProgram.Start(own.Target, "16", "advise"), LiveProgram.Start(own.Target, "16", "advise")];
        await using LiveProgram whole = LiveProgram.Start(own.Target, "8", "merge"), silent = LiveProgram.Start(own.Target, "8"), excluded = await LiveProgram.Target("common", "16", "advise");
        await using var together = new Together(advised);
        foreach (LiveProgram program in (LiveProgram[])[.. advised, whole, silent])
            await program.Ready();
        // Half of their memory, three quarters of it common.
        foreach (LiveProgram program in advised)
            await daemon.Merged(program, 1536, 90);
        await daemon.Merged(whole, 1536, 90);
        await Until.True(async () => (await daemon.Status()).Of(advised[0].Pid).Settled, 30, "it settles");
        Assert.InRange((await daemon.Status()).Of(advised[0].Pid).PagesTracked, 2048, 2048);
        Assert.Equal("absent", (await daemon.Status()).Of(silent.Pid).State);
        Assert.Equal("absent", (await daemon.Status()).Of(excluded.Pid).State);

        // A5: private again, then not mergeable any more, and with nothing left of us in it.
        await advised[0].Does("unadvise");
        await Until.True(async () => (await daemon.Status()).Of(advised[0].Pid).State == "absent", 30, async () => $"it is left alone: {(await daemon.Status()).Of(advised[0].Pid)}");
        Assert.Equal((0L, 1), (ProcessView.Of(advised[0].Pid).PssShmemBytes, ProcessView.Of(advised[0].Pid).Threads));
        await advised[0].Does("verify");
        await advised[1].Does("verify");
        await whole.Does("verify");

        // Given back by hand it is not taken in again; asked for by hand it is taken in whole.
        await daemon.GiveBack(advised[1]);
        await daemon.TakeInAndWait(whole, advised[0]);
        Assert.True((await daemon.Status()).Of(advised[0].Pid).PagesTracked >= 4096);
        await Task.Delay(2500);
        Assert.Equal("absent", (await daemon.Status()).Of(advised[1].Pid).State);
        File.Delete(rules);
    }

    [Fact]
    public async Task A1_RulesTakeProcessesInAndBadOnesAreRefused()
    {
        Needs.Root();
        string rules = Rules(Nobody);
        await using LiveProgram program = await LiveProgram.Target("common", "8"), byHand = await LiveProgram.Target("common", "8");
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(rules: rules);
        await daemon.TakeIn(byHand);
        string wanted = $"{Nobody}[[include]]\nexecutable = \"{Repository.Target("common")}\"\nuser = {Geteuid()}\n";
        await File.WriteAllTextAsync(rules, wanted);
        Called reloaded = await daemon.Cli("reload");
        Assert.True(reloaded.ExitCode == 0, $"{reloaded}");
        await daemon.Merged(program, 1500);

        await File.WriteAllTextAsync(rules, wanted + "colour = \"red\"\n");
        Called refused = await daemon.Cli("reload");
        Assert.Equal(2, refused.ExitCode);
        Assert.Contains($"{rules}:6:1: 'colour' is not known in a rule", refused.Errors, StringComparison.Ordinal);
        Assert.Contains("the old rules stay in force", refused.Errors, StringComparison.Ordinal);
        Assert.Equal("merging", (await daemon.Status()).Of(program.Pid).State);

        // What a rule excludes is given back; what was attached by hand stays.
        await File.WriteAllTextAsync(rules, wanted + "[[exclude]]\nname = \"common\"\n");
        Assert.Equal(0, Kill(daemon.Pid, SIGHUP));
        await Until.True(async () => (await daemon.Status()).Of(program.Pid).State == "absent", 30, async () => $"it is given back: {(await daemon.Status()).Of(program.Pid)}");
        Assert.Equal("merging", (await daemon.Status()).Of(byHand.Pid).State);
        await program.Does("verify");
        Assert.Equal(0, await daemon.Terminate());

        await File.WriteAllTextAsync(rules, "advised = maybe\n");
        Called started = await Cli.Run(daemon.RunFolder, "daemon", "--config", rules);
        Assert.Equal(2, started.ExitCode);
        Assert.Contains($"{rules}:1:", started.Errors, StringComparison.Ordinal);
        File.Delete(rules);
    }

    /// <summary>Merging waits until memory is short, and what is merged then stays so.</summary>
    [Fact]
    public async Task MergingWaitsForPressureAndStopsWithoutIt()
    {
        Needs.Root();
        const string Waits = "advised = false\n[pressure]\nstart_below_available_percent = 0\nstop_above_available_percent = 1\n";
        string rules = Rules(Waits);
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "8");
        await using var together = new Together(two);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(rules: rules);
        Called waits = await daemon.Cli("attach", "--wait", $"{two[0].Pid}", $"{two[1].Pid}");
        Assert.True(waits.ExitCode == 1 && waits.Errors.Contains("merging waits for memory pressure (less than 0 % of memory available", StringComparison.Ordinal), $"{waits}");
        Assert.Contains("waiting for memory pressure", (await daemon.Cli("status")).Output, StringComparison.Ordinal);
        WireStatus status = await daemon.Status();
        Assert.Equal((1, 0, 0), (status.Run, status.FullScans, status.PagesShared));

        await File.WriteAllTextAsync(rules, Waits.Replace("= 0", "= 99.9", StringComparison.Ordinal).Replace("= 1\n", "= 100\n", StringComparison.Ordinal));
        Called reloaded = await daemon.Cli("reload");
        Assert.True(reloaded.ExitCode == 0, $"{reloaded}");
        await daemon.Merged(two[0], 1500);
        Assert.Equal("", (await daemon.Status()).WaitsFor);

        await File.WriteAllTextAsync(rules, Waits);
        Assert.Equal(0, Kill(daemon.Pid, SIGHUP));
        await Until.True(async () => (await daemon.Status()).WaitsFor.Length > 0, 20, "it waits again");
        long scans = (await daemon.Status()).FullScans;
        foreach (LiveProgram program in two)
            await program.Does("verify");
        status = await daemon.Status();
        Assert.True(status.FullScans == scans && status.Of(two[0].Pid).PagesMerged >= 1500, $"{status}");
        await daemon.GiveBack(two);
        File.Delete(rules);
    }

    private static string Rules(string text)
    {
        string path = Path.GetTempFileName();
        File.WriteAllText(path, text);
        return path;
    }

    [LibraryImport("libc", EntryPoint = "geteuid")]
    private static partial int Geteuid();

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int Kill(int pid, int signal);
}
