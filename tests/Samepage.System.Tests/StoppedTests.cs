using System.Runtime.InteropServices;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Processes stopped by job control: they stay stopped, and nobody waits for them without a bound.</summary>
public sealed partial class StoppedTests(SharedDaemon shared) : OnOneDaemon(shared)
{
    private const int SIGCONT = 18;
    private const int SIGSTOP = 19;

    [Fact]
    public async Task AStoppedProcessIsNotSetGoingByBeingTakenIn()
    {
        await using LiveProgram stopped = await LiveProgram.Target("common", "8");
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "8");
        await using var together = new Together(two);
        await Stop(stopped);
        Called called = await Daemon.Cli("attach", $"{stopped.Pid}");
        Assert.True(called.ExitCode is 0 or 1, $"{called}");
        Assert.True(IsStopped(stopped), ProcessView.Of(stopped.Pid).Standing);
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 1000);
        Go(stopped);
        await stopped.Does("verify");
        await stopped.Does("write");
    }

    [Fact]
    public async Task AProcessStoppedWhileItIsMergedKeepsNobodyElseFromIt()
    {
        LiveProgram[] three = await LiveProgram.Targets(3, "common", "64", "run=4");
        await using var together = new Together(three);
        await three[0].Does("verify");
        await Daemon.TakeIn(three[0]);
        await Stop(three[0]);
        await Daemon.TakeIn(three[1], three[2]);
        await Daemon.Merged(three[1], 64 * 256 / 2, 40);
        await three[1].Does("write");
        await three[2].Does("verify");
        Go(three[0]);
        await three[0].Does("verify");
        Called called = await Daemon.Cli("detach", "--all");
        Assert.True(called.ExitCode == 0, $"{called}");
        foreach (LiveProgram program in three)
            await program.Does("verify");
    }

    /// <summary>All but the agent's empty mapping goes, for which a thread of the program's own would have to run; that goes once it runs.</summary>
    [Fact]
    public async Task AStoppedProcessIsGivenBackWithoutBeingSetGoing()
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "4");
        await using var together = new Together(two);
        int threads = ProcessView.Of(two[0].Pid).Threads;
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 768);
        await Stop(two[0]);
        Called called = await Daemon.Cli("detach", $"{two[0].Pid}");
        Assert.True(called.ExitCode == 1 && called.Errors.Contains("that is tried again until it can", StringComparison.Ordinal), $"{called}");
        ProcessView left = ProcessView.Of(two[0].Pid);
        // What the agent shares with the daemon lies in its mapping: words and operations.
        Assert.True(left.Threads == threads && left.PssShmemBytes <= 64 << 10, $"{left.Threads} threads, were {threads}; {left.PssShmemBytes} bytes of shared memory");
        Assert.True(IsStopped(two[0]), left.Standing);
        Go(two[0]);
        await two[0].Does("verify");
        // Nobody has to ask for it again, and who does is told that it is done.
        await Until.True(() => !ProcessView.Of(two[0].Pid).MappedNames.Any(name => name.Contains("samepage", StringComparison.Ordinal)), 60, () => $"what is left goes: {string.Join('\n', ProcessView.Of(two[0].Pid).Maps)}");
        await Daemon.GiveBack(two);
        await two[0].Does("write");
        await two[1].Does("verify");
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task AThreadThatCannotBeStoppedGoesOnWhenItsCallEnds(bool takenInBefore)
    {
        LiveProgram[] two = await LiveProgram.Targets(2, "forker");
        await using var together = new Together(two);
        if (takenInBefore)
            await Daemon.TakeIn(two);
        await two[0].Tell("vfork");
        if (!takenInBefore)
        {
            await Until.True(() => ProcessView.Of(two[0].Pid).Standing.Contains("D (disk sleep)", StringComparison.Ordinal), 3, () => ProcessView.Of(two[0].Pid).Standing);
            Called called = await Daemon.Cli("attach", $"{two[0].Pid}");
            Assert.True(called.ExitCode is 0 or 1, $"{called}");
        }

        Assert.Equal("ok", await two[0].NextLine(20));
        await Daemon.TakeIn(two);
        await Daemon.Merged(two[0], 3000);
        foreach (LiveProgram program in two)
            await program.Does("write");
    }

    /// <summary>One that is stopped on its way out of a call shows that call, and does not wait in it: what it came to is settled.</summary>
    [Fact]
    public async Task AProgramThatWasStoppedOnItsWayOutOfAWriteIsGivenBack()
    {
        string python = Needs.Program("python3", "python3");
        const string Writer = """
            import os
            pages = bytearray(8 << 20)
            for i in range(2048):
                pages[4096 * i:4096 * i + 8] = i.to_bytes(8, "little")
            print("ready", flush=True)
            file = os.open("/dev/null", os.O_WRONLY)
            while True:
                os.write(file, b"x")
            """;
        LiveProgram[] two = [LiveProgram.Start(python, "-c", Writer), LiveProgram.Start(python, "-c", Writer)];
        await using var together = new Together(two);
        foreach (LiveProgram writer in two)
            await writer.Ready();
        await Daemon.TakeInAndWait(two);
        await Daemon.Merged(two[0], 1500);
        await Until.True(async () =>
        {
            Go(two[0]);
            await Task.Delay(1);
            await Stop(two[0]);
            return (await File.ReadAllTextAsync($"/proc/{two[0].Pid}/syscall")).StartsWith("1 ", StringComparison.Ordinal);
        }, 60, () => Task.FromResult("it is stopped on its way out of a write"));
        Called called = await Daemon.Cli("detach", $"{two[0].Pid}");
        // But for the agent's empty mapping, as of any that is stopped.
        Assert.True(called.ExitCode == 1 && !called.Errors.Contains("waits in write", StringComparison.Ordinal), $"{called}");
        ProcessView left = ProcessView.Of(two[0].Pid);
        Assert.True(left.PssShmemBytes <= 64 << 10, $"{called}\n{left.PssShmemBytes} bytes of shared memory");
        Go(two[0]);
        await Daemon.GiveBack(two);
    }

    private static bool IsStopped(LiveProgram program) =>
        File.ReadLines($"/proc/{program.Pid}/status").Any(line => line.StartsWith("State:\tT", StringComparison.Ordinal));

    internal static async Task Stop(LiveProgram program)
    {
        Assert.Equal(0, kill(program.Pid, SIGSTOP));
        await Until.True(() => IsStopped(program), 10, () => ProcessView.Of(program.Pid).Standing);
    }

    internal static void Go(LiveProgram program) => Assert.Equal(0, kill(program.Pid, SIGCONT));

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int signal);
}
