using System.Diagnostics;
using Samepage.Agent;
using Samepage.Agent.Tracing;
using Samepage.Api;
using Samepage.Linux;

namespace Samepage.Daemon;

/// <summary>Gives back what a daemon that died has left: by <c>samepage recover</c>, which the daemon's guardian starts, and by every daemon before it serves.</summary>
/// <remarks>Until this has run, processes go on as they are: merged, and right, for their wardens need nobody. It holds their threads as the daemon
/// did, and may itself be killed at any moment, and begun again.</remarks>
internal static class Recovery
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(20), Patience = TimeSpan.FromSeconds(2), Bound = TimeSpan.FromSeconds(20);

    /// <summary>Goes on until nothing is left, or the time is over.</summary>
    /// <param name="runDirectory">Where the dead daemon kept its state; the caller holds its lock.</param>
    /// <param name="bound">How long to try what cannot be done at once.</param>
    /// <param name="logger">Is told of each process.</param>
    /// <param name="cancellation">Ends it before its time; between two processes, never within one.</param>
    /// <returns>Processes that could not be given back; they stay merged, and right.</returns>
    public static Task<int> RunAsync(string runDirectory, TimeSpan bound, ILogger logger, CancellationToken cancellation)
    {
        TaskCompletionSource<int> ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
        // ptrace(2) belongs to one thread.
        new Thread(() =>
        {
            try
            {
                ended.SetResult(Run(new AgentRecords(runDirectory), bound, logger, cancellation));
            }
            catch (Exception failed)
            {
                ended.SetException(failed);
            }
        })
        { Name = "recovery" }.Start();
        return ended.Task;
    }

    private static int Run(AgentRecords records, TimeSpan bound, ILogger logger, CancellationToken cancellation)
    {
        Dictionary<ulong, Coordinator> coordinators = [];
        HashSet<int> adopted = [];
        Dictionary<int, string> obstacles = [];
        try
        {
            long since = Stopwatch.GetTimestamp();
            for (; ; )
            {
                List<AgentRecord> left = records.ReadAll();
                foreach (AgentRecord record in left)
                {
                    if (!coordinators.TryGetValue(record.PoolInode, out Coordinator? coordinator))
                        coordinators.Add(record.PoolInode, coordinator = new Coordinator(logger, records));
                    int pid = record.Place.Pid;
                    string obstacle = Give(record, coordinator, adopted, records, logger);
                    if (Stopwatch.GetElapsedTime(since) > Patience && obstacle.Length > 0 && obstacles.GetValueOrDefault(pid) != obstacle)
                        logger.LogInformation("process {Pid} is not given back yet: {Why}", pid, obstacles[pid] = obstacle);
                }

                WorldStop.LookAfterLingering();
                if (left.Count == 0 || cancellation.IsCancellationRequested || Stopwatch.GetElapsedTime(since) > bound)
                    return left.Count;
                Thread.Sleep(Pause);
            }
        }
        finally
        {
            foreach (Coordinator coordinator in coordinators.Values)
                coordinator.Dispose();
        }
    }

    /// <returns>What stood in the way; empty when it is given back.</returns>
    private static string Give(AgentRecord record, Coordinator coordinator, HashSet<int> adopted, AgentRecords records, ILogger logger)
    {
        int pid = record.Place.Pid;
        try
        {
            if (!adopted.Contains(pid) && !coordinator.Pids().Contains(pid))
            {
                AdoptionOutcome outcome = coordinator.Adopt(record, out string why);
                if (outcome == AdoptionOutcome.NothingLeft)
                    records.Remove(pid);
                if (outcome != AdoptionOutcome.Adopted)
                    return outcome == AdoptionOutcome.NothingLeft ? "" : why;
                adopted.Add(pid);
            }

            if (!ThreadPump.TryRun(() => coordinator.Detach(pid), Bound, out ProcessOutcome back))
                return "it does not let itself be given back";
            if (back.Done)
                logger.LogInformation("gave back process {Pid}, which a daemon that died had left", pid);
            return back.Done ? "" : back.Reason;
        }
        catch (SyscallException failed)
        {
            // It was killed at this moment, most likely: the next round sees.
            return failed.Message;
        }
    }
}
