using Microsoft.Extensions.Logging;
using Samepage.Agent;
using Samepage.Linux;
using Samepage.Linux.Userfault;

namespace Samepage.Live;

/// <summary>Children that a process forked after it was taken in: they share its frames (F1), and are watched over their own descriptors.</summary>
internal sealed class Offspring(LiveMachine machine, LiveSpace space, ILogger logger)
{
    /// <summary>Takes note of new children, and closes the descriptors of dead ones: nobody announces that a child has ended or called exec.</summary>
    public void Look()
    {
        foreach ((int slot, FileDescriptor descriptor) in space.Inherited.ToArray())
        {
            if (Userfaultfd.IsDead(descriptor))
                Close(slot);
        }

        bool[] known = new bool[AgentSession.MaxInherited];
        foreach (int slot in space.Inherited.Keys)
            known[slot] = true;
        List<InheritedDescriptor> inherited = [];
        space.Session.TakeInherited(inherited, known);
        foreach (InheritedDescriptor child in inherited)
            space.Inherited.Add(child.Slot, child.M);
    }

    /// <summary>Before a process is given back: its living children get their own copies too.</summary>
    public void GiveBackAll()
    {
        Look();
        if (space.Inherited.Count > 0)
            logger.LogInformation("process {Pid} has {Count} children that share frames; {Pools} processes are served", space.Pid, space.Inherited.Count, machine.Spaces.Count);
    }

    private void Close(int slot)
    {
        space.Session.CloseInherited(slot);
        space.Inherited.Remove(slot, out FileDescriptor? descriptor);
        descriptor?.Dispose();
    }
}
