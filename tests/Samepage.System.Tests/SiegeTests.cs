using System.Globalization;
using System.Runtime.InteropServices;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Programs that do all that a program can do to its memory, at once, while they are merged, given back, and while daemons die: no byte is ever wrong.</summary>
/// <remarks>Short in every run; <c>./test --long</c> gives each ten minutes. What they print at the end (<c>-diagnostics</c>) are the figures of docs/guarantees.md.</remarks>
public sealed partial class SiegeTests : IDisposable
{
    private const int SIGCONT = 18, SecondsToEndWell = 8;

    /// <summary>Fewer pages would not show that the siege met merged ones.</summary>
    private const long Enough = 500;

    private static readonly int s_seconds = Math.Min(600, int.Parse(Environment.GetEnvironmentVariable("SAMEPAGE_TEST_SECONDS") ?? "12", CultureInfo.InvariantCulture));
    private readonly string _folder = Directory.CreateDirectory(Path.Combine(Repository.Root, "artifacts", $"siege-{Environment.ProcessId}-{Guid.NewGuid():N}")).FullName;

    public void Dispose()
    {
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task D4_ProgramsThatDoEverythingAtOnceSeeNoWrongByte()
    {
        Needs.Root();
        LiveProgram[] two = await StormTests.Sieges(_folder);
        await using var together = new Together(two);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await daemon.MergesWithoutRest();
        await daemon.TakeInInTheEnd(two);
        WireStatus status = await daemon.Status();
        long most = 0;
        // For so long at least, and until enough of it was met by merging: a crowded machine takes longer for that.
        DateTime end = DateTime.UtcNow.AddSeconds(s_seconds);
        for (DateTime last = end + Until.Patience(s_seconds); DateTime.UtcNow < end || (most < Enough && DateTime.UtcNow < last); await Task.Delay(250))
        {
            status = await daemon.Status();
            most = Math.Max(most, status.Of(two[0].Pid).PagesMerged);
        }

        Assert.True(most >= Enough, $"hardly anything was merged: {most} pages at most\n{daemon.Tail}");
        // What was taken from its frame had been merged, and what is merged now was.
        long merges = two.Sum(siege => status.Of(siege.Pid).CowBreaks + status.Of(siege.Pid).PagesMerged);
        TestContext.Current.SendDiagnosticMessage("siege: {0} s, {1} pages merged, {2} of the first at a time at most", s_seconds, merges, most);
        await End(two);
    }

    /// <summary>Killed at any moment: while it starts or takes over what another left, takes programs in, merges, gives back. The next one takes over what is left, or the guardian does.</summary>
    [Fact]
    public async Task DaemonsThatAreKilledAtAnyMomentHarmNothing()
    {
        Needs.Root();
        await using DoomedLine first = await DoomedLine.Begin(Path.Combine(_folder, "first"), 1), second = await DoomedLine.Begin(Path.Combine(_folder, "second"), 3);
        DoomedLine[] lines = [first, second];
        using CancellationTokenSource failed = new();
        DateTime end = DateTime.UtcNow.AddSeconds(s_seconds - SecondsToEndWell);
        await Task.WhenAll(lines.Select(async line =>
        {
            try
            {
                while (!failed.IsCancellationRequested && (DateTime.UtcNow < end || line.Kills < 2))
                    await line.KillOne();
                if (!failed.IsCancellationRequested)
                    await line.EndWell();
            }
            catch (Exception)
            {
                await failed.CancelAsync(); // the other need not go on for minutes
                throw;
            }
        }));
        string stages = string.Join(", ", Enum.GetValues<DoomedLine.Stage>().Select(stage => $"{lines.Sum(line => line.In(stage))} {stage}"));
        TestContext.Current.SendDiagnosticMessage("siege: {0} daemons killed ({1}), {2} of them while a page was merged, {3} after their guardian; {4} programs taken over by the next daemon; longest stall of a thread {5} us",
            lines.Sum(line => line.Kills), stages, lines.Sum(line => line.WhileMerged), lines.Sum(line => line.AfterTheirGuardian), lines.Sum(line => line.TakenOver), lines.Max(line => line.StallMicroseconds));
    }

    /// <summary>A daemon that is stopped ends its hold first, and then stays stopped: see the guardian.</summary>
    [Fact]
    public async Task ADaemonThatIsStoppedKeepsNobodysThreads()
    {
        Needs.Root();
        LiveProgram[] two = await StormTests.Storms("mprotect", 0);
        await using var together = new Together(two);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        Task asked = await daemon.StopWhileItHolds(two);
        await Until.True(() => two.All(storm => !ProcessView.Of(storm.Pid).ThreadStates.Contains('t', StringComparison.Ordinal)), 5, () => "every thread is let go");
        await Until.True(() => ProcessView.Of(daemon.Pid).ThreadStates.All(state => state == 'T'), 5, () => $"the daemon is stopped again: {ProcessView.Of(daemon.Pid).ThreadStates}");
        await Task.Delay(1000);
        Assert.All(ProcessView.Of(daemon.Pid).ThreadStates, state => Assert.Equal('T', state));
        foreach (LiveProgram storm in two)
            await StormTests.Report(storm);
        Assert.Equal(0, kill(daemon.Pid, SIGCONT));
        await asked;
        await daemon.Merged(two[0], 500);
        await End(two);
    }

    private static async Task End(LiveProgram[] programs)
    {
        foreach (LiveProgram program in programs)
        {
            program.CloseInput();
            await StormTests.Found(program, "done");
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int signal);
}
