using System.Diagnostics;
using Samepage.Linux;
using Samepage.Linux.Processes;

namespace Samepage.Agent;

/// <summary>Keeps two daemons out of one program: two run directories, a container's daemon and its host's.</summary>
/// <remarks>
/// <para>A daemon claims a process before it brings an agent (<see cref="PidFd.TryClaim"/>), and keeps the claim for as long as the agent is there. Of two only one has it. But anybody may take it, so that
/// it cannot be had is only a reason to look again for some seconds whether an agent comes to be seen: the agent's memory has its daemon's number in its name. If none does, somebody means mischief, and
/// the process is taken in without a claim; whether an agent has come meanwhile is then looked at once more behind.</para>
/// <para>What an agent has left of which nobody knows any more, and in which no thread is, would keep every daemon out for as long as the program lives: it is unmapped. Who has the claim knows that no daemon which lives has it.</para>
/// <para>All of this reads the program's mappings, which may wait for as long as it likes.</para>
/// </remarks>
public static class AgentClaim
{
    private static readonly TimeSpan Looks = TimeSpan.FromSeconds(15);

    /// <summary>Claims a process.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="pidfd">The claim lasts as long as this.</param>
    /// <returns>False when it is not claimed, and taken in all the same: <see cref="Confirm"/> is to be called behind.</returns>
    /// <exception cref="AttachException">Another daemon has it.</exception>
    public static bool Take(int pid, FileDescriptor pidfd)
    {
        for (long since = Stopwatch.GetTimestamp(); ; Thread.Sleep(10))
        {
            bool claimed = PidFd.TryClaim(pidfd);
            List<(int Owner, ulong Start)> agents = AgentMemory.Agents(pid, except: 0);
            // Nobody who lives has it: what is there may be what nobody knows of any more, and runs no more.
            if (agents.Count > 0 && claimed)
            {
                agents.ForEach(agent => Injector.TryClear(pid, agent.Start));
                agents = AgentMemory.Agents(pid, except: 0);
            }

            if (agents is [var (owner, _), ..])
                throw Refusal(owner, claimed);
            if (claimed || Stopwatch.GetElapsedTime(since) > Looks)
                return claimed;
        }
    }

    /// <summary>Makes sure that a process which was taken in without a claim has no other daemon's agent.</summary>
    /// <exception cref="AttachException">It has: ours has left, or is left.</exception>
    public static void Confirm(AgentSession session)
    {
        if (AgentMemory.Agents(session.Pid, session.BaseAddress) is not [var (owner, _), ..])
            return;
        bool left = session.Leave();
        session.Dispose();
        throw left ? Refusal(owner, claimed: false) : new AttachException($"samepage daemon {owner} has it already, and our agent could not be removed: it is taken out as soon as the program lets us", agentLeft: true);
    }

    private static AttachException Refusal(int owner, bool claimed) => new(
        !claimed ? $"samepage daemon {owner} has it already"
        : owner == Environment.ProcessId ? "an agent of this daemon is left in it: run samepage recover when it has ended"
        : $"an agent of samepage daemon {owner} is in it, which that daemon has left: run samepage recover with its SAMEPAGE_RUN_DIR");
}
