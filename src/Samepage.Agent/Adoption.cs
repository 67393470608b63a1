using System.Diagnostics;
using Samepage.Agent.Tracing;
using Samepage.Linux;
using Samepage.Linux.Frames;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;
using Samepage.Linux.Userfault;

namespace Samepage.Agent;

/// <summary>What came of taking an agent over.</summary>
public enum AdoptionOutcome
{
    /// <summary>It answers to us now.</summary>
    Adopted,

    /// <summary>There is nothing of ours in the process, or there is no such process.</summary>
    NothingLeft,

    /// <summary>Not at the moment; try again.</summary>
    NotYet,
}

/// <summary>Takes over agents whose daemon has died.</summary>
/// <remarks>An orphaned executor has made new sockets, and waits at them (see the executor's steps). One that was not set up to the end is told to
/// leave. All calls from the one OS thread that traces.</remarks>
public static class Adoption
{
    private static readonly TimeSpan Bound = TimeSpan.FromSeconds(2);

    /// <summary>Takes one over.</summary>
    /// <param name="place">Where it lies.</param>
    /// <param name="poolDevice">The device of its frame pool, as it was written down.</param>
    /// <param name="poolInode">The pool's inode.</param>
    /// <param name="session">The session, when adopted.</param>
    /// <param name="pool">The frames that it maps, when adopted: they can be handed on, and not written. The caller owns them.</param>
    /// <param name="why">What stood in the way.</param>
    public static AdoptionOutcome TryAdopt(AgentPlace place, ulong poolDevice, ulong poolInode, out AgentSession? session, out FramePool? pool, out string why)
    {
        (session, pool, why) = (null, null, "");
        AgentData data = new(place.Pid, place.BaseAddress);
        if (!ProcessStat.TryRead(place.Pid, out ProcessStat stat) || stat.StartTime != place.StartTime || data.Word(AgentLayout.Cookie) != place.Cookie)
            return AdoptionOutcome.NothingLeft;
        try
        {
            long state = AwaitOrphan(data);
            int executor = data.Thread(AgentLayout.ExecutorTid);
            if (executor == 0)
            {
                why = "what is left of the agent cannot be unmapped: no thread of the process could be held";
                return Injector.Uproot(place.Pid, place.BaseAddress, place.Cookie) ? AdoptionOutcome.NothingLeft : AdoptionOutcome.NotYet;
            }

            if (!PidFd.TryOpenThread(executor, out FileDescriptor? thread, out Errno refused))
            {
                why = $"the agent's thread {executor} cannot be opened: pidfd_open {refused}";
                return AdoptionOutcome.NotYet;
            }

            using (thread)
            {
                FileDescriptor executorSocket = PidFd.Take(thread!, (int)data.Word(AgentLayout.ExecutorFar));
                if (state != AgentLayout.StateOrphaned)
                {
                    // It waits for descriptors that its daemon did not come to send, and ends when there is nobody to wait for.
                    using (executorSocket)
                        DescriptorPassing.End(executorSocket);
                    why = $"the agent was not set up to the end, and leaves (state {state})";
                    return AdoptionOutcome.NotYet;
                }

                FileDescriptor wardenSocket = PidFd.Take(thread!, (int)data.Word(AgentLayout.WardenFar));
                FileDescriptor tracking = Userfaultfd.Take(thread!, (int)data.Word(AgentLayout.T)), merged = Userfaultfd.Take(thread!, (int)data.Word(AgentLayout.M));
                pool = FramePool.Adopt(PidFd.Take(thread!, (int)data.Word(AgentLayout.PoolFd)), PidFd.Take(thread!, (int)data.Word(AgentLayout.GuardFd)), poolDevice, poolInode);
                session = new AgentSession(place.Pid, place.BaseAddress, executor, tracking, merged, executorSocket, wardenSocket);
                using (AgentThreads.KeepAwake(place.Pid, executor, data.Thread(AgentLayout.WardenTid)))
                    session.Begin();
                return AdoptionOutcome.Adopted;
            }
        }
        catch (SyscallException failed)
        {
            session?.Dispose();
            pool?.Dispose();
            (session, pool, why) = (null, null, failed.Message);
            return AdoptionOutcome.NotYet;
        }
    }

    /// <summary>Waits until the executor has noticed that it is an orphan, or is no more.</summary>
    /// <returns>Its state.</returns>
    private static long AwaitOrphan(AgentData data)
    {
        long state;
        using var threads = AgentThreads.KeepAwake(data.Pid, data.Thread(AgentLayout.ExecutorTid), data.Thread(AgentLayout.WardenTid));
        for (long since = Stopwatch.GetTimestamp(); (state = (long)data.Word(AgentLayout.State)) != AgentLayout.StateOrphaned && Stopwatch.GetElapsedTime(since) < Bound; Thread.Sleep(1))
        {
            if (state < 0 || (data.Word(AgentLayout.ExecutorTid) != 0 && data.Thread(AgentLayout.ExecutorTid) == 0))
                break;
        }

        return state;
    }
}
