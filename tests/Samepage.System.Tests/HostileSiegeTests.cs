using System.Globalization;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>Honest programs that know every byte, hostile ones beside them that come and go, and daemons that are killed: nobody honest is the worse for it.</summary>
/// <remarks>Short in every run; <c>./test --long</c> gives it ten minutes. Its figures (<c>-diagnostics</c>) stand in docs/guarantees.md.</remarks>
public sealed class HostileSiegeTests : IDisposable
{
    /// <summary>Bounds on hanging, seconds.</summary>
    private const int Bound = 180;

    private const uint First = 54371, Second = 54372;
    private const int Pages = 1500, Secrets = 5_000_000, HostileAtATime = 5;
    private static readonly int s_seconds = Math.Min(600, int.Parse(Environment.GetEnvironmentVariable("SAMEPAGE_TEST_SECONDS") ?? "15", CultureInfo.InvariantCulture));
    private readonly string _folder = Directory.CreateDirectory(Path.Combine(Repository.Root, "artifacts", $"siege-{Environment.ProcessId}-{Guid.NewGuid():N}")).FullName;
    private readonly Random _random = new(1);
    private readonly StatusWatch _watch = new();
    private int _rounds, _kills, _afterTheirGuardian;
    private readonly List<string> _before = [];
    private TimeSpan _longestStart, _longestRound;

    public void Dispose()
    {
        if (Directory.Exists(Path.Combine(_folder, "run")))
            DaemonUnderTest.Remove(Path.Combine(_folder, "run"));
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task HostileProgramsBesideThemHarmNobody()
    {
        Needs.Root();
        await using HostileCrowd crowd = new(First, (Secrets, Pages));
        string run = Directory.CreateDirectory(Path.Combine(_folder, "run")).FullName, rules = Path.Combine(_folder, "rules.toml");
        await File.WriteAllTextAsync(rules, $"settle_seconds = 0\nadvised = false\n\n[[include]]\nexecutable = \"{crowd.Folder}/*\"\n");

        LiveProgram[] sieges = await StormTests.Sieges(_folder);
        LiveProgram[] walls = [.. await LiveProgram.Targets(2, "wall", $"{Pages}", $"{Secrets}"), .. await Two(crowd, First), .. await Two(crowd, Second)];
        await using var together = new Together([.. sieges, .. walls]);
        foreach (LiveProgram wall in walls)
            await wall.Does("verify");
        Trace[] traces = [.. walls.Select(Trace.Of)];
        (int Threads, string[] Descriptors)[] before = [.. sieges.Select(siege => (ProcessView.Of(siege.Pid).Threads, ProcessView.Of(siege.Pid).Descriptors))];

        Task hostile = crowd.Come(HostileAtATime, 1), rounds = Rounds(), all = Task.WhenAll(hostile, rounds);
        await Task.WhenAny(hostile, rounds);
        await crowd.Leave();
        await Task.WhenAny(all);
        if (all.Exception is { } faults)
            throw faults; // of both, where one came of the other

        // With all of them gone, and what they left behind, the last daemon serves as the first one would.
        await using DaemonUnderTest last = await DaemonUnderTest.Start(run, keep: true, rules);
        await Merges(last, sieges, walls);
        await GivesBack(last, [.. sieges, .. walls]);
        Assert.True(await last.Terminate(Bound) == 0, last.Tail);
        await Until.True(() => Directory.GetFiles(Path.Combine(run, "agents")).Length == 0, Bound, () => $"records are left: {string.Join(", ", Directory.GetFiles(Path.Combine(run, "agents")))}\n{last.Tail}");
        foreach ((LiveProgram wall, Trace trace) in walls.Zip(traces))
        {
            await wall.Does("verify");
            trace.IsGone();
        }

        foreach ((LiveProgram siege, (int threads, string[] descriptors)) in sieges.Zip(before))
        {
            ProcessView view = ProcessView.Of(siege.Pid);
            Assert.Equal(threads, view.Threads);
            Assert.Equal(descriptors, view.Descriptors);
            Assert.DoesNotContain(view.MappedNames, name => name.Contains("samepage", StringComparison.Ordinal));
            Assert.Equal(0, view.WatchedAreas);
            siege.CloseInput();
            _ = await StormTests.Found(siege, "done");
        }

        TestContext.Current.SendDiagnosticMessage("hostile siege: {0} s, {1} rounds of merging and giving back, the longest {2:0.0} s; {3} daemons killed, {4} of them after their guardian; the longest start {5:0.0} s; beside: {6}",
            s_seconds, _rounds, _longestRound.TotalSeconds, _kills, _afterTheirGuardian, _longestStart.TotalSeconds, crowd.Lives);
        TestContext.Current.SendDiagnosticMessage("hostile siege: {0} answers of the status, half within {1:0.0} ms, 99 of a hundred within {2:0.0} ms, the longest {3:0.0} ms, {4} later than a second",
            _watch.Answers, _watch.Percentile(50).TotalMilliseconds, _watch.Percentile(99).TotalMilliseconds, _watch.Longest.TotalMilliseconds, _watch.Late);

        async Task Rounds()
        {
            for (DateTime end = DateTime.UtcNow.AddSeconds(s_seconds); (DateTime.UtcNow < end || !crowd.HasMetAll) && !hostile.IsCompleted; _rounds++)
                await Round(crowd, run, rules, sieges, walls);
        }
    }

    /// <summary>Daemons are killed before they come to anything; then one takes the honest programs in, merges them and gives them back, whatever is beside them, and is killed at some later moment.</summary>
    private async Task Round(HostileCrowd crowd, string run, string rules, LiveProgram[] sieges, LiveProgram[] walls)
    {
        var clock = System.Diagnostics.Stopwatch.StartNew();
        LiveProgram[] honest = [.. sieges, .. walls];
        for (int early = _random.Next(3); early > 0; early--)
        {
            await using DaemonUnderTest killed = crowd.Daemon = DaemonUnderTest.Launch(run, keep: true, rules);
            await Task.Delay(_random.Next(3000));
            await Kill(killed);
            await Verify(sieges, walls);
        }

        var start = System.Diagnostics.Stopwatch.StartNew();
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(run, keep: true, rules);
        _longestStart = start.Elapsed > _longestStart ? start.Elapsed : _longestStart;
        crowd.Daemon = daemon;
        using CancellationTokenSource ends = new();
        Task watched = _watch.Watch(daemon, ends.Token);
        await Merges(daemon, sieges, walls);
        await GivesBack(daemon, honest);
        await Verify(sieges, walls);
        Task taken = TakesIn(daemon, honest);
        if (_random.Next(3) > 0)
            await taken; // otherwise it is killed meanwhile, perhaps
        await Task.Delay(_random.Next(1500));
        await ends.CancelAsync();
        await Kill(daemon);
        await watched;
        try
        {
            await taken;
        }
        catch (Exception lost) when (lost is HttpRequestException or IOException or OperationCanceledException)
        {
            // The daemon died before it had answered.
        }

        await Verify(sieges, walls);
        _longestRound = clock.Elapsed > _longestRound ? clock.Elapsed : _longestRound;
    }

    private async Task Kill(DaemonUnderTest daemon)
    {
        if (_random.Next(4) == 0 && daemon.TryKillGuardian())
            _afterTheirGuardian++;
        // One that waits for a program in the kernel ends when that lets it.
        await daemon.Kill9(Bound);
        _kills++;
        _before.Add(daemon.Log);
    }

    /// <summary>Pages of every honest program become merged, and no two owners have one in common.</summary>
    private async Task Merges(DaemonUnderTest daemon, LiveProgram[] sieges, LiveProgram[] walls)
    {
        await daemon.MergesWithoutRest();
        await TakesIn(daemon, [.. sieges, .. walls]);
        foreach (LiveProgram program in (LiveProgram[])[.. walls, .. sieges])
            await daemon.Merged(program, walls.Contains(program) ? Pages / 2 : 1, Bound);
        _ = await WallTests.Apart([0, 0, First, First, Second, Second], walls);
    }

    /// <summary>However long it takes: a program that could not be held at a moment is asked for again.</summary>
    private Task TakesIn(DaemonUnderTest daemon, LiveProgram[] programs)
    {
        WireOutcome[] outcomes = [];
        return Until.True(async () => (outcomes = await daemon.Have("attach", programs)).All(outcome => outcome.Done), Bound,
            () => Task.FromResult($"all are taken in: {Left(outcomes)}\n{daemon.Tail}"));
    }

    /// <summary>The same: the children of a siege share its frames for a moment.</summary>
    private Task GivesBack(DaemonUnderTest daemon, LiveProgram[] programs)
    {
        WireOutcome[] outcomes = [];
        return Until.True(async () => (outcomes = await daemon.Have("detach", programs.Where(program => !IsBack(outcomes, program)))).All(outcome => outcome.Done), Bound,
            () => Task.FromResult($"all are given back: {Left(outcomes)}\n{daemon.Tail}"));
    }

    /// <summary>Those of which something is left to be done, and all that was ever said of them.</summary>
    private string Left(WireOutcome[] outcomes) => string.Join("\n", outcomes.Where(outcome => !outcome.Done).Select(outcome =>
        $"{outcome}\n{string.Join("\n", _before.TakeLast(4).SelectMany(log => log.Split('\n').Where(line => line.Contains($" {outcome.Pid} ", StringComparison.Ordinal)).Append("(killed)")))}"));

    private static bool IsBack(WireOutcome[] outcomes, LiveProgram program) => outcomes.Length > 0 && !outcomes.Any(outcome => outcome.Pid == program.Pid && !outcome.Done);

    private static async Task Verify(LiveProgram[] sieges, LiveProgram[] walls)
    {
        foreach (LiveProgram wall in walls)
            await wall.Does("verify", Bound);
        foreach (LiveProgram siege in sieges)
            _ = await StormTests.Report(siege);
    }

    private static async Task<LiveProgram[]> Two(HostileCrowd crowd, uint user)
    {
        LiveProgram[] two = [.. Enumerable.Range(0, 2).Select(_ => LiveProgram.Start(Needs.Program("setpriv", "util-linux"),
            $"--reuid={user}", $"--regid={user}", "--clear-groups", crowd.Target("wall"), $"{Pages}"))];
        foreach (LiveProgram program in two)
            _ = await program.Ready(Bound);
        return two;
    }
}
