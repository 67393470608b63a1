using System.Diagnostics;
using Samepage.Linux;
using Samepage.Linux.Processes;
using Samepage.Linux.Userfault;

namespace Samepage.Agent;

/// <content>The children for which its warden answers.</content>
public sealed partial class AgentSession
{
    /// <summary>Duplicates the descriptors that forked children brought.</summary>
    /// <param name="inherited">Receives those that are new.</param>
    /// <param name="tickets">By slot, the ticket of whoever was known last to have it. One that was told to be closed may be there for a while yet, and is not new.</param>
    public void TakeInherited(List<InheritedDescriptor> inherited, ReadOnlySpan<uint> tickets)
    {
        Span<long> children = stackalloc long[AgentLayout.MaxChildren];
        if (!_memory.ReadChildren(children) || !PidFd.TryOpenThread(Pid, ExecutorThread, out FileDescriptor? thread, out _))
            return;
        using (thread)
        {
            for (int slot = 0; slot < children.Length; slot++)
            {
                (int number, uint ticket) = ((int)children[slot], (uint)(children[slot] >>> 32));
                if (number < 0 || tickets[slot] == ticket)
                    continue;
                try
                {
                    inherited.Add(new InheritedDescriptor(slot, Userfaultfd.Take(thread!, number), ticket));
                }
                catch (SyscallException)
                {
                    // The warden closed it, or the process ended: seen as gone by the next look.
                }
            }
        }
    }

    /// <summary>Whether the warden has children that were never taken: there was no descriptor left for theirs, or they have come just now. Also where that cannot be read.</summary>
    /// <inheritdoc cref="TakeInherited"/>
    public bool HasUntakenChildren(ReadOnlySpan<uint> tickets)
    {
        Span<long> children = stackalloc long[AgentLayout.MaxChildren];
        if (!_memory.ReadChildren(children))
            return true;
        for (int slot = 0; slot < children.Length; slot++)
        {
            if ((int)children[slot] >= 0 && tickets[slot] != (uint)(children[slot] >>> 32))
                return true;
        }

        return false;
    }

    /// <summary>Whether the warden answers for a child still: it has it in that slot.</summary>
    public bool Answers(int slot, uint ticket)
    {
        Span<long> children = stackalloc long[AgentLayout.MaxChildren];
        return _memory.ReadChildren(children) && (int)children[slot] >= 0 && (uint)(children[slot] >>> 32) == ticket;
    }

    /// <summary>As <see cref="CloseInherited"/>, and sets the agent's threads going for it where the process is stopped.</summary>
    public void CloseInheritedOfStopped(int slot, uint ticket)
    {
        using var threads = AgentThreads.KeepAwake(Pid, ExecutorThread, WardenThread);
        CloseInherited(slot, ticket);
        for (long since = Stopwatch.GetTimestamp(); Answers(slot, ticket) && Stopwatch.GetElapsedTime(since) < DismissalBound; Thread.Sleep(1))
            threads.KeepGoing();
    }

    /// <summary>Tells the warden that a child no longer needs it: it is dead, or has a warden of its own.</summary>
    public void CloseInherited(int slot, uint ticket) => TryRing(_wardenSocket, (AgentLayout.DoorbellCloseChild + (ulong)slot) | ((ulong)ticket << 32));
}
