namespace Samepage.SystemTests.Harness;

/// <summary>Two programs under siege, and daemons that follow one another over them in one run directory, each killed at a random moment.</summary>
/// <remarks>
/// No command line is called: a runtime that starts takes longer than all that a daemon does in a round. One call at a time. Of the daemon's life each round
/// picks a stage, and a moment at random behind its beginning, so that short stages are met as often as long ones; what stage it really was is seen when it is killed.
/// </remarks>
internal sealed class DoomedLine : IAsyncDisposable
{
    private const long MergedAgainAtLeast = 300;

    private readonly string _runFolder;
    private readonly LiveProgram[] _two;
    private readonly (int Threads, string[] Descriptors)[] _before;
    private readonly Random _random;
    private readonly Dictionary<Stage, int> _kills = [];

    private DoomedLine(string runFolder, LiveProgram[] two, int seed)
    {
        (_runFolder, _two, _random) = (runFolder, two, new Random(seed));
        _before = [.. two.Select(siege => (ProcessView.Of(siege.Pid).Threads, ProcessView.Of(siege.Pid).Descriptors))];
    }

    /// <summary>How far a daemon has come, as seen from outside.</summary>
    public enum Stage
    {
        /// <summary>It does not serve yet: it starts, waits for a recovery under way, or takes over what another left.</summary>
        Starting,

        /// <summary>It was asked to take the programs in and has not answered.</summary>
        TakingIn,

        /// <summary>They are taken in, and no page of theirs was seen merged yet.</summary>
        Scanning,

        /// <summary>Pages are merged.</summary>
        Merging,

        /// <summary>It was asked to give the programs back and has not answered.</summary>
        GivingBack,

        /// <summary>It has answered that.</summary>
        GivenBack,
    }

    public int Kills => _kills.Values.Sum();

    /// <summary>Kills while a page was merged, by the status asked just before.</summary>
    public int WhileMerged { get; private set; }

    /// <summary>Daemons whose guardian had been killed before them: nobody recovered but the next daemon.</summary>
    public int AfterTheirGuardian { get; private set; }

    /// <summary>Times that a daemon gave a program back which the one before it had left, as far as its log had come when it was killed.</summary>
    public int TakenOver { get; private set; }

    /// <summary>The longest time for which a thread of the programs was not let run.</summary>
    public long StallMicroseconds { get; private set; }

    /// <param name="folder">For its files; it is made.</param>
    /// <param name="seed">Of the moments, and of the first program; the second has the next.</param>
    public static async Task<DoomedLine> Begin(string folder, int seed)
    {
        string runFolder = Directory.CreateDirectory(Path.Combine(folder, "run")).FullName;
        return new DoomedLine(runFolder, await StormTests.Sieges(folder, seed), seed);
    }

    public int In(Stage stage) => _kills.GetValueOrDefault(stage);

    /// <summary>Starts a daemon, has it take the programs in, merge and give them back, and kills it meanwhile, now and then after its guardian.</summary>
    public async Task KillOne()
    {
        (Stage aim, int milliseconds) = _random.Next(9) switch
        {
            0 or 1 => (Stage.Starting, 3000),
            2 => (Stage.TakingIn, 300),
            3 => (Stage.Scanning, 500),
            4 or 5 => (Stage.GivingBack, 300),
            _ => (Stage.Merging, 1000),
        };
        int moment = _random.Next(milliseconds);
        TimeSpan? givesBackAfter = aim == Stage.GivingBack ? TimeSpan.FromMilliseconds(_random.Next(1000)) : null;
        bool guardianFirst = _random.Next(4) == 0;

        await using DaemonUnderTest doomed = DaemonUnderTest.Launch(_runFolder, keep: true);
        TaskCompletionSource killed = new();
        Stage stage = Stage.Starting;
        Task life = Live();
        await Until.True(() => stage >= aim || life.IsCompleted, 90, () => $"the daemon comes to {aim}, and is at {stage}\n{doomed.Tail}");
        await Task.WhenAny(life, Task.Delay(moment));
        if (life.IsFaulted)
            await life;
        long merged = stage == Stage.Starting ? 0 : await Merged(doomed);
        await Kill(doomed, guardianFirst, merged, stage);
        killed.SetResult();
        try
        {
            await life;
        }
        catch (Exception lost) when (lost is HttpRequestException or InvalidOperationException)
        {
            // It died before it was ready, or left what it was asked last without an answer.
        }

        await Report();

        async Task Live()
        {
            // Not only for that: the output of one that is killed ends when those who recover after it have ended.
            Task ready = doomed.Ready();
            if (await Task.WhenAny(ready, killed.Task) != ready)
                return;
            await ready;
            stage = Stage.TakingIn;
            // On a crowded machine that may take longer than an answer is waited for.
            WireOutcome[] outcomes = [];
            await Until.True(async () => killed.Task.IsCompleted || (outcomes = [.. await doomed.Have("attach", _two)]).All(outcome => outcome.Done || outcome.State != "waiting"), 60, () => Task.FromResult(doomed.Tail));
            Assert.All(outcomes, outcome => Assert.True(outcome.Done, $"{outcome}\n{doomed.Tail}"));
            stage = Stage.Scanning;
            while (await Merged(doomed) == 0)
                await Task.Delay(10);
            stage = Stage.Merging;
            if (givesBackAfter is not { } pause)
            {
                await killed.Task;
                return;
            }

            await Task.Delay(pause);
            stage = Stage.GivingBack;
            // Their children of this moment may share frames: then it says so, and goes on.
            await doomed.Have("detach", _two);
            stage = Stage.GivenBack;
            await killed.Task;
        }
    }

    /// <summary>One more dies with its guardian while pages of both programs are merged. The next takes them over, merges again, gives back, and ends: nothing of us is left.</summary>
    public async Task EndWell()
    {
        await using (DaemonUnderTest doomed = await DaemonUnderTest.Start(_runFolder, keep: true))
        {
            await MergeBoth(doomed);
            await Kill(doomed, guardianFirst: true, await Merged(doomed), Stage.Merging);
            await Report();
        }

        await using DaemonUnderTest last = await DaemonUnderTest.Start(_runFolder, keep: true);
        await Until.True(() => _two.All(siege => GaveBack(last).Any(line => line.Contains($"process {siege.Pid},", StringComparison.Ordinal))), 60, () => $"both were taken over\n{last.Tail}");
        TakenOver += GaveBack(last).Count();
        await MergeBoth(last);
        foreach (LiveProgram siege in _two)
            await StormTests.GivenBackInTheEnd(last, siege);
        Assert.True(await last.Terminate() == 0, last.Tail);
        foreach ((LiveProgram siege, (int threads, string[] descriptors)) in _two.Zip(_before))
        {
            ProcessView view = ProcessView.Of(siege.Pid);
            Assert.Equal(threads, view.Threads);
            Assert.Equal(descriptors, view.Descriptors);
            string[] ours = [.. view.Maps.Where(line => line.Contains("samepage", StringComparison.Ordinal))];
            Assert.True(ours.Length == 0, $"left in process {siege.Pid}:\n{string.Join('\n', ours)}\n{last.Log}");
            Assert.Equal(0, view.WatchedAreas);
            siege.CloseInput();
            StallMicroseconds = Math.Max(StallMicroseconds, await StormTests.Found(siege, "done"));
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (LiveProgram siege in _two)
            await siege.DisposeAsync();
        DaemonUnderTest.Remove(_runFolder);
    }

    private async Task MergeBoth(DaemonUnderTest daemon)
    {
        await daemon.MergesWithoutRest();
        // Until what the one before had left is given back, they are skipped.
        string said = "";
        await Until.True(
            async () =>
            {
                WireOutcome[] outcomes = await daemon.Have("attach", _two);
                said = string.Join(", ", outcomes.Where(outcome => !outcome.Done));
                return said.Length == 0;
            },
            60,
            () => Task.FromResult($"both are taken in: {said}\n{daemon.Tail}"));
        foreach (LiveProgram siege in _two)
            await daemon.Merged(siege, MergedAgainAtLeast);
    }

    private async Task Kill(DaemonUnderTest doomed, bool guardianFirst, long merged, Stage stage)
    {
        if (guardianFirst && doomed.TryKillGuardian())
            AfterTheirGuardian++;
        await doomed.Kill9();
        _kills[stage] = In(stage) + 1;
        WhileMerged += merged > 0 ? 1 : 0;
        TakenOver += GaveBack(doomed).Count();
    }

    private async Task Report()
    {
        foreach (LiveProgram siege in _two)
            StallMicroseconds = Math.Max(StallMicroseconds, await StormTests.Report(siege));
    }

    private async Task<long> Merged(DaemonUnderTest daemon)
    {
        WireStatus status = await daemon.Status();
        return _two.Sum(siege => status.Of(siege.Pid).PagesMerged);
    }

    /// <summary>What a daemon itself says of programs that it took over: its guardian's recovery has the same output, and another name.</summary>
    private static IEnumerable<string> GaveBack(DaemonUnderTest daemon) => daemon.Log.Split('\n').Where(line =>
        line.Contains("gave back process", StringComparison.Ordinal) && line.Contains("which a daemon that died had left", StringComparison.Ordinal) && !line.Contains("samepage.recover", StringComparison.Ordinal));
}
