using System.Globalization;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Programs that get next to no processor time: the agent's threads are among those that do not.</summary>
public sealed class StarvedTests : IDisposable
{
    /// <summary>Bounds on hanging, seconds.</summary>
    private const int Bound = 180;

    private static readonly int s_seconds = Math.Min(600, int.Parse(Environment.GetEnvironmentVariable("SAMEPAGE_TEST_SECONDS") ?? "15", CultureInfo.InvariantCulture));
    private readonly string _folder = Directory.CreateDirectory(Path.Combine(Repository.Root, "artifacts", $"starved-{Environment.ProcessId}-{Guid.NewGuid():N}")).FullName;
    private readonly Random _random = new(1);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    /// <summary>Exchanges are begun, and not ended for long; daemons are killed meanwhile; what the programs do to their memory must not come into the middle of one.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public async Task DaemonsThatAreKilledWhileTheirProgramsStarveHarmNothing(int percent)
    {
        using ProcessorGroup group = ProcessorGroup.Make();
        LiveProgram[] sieges = await StormTests.Sieges(_folder);
        LiveProgram[] spinners = LiveProgram.Spinners(8);
        await using var together = new Together([.. sieges, .. spinners]);
        string run = Path.Combine(_folder, "run");
        int rounds = 0;
        foreach (LiveProgram program in (LiveProgram[])[.. sieges, .. spinners])
            group.Take(program.Pid);
        for (DateTime end = DateTime.UtcNow.AddSeconds(s_seconds); DateTime.UtcNow < end || rounds < 2; rounds++)
        {
            await using DaemonUnderTest daemon = await DaemonUnderTest.Start(run, keep: true);
            await daemon.MergesWithoutRest();
            group.Limit(percent);
            Task taken = daemon.Have("attach", sieges).ContinueWith(static _ => { }, TaskScheduler.Default);
            await Task.Delay(1000 + _random.Next(5000));
            await daemon.Kill9(Bound);
            await taken;
            // With time again it is told whether anything is wrong.
            group.Limit(null);
            foreach (LiveProgram siege in sieges)
                await StormTests.IsRight(siege, Bound);
        }

        await using DaemonUnderTest last = await DaemonUnderTest.Start(run, keep: true);
        await Until.True(async () => (await last.Have("attach", sieges)).All(outcome => outcome.Done), Bound, () => Task.FromResult(WhereTheyStand(last, sieges)));
        foreach (LiveProgram siege in sieges)
            await StormTests.GivenBackInTheEnd(last, siege);
        Assert.True(await last.Terminate(Bound) == 0, last.Tail);
        foreach (LiveProgram siege in sieges)
        {
            await StormTests.IsRight(siege, Bound);
            Assert.False(ProcessView.Of(siege.Pid).MappedNames.Any(name => name.Contains("samepage", StringComparison.Ordinal)), $"something of ours is left in process {siege.Pid}\n{last.Log}\n{WhereTheyStand(last, sieges)}");
        }

        TestContext.Current.SendDiagnosticMessage("starved at {0} % of a processor: {1} daemons killed", percent, rounds);
        DaemonUnderTest.Remove(run);
    }

    /// <summary>What the daemon said of what it found, and what of ours is in the programs.</summary>
    private static string WhereTheyStand(DaemonUnderTest daemon, LiveProgram[] programs)
    {
        IEnumerable<string> said = daemon.Log.Split('\n').Where(line => line.Contains("back", StringComparison.Ordinal));
        IEnumerable<string> ours = programs.Select(program => ProcessView.Of(program.Pid)).SelectMany(view => view.Maps.Where(line => line.Contains("samepage", StringComparison.Ordinal)).Prepend(view.Standing));
        return string.Join('\n', [.. said, daemon.Tail, .. ours]);
    }
}
