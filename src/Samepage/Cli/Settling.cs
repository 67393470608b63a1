using System.Runtime.CompilerServices;
using Samepage.Api;
using Samepage.Engine.Control;

namespace Samepage.Cli;

/// <summary>Watches processes that were taken in until nothing more can be merged in them now.</summary>
/// <remarks>
/// There is no time limit: how long merging takes depends on how much memory there is, and a program that writes all the
/// time settles when its volatile pages are known as such. The user ends the wait with Ctrl-C; the processes stay attached.
/// </remarks>
internal static class Settling
{
    private static readonly TimeSpan s_interval = TimeSpan.FromMilliseconds(100);

    /// <summary>One look after the other, about ten a second; the last one is the one where all of them had settled.</summary>
    public static async IAsyncEnumerable<Look> WatchAsync(ApiClient api, int[] pids, [EnumeratorCancellation] CancellationToken cancellation)
    {
        while (true)
        {
            Look look = new(await api.StatusAsync(cancellation), pids);
            yield return look;
            if (look.Finished == pids.Length)
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

            await Task.Delay(s_interval, cancellation);
        }
    }

    /// <summary>How far the processes were at one moment.</summary>
    /// <param name="status">The daemon's answer.</param>
    /// <param name="pids">The processes waited for.</param>
    internal sealed class Look(StatusReport status, int[] pids)
    {
        public StatusReport Status { get; } = status;

        /// <summary>The processes in the order asked for; null where the daemon knows the process no more: it has ended.</summary>
        public ProcessReport?[] Processes { get; } = [.. pids.Select(pid => status.Processes.FirstOrDefault(p => p.Pid == pid))];

        /// <summary>How many need no more waiting: settled, gone, skipped, or on their way out.</summary>
        public int Finished => Processes.Count(IsFinished);

        /// <summary>Pages saved in the processes so far, merged and zero.</summary>
        public long PagesDone => Processes.Sum(p => p is null ? 0 : p.PagesMerged + p.ZeroPages);

        /// <summary>From 0 to 1. What share of the pages will find a twin is not known beforehand, so an unsettled process counts by what is merged.</summary>
        public double Fraction => Processes.Length == 0 ? 1 : Processes.Sum(Progress) / Processes.Length;

        private static double Progress(ProcessReport? p) =>
            IsFinished(p) ? 1 : Math.Min(0.95, (double)(p!.PagesMerged + p.ZeroPages) / Math.Max(1, p.PagesTracked));

        private static bool IsFinished(ProcessReport? p) => p is null || p.Settled || p.State is ProcessReport.Skipped or "detaching";
    }
}
