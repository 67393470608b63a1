using System.Diagnostics;
using Samepage.Agent.Tracing;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Agent;

/// <content>The agent leaves, when its process is given back.</content>
public sealed partial class AgentSession
{
    /// <summary>Looks after what the calling thread has in hand of programs that it alone can let go: threads that it seized.</summary>
    /// <returns>It has something in hand still.</returns>
    public static bool LookAfterHeld()
    {
        WorldStop.LookAfterLingering();
        s_shielded?.RemoveAll(static session => session.ShieldedHaveEnded());
        return WorldStop.HasLingering || s_shielded is { Count: > 0 };
    }

    /// <summary>Sets the agent's threads going where they are seized and have come to a stop.</summary>
    private void RestartShielded()
    {
        if (!IsFiltered)
            return;
        AgentThreads.Restart(ref _executor);
        AgentThreads.Restart(ref _warden);
    }

    /// <summary>Sets the agent's threads going where they have come to a stop, and hears of their end.</summary>
    private bool ShieldedHaveEnded()
    {
        RestartShielded();
        return _executor.Kind == StopKind.Gone && _warden.Kind == StopKind.Gone;
    }

    /// <summary>Sends the warden away. Every thread of the program must be held, none of its mappings be one of frames, and no child of it that has frames be watched: from here on nobody
    /// answers for them.</summary>
    /// <param name="suspended">The process is stopped by SIGSTOP.</param>
    /// <returns>False when it is still there after a quarter of a second; it leaves all the same.</returns>
    public bool DismissWarden(bool suspended)
    {
        using var threads = AgentThreads.KeepAwake(Pid, ExecutorThread, WardenThread, suspended);
        TryRing(_wardenSocket, AgentLayout.DoorbellLeave);
        return AwaitEnd(WardenThread, threads, DismissalBound);
    }

    /// <summary>All threads of the program were held, none of them in the agent's code, and none will be held, and so be put before the gate, any more: they need not be looked for there.</summary>
    public bool AreElsewhere { get; set; }

    /// <summary>Asks the agent's threads to leave, waits until they are gone, and removes their mapping.</summary>
    /// <returns>False when something of it is left in the process.</returns>
    public bool Leave()
    {
        using var threads = AgentThreads.KeepAwake(Pid, ExecutorThread, WardenThread);
        TryRing(_wardenSocket, AgentLayout.DoorbellLeave);
        TryRing(_executorSocket, AgentLayout.DoorbellLeave);
        return AwaitEnd(ExecutorThread, threads, LeaveBound) && AwaitEnd(WardenThread, threads, LeaveBound) && Injector.Uproot(Pid, BaseAddress, _place.Cookie, AreElsewhere);
    }

    private bool AwaitEnd(int threadId, AgentThreads threads, TimeSpan bound)
    {
        long since = Stopwatch.GetTimestamp();
        while (Directory.Exists($"/proc/{Pid}/task/{threadId}"))
        {
            threads.KeepGoing();
            // And hears of their end, which is not complete before.
            RestartShielded();
            if (Stopwatch.GetElapsedTime(since) > bound)
                return false;
            Scheduling.Pause(since);
        }

        return true;
    }
}
