using System.Diagnostics;
using System.Runtime.CompilerServices;
using Samepage.Api;
using Samepage.Engine.Control;

namespace Samepage.Cli;

/// <summary>Watches processes that were taken in until nothing more can be merged in them now.</summary>
/// <remarks>
/// A process counts from the first moment on at which it had settled: one that writes now and then settles again and again, and many of them never all at one moment. How long merging takes
/// depends on how much memory there is, so the wait has no bound but the one that its caller sets. The user ends it with Ctrl-C; the processes stay attached.
/// </remarks>
internal static class Settling
{
    private static readonly TimeSpan s_interval = TimeSpan.FromMilliseconds(100);

    /// <summary>One look after the other, about ten a second; the last one is the one where each of them had settled, or where the time was over.</summary>
    /// <param name="api">The daemon.</param>
    /// <param name="pids">The processes.</param>
    /// <param name="bound">How long to wait.</param>
    /// <param name="cancellation">Ends the wait.</param>
    public static async IAsyncEnumerable<Look> WatchAsync(ApiClient api, int[] pids, TimeSpan bound, [EnumeratorCancellation] CancellationToken cancellation)
    {
        HashSet<int> settled = [];
        for (long since = Stopwatch.GetTimestamp(); ;)
        {
            Look look = new(await api.StatusAsync(cancellation), pids, settled);
            yield return look;
            if (look.Finished == pids.Length || Stopwatch.GetElapsedTime(since) >= bound)
                yield break;
            if (look.Status.Run != (int)RunState.Running)
            {
                throw new CommandException(ExitCode.Failed, $"the scanner is told to stand still (run is {look.Status.Run}), so nothing would be merged; the processes stay attached",
                    $"let it scan with: echo 1 > {look.Status.ControlDirectory}/{Daemon.ControlTree.KsmName}/{ScanControl.RunFile}");
            }

            if (look.Status.WaitsFor.Length > 0)
            {
                throw new CommandException(ExitCode.Failed, $"merging waits for memory pressure ({look.Status.WaitsFor}); the processes stay attached, and are merged when it comes",
                    "see [pressure] in the daemon's rules, samepage.toml(5)");
            }

            if (look.Status.WaitsForSwap.Length > 0)
                throw new CommandException(ExitCode.Failed, $"nothing is merged: {look.Status.WaitsForSwap}; the processes stay attached, and are merged when it is off", "swapoff -a, or boot a kernel without that bug");

            await Task.Delay(s_interval, cancellation);
        }
    }

    /// <summary>How far the processes were at one moment.</summary>
    internal sealed class Look
    {
        private readonly HashSet<int> _settled;

        /// <param name="status">The daemon's answer.</param>
        /// <param name="pids">The processes waited for.</param>
        /// <param name="settled">Those that need no more waiting; receives those that do not from now on.</param>
        public Look(StatusReport status, int[] pids, HashSet<int> settled)
        {
            (Status, _settled) = (status, settled);
            Processes = [.. pids.Select(pid => status.Processes.FirstOrDefault(p => p.Pid == pid))];
            settled.UnionWith(pids.Where((_, i) => Processes[i] is null or { Settled: true } or { State: ProcessReport.Skipped or "detaching" }));
        }

        public StatusReport Status { get; }

        /// <summary>The processes in the order asked for; null where the daemon knows the process no more: it has ended.</summary>
        public ProcessReport?[] Processes { get; }

        /// <summary>How many need no more waiting: they have settled, are gone, skipped, or on their way out.</summary>
        public int Finished => _settled.Count;

        /// <summary>Those that have not settled yet.</summary>
        public ProcessReport[] Unsettled => [.. Processes.Where(p => p is not null && !_settled.Contains(p.Pid))!];

        /// <summary>Pages saved in the processes so far, merged and zero.</summary>
        public long PagesDone => Processes.Sum(p => p is null ? 0 : p.PagesMerged + p.ZeroPages);

        /// <summary>From 0 to 1. What share of the pages will find a twin is not known beforehand, so an unsettled process counts by what is merged.</summary>
        public double Fraction => Processes.Length == 0 ? 1 : Processes.Sum(Progress) / Processes.Length;

        private double Progress(ProcessReport? p) =>
            p is null || _settled.Contains(p.Pid) ? 1 : Math.Min(0.95, (double)(p.PagesMerged + p.ZeroPages) / Math.Max(1, p.PagesTracked));
    }
}
