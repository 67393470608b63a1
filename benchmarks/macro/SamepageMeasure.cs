using System.Diagnostics;
using Samepage.Api;

namespace Samepage.Bench;

/// <summary>Has a fresh Samepage daemon merge a workload, and measures it.</summary>
internal static class SamepageMeasure
{
    /// <summary>A status costs the daemon about a millisecond, which is counted against it: asked every so often, the time measured is
    /// right to 2 %, and the asking costs no more than that.</summary>
    private const int PollsPerElapsed = 50;

    private static readonly TimeSpan PollLeast = TimeSpan.FromMilliseconds(5), PollMost = TimeSpan.FromMilliseconds(100);
    private const int IdlePasses = 20, WarmUpMib = 32;
    private static readonly TimeSpan PaceWindow = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan IdleLeast = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan IdleMost = TimeSpan.FromSeconds(20);

    /// <param name="work">What is merged.</param>
    /// <param name="round">Of how many.</param>
    /// <param name="warm">Has the daemon merge a little beforehand, as one that has run for a while has: its code is compiled when it is first used.</param>
    /// <param name="cancel">Ends it.</param>
    public static async Task<Measurement> RunAsync(Workload work, int round, bool warm, CancellationToken cancel)
    {
        // Disposed of in reverse: the daemon gives the targets back before they end.
        await using Targets targets = await Targets.StartAsync(work, cancel);
        await using Daemon daemon = await Daemon.StartAsync(cancel);
        if (warm)
            await WarmUpAsync(daemon, work, cancel);
        long before = targets.ProportionalBytes();
        Cost costBefore = Cost.Now(daemon, targets);

        long start = Stopwatch.GetTimestamp();
        await daemon.AttachAsync(targets.Pids, cancel);
        await ReachAsync(daemon, work, status => status.PagesSharing >= work.PagesToSave, start, cancel);
        TimeSpan merged = Stopwatch.GetElapsedTime(start);
        Cost cost = Cost.Now(daemon, targets) - costBefore;
        await ReachAsync(daemon, work, status => Array.TrueForAll(status.Processes, process => process.Settled), start, cancel);
        TimeSpan settled = Stopwatch.GetElapsedTime(start);

        (double? idleMs, long idlePasses, long idleHolds) = await IdleAsync(daemon, targets, cancel);

        StatusReport end = await daemon.StatusAsync(cancel);
        long savedByPss = before - targets.ProportionalBytes();
        await targets.VerifyAsync("while merged by Samepage", cancel);
        await daemon.DetachAllAsync(cancel);
        await targets.VerifyAsync("after Samepage gave it back", cancel);
        await daemon.StopAsync(cancel);

        long tracked = end.Processes.Sum(process => process.PagesTracked);
        return new Measurement(
            Measurement.SamepageSide, work.RunLength, round, merged.TotalSeconds, cost.All.TotalSeconds, settled.TotalSeconds, idleMs,
            idlePasses, null, tracked == 0 ? null : (double)end.Daemon.MetadataBytes / tracked, end.PagesSharing, savedByPss,
            cost.Daemon.TotalSeconds, cost.Agents.TotalSeconds, Holds(end),
            end.Processes.Max(process => process.StallNsMax) / 1000.0, idleHolds);
    }

    private static async Task WarmUpAsync(Daemon daemon, Workload work, CancellationToken cancel)
    {
        Workload little = new(WarmUpMib, work.RunLength);
        await using Targets targets = await Targets.StartAsync(little, cancel);
        await daemon.AttachAsync(targets.Pids, cancel);
        await ReachAsync(daemon, little, status => status.PagesSharing >= little.PagesToSave && Array.TrueForAll(status.Processes, process => process.Settled),
            Stopwatch.GetTimestamp(), cancel);
        await daemon.DetachAllAsync(cancel);
    }

    private static async Task ReachAsync(
        Daemon daemon, Workload work, Predicate<StatusReport> reached, long start, CancellationToken cancel)
    {
        StatusReport status;
        while (!reached(status = await daemon.StatusAsync(cancel)))
        {
            if (Array.Find(status.Processes, process => process.State is not ("settling" or "merging")) is { } lost)
                throw new BenchException($"process {lost.Pid} is {lost.State}: {lost.Reason}");
            if (Stopwatch.GetElapsedTime(start) > Waiting.MergeBound)
                throw new BenchException($"Samepage saved {status.PagesSharing} of {work.PagesToSave} pages in {Waiting.MergeBound.TotalSeconds:F0} s, "
                    + $"runs of {work.RunLength}, and got no further; {status.Processes.Count(process => process.Settled)} of "
                    + $"{status.Processes.Length} processes are settled; {string.Join(", ", status.Processes.Select(process => process.Reason).Distinct())}");
            TimeSpan pause = Stopwatch.GetElapsedTime(start) / PollsPerElapsed;
            await Task.Delay(pause < PollLeast ? PollLeast : pause > PollMost ? PollMost : pause, cancel);
        }
    }

    /// <summary>Processor time per pass while nothing changes.</summary>
    /// <remarks>
    /// The daemon passes at its own pace, so that is looked at first; then it is left alone, not asked for anything, for as
    /// long as the passes wanted take. Whatever else it does in that time counts as the passes' cost.
    /// </remarks>
    private static async Task<(double? ProcessorMs, long Passes, long Holds)> IdleAsync(Daemon daemon, Targets targets, CancellationToken cancel)
    {
        long first = (await daemon.StatusAsync(cancel)).FullScans;
        await Task.Delay(PaceWindow, cancel);
        StatusReport before = await daemon.StatusAsync(cancel);
        long start = before.FullScans;
        TimeSpan window = start == first ? IdleMost : PaceWindow * ((double)IdlePasses / (start - first));
        window = TimeSpan.FromTicks(Math.Clamp(window.Ticks, IdleLeast.Ticks, IdleMost.Ticks));

        Cost cost = Cost.Now(daemon, targets);
        await Task.Delay(window, cancel);
        cost = Cost.Now(daemon, targets) - cost;
        StatusReport after = await daemon.StatusAsync(cancel);
        long passes = after.FullScans - start;
        return (passes == 0 ? null : cost.All.TotalMilliseconds / passes, passes, Holds(after) - Holds(before));
    }

    private static long Holds(StatusReport status) => status.Processes.Sum(process => process.Stops);

    /// <summary>Processor time of the daemon, and of its agents' threads: those of the targets themselves all wait in read(2).</summary>
    private readonly record struct Cost(TimeSpan Daemon, TimeSpan Agents)
    {
        public TimeSpan All => Daemon + Agents;

        public static Cost Now(Daemon daemon, Targets targets) => new(ProcessorClock.Read(daemon.Pid), ProcessorClock.Read(targets.Pids));

        public static Cost operator -(Cost later, Cost earlier) => new(later.Daemon - earlier.Daemon, later.Agents - earlier.Agents);
    }
}
