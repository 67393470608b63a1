using System.Globalization;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Processes that cannot be served are skipped, with the reason in words, and are never hurt.</summary>
public sealed class RefusalTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    private const int KernelThread = 2;

    /// <summary>A kernel that runs no 32-bit programs has none to skip; how one is recognized is tested everywhere (see ProgramClassTests).</summary>
    public static TheoryData<string, string> Unservable => Repository.Runs("thirtytwo")
        ? new() { { "seccomp", "seccomp" }, { "thirtytwo", "32" }, { "uffduser", "userfaultfd" } }
        : new() { { "seccomp", "seccomp" }, { "uffduser", "userfaultfd" } };

    [Theory]
    [MemberData(nameof(Unservable))]
    public async Task AProgramThatCannotBeServedIsSkippedAndGoesOn(string target, string named)
    {
        await using LiveProgram program = await LiveProgram.Target(target);
        await Skipped(program.Pid, named);
        await program.Does("verify");
        Assert.Equal(1, ProcessView.Of(program.Pid).Threads);
        await program.Tell("quit");
        program.CloseInput();
        Assert.Equal(0, await program.Ends());
    }

    [Fact]
    public async Task AProgramThatBeginsToUseUserfaultfdIsLeft()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "uffduser", "late");
        await using var together = new Together(two);
        await two[0].Does("verify");
        int threads = ProcessView.Of(two[0].Pid).Threads;
        await Daemon.TakeIn(two);
        await Daemon.Merged(two[0], 500);
        await two[0].Does("open");
        await Until.True(async () => (await Daemon.Status()).Of(two[0].Pid).State == "skipped", 20,
            async () => $"skipped once it has a userfaultfd: {(await Daemon.Status()).Of(two[0].Pid)}");
        Assert.Contains("userfaultfd", (await Daemon.Status()).Of(two[0].Pid).Reason, StringComparison.OrdinalIgnoreCase);
        Assert.Equal(threads, ProcessView.Of(two[0].Pid).Threads);
        await two[0].Does("verify");
        await two[1].Does("verify");
    }

    [Fact]
    public async Task AZombieIsSkipped()
    {
        await using LiveProgram parent = LiveProgram.Start(Repository.Target("parent"), "zombie");
        await Skipped(int.Parse(await parent.Ready(), CultureInfo.InvariantCulture), "zombie");
    }

    [Fact]
    public async Task AKernelThreadIsSkipped()
    {
        Assert.SkipUnless(File.Exists($"/proc/{KernelThread}/comm") && (await File.ReadAllTextAsync($"/proc/{KernelThread}/comm")).Trim() == "kthreadd", "needs to see kernel threads: not in a pid namespace");
        await Skipped(KernelThread, "kernel");
    }

    [Fact]
    public async Task AProcessThatSomebodyTracesIsSkippedAndStaysTraced()
    {
        await using LiveProgram program = await LiveProgram.Target("common", "4");
        await using LiveProgram tracer = LiveProgram.Start(Repository.Target("parent"), "trace", $"{program.Pid}");
        await tracer.Ready();
        await Skipped(program.Pid, "traced");
        await program.Does("verify");
        Assert.Equal(tracer.Pid, ProcessView.Of(program.Pid).Status("TracerPid"));
    }

    [Fact]
    public async Task APidThatNobodyHasIsSkipped()
    {
        await using LiveProgram gone = await LiveProgram.Target("common", "1");
        gone.Kill();
        await gone.Ends();
        Called called = await Daemon.Cli("attach", $"{gone.Pid}");
        Assert.True(called.ExitCode == 1 && called.ToString().Contains("no such process", StringComparison.OrdinalIgnoreCase), $"{called}");
    }

    [Fact]
    public async Task TheDaemonDoesNotTakeItselfIn()
    {
        Called called = await Daemon.Cli("attach", $"{Daemon.Pid}");
        Assert.True(called.ExitCode == 1 && called.ToString().Contains("daemon", StringComparison.OrdinalIgnoreCase), $"{called}");
        Assert.Equal(1, (await Daemon.Status()).Run);
    }

    [Fact]
    public async Task OneThatCannotBeServedDoesNotKeepOthersOut()
    {
        await using LiveProgram refused = await LiveProgram.Target("seccomp");
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "8");
        await using var together = new Together(two);
        Called called = await Daemon.Cli("attach", $"{two[0].Pid}", $"{refused.Pid}", $"{two[1].Pid}");
        Assert.True(called.ExitCode == 1, $"{called}");
        await Daemon.Merged(two[0], 1000);
        await Daemon.GiveBack(two);
    }

    [Fact]
    public async Task AUserWithoutPrivilegeIsRefused()
    {
        await using LiveProgram program = await LiveProgram.Target("common", "1");
        Called called = await Cli.RunAs(65534, Daemon.RunFolder, ["attach", $"{program.Pid}"]);
        Assert.True(called.ExitCode == 3, $"{called}");
        Assert.DoesNotContain("   at ", called.Errors, StringComparison.Ordinal);
        Assert.Equal("absent", (await Daemon.Status()).Of(program.Pid).State);
    }

    /// <summary>Is refused on the command line with exit 1, and stands in the status with its reason, where it is a process at all.</summary>
    private async Task Skipped(int pid, string named)
    {
        Called called = await Daemon.Cli("attach", $"{pid}");
        Assert.True(called.ExitCode == 1, $"{called}");
        Assert.True(called.ToString().Contains(named, StringComparison.OrdinalIgnoreCase), $"the reason names {named}: {called}");
        WireProcess process = (await Daemon.Status()).Of(pid);
        Assert.True(process.State == "skipped" && process.Reason.Contains(named, StringComparison.OrdinalIgnoreCase), $"{process}");
    }
}
