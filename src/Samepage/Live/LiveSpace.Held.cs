using Samepage.Agent;
using Samepage.Linux;
using Samepage.Metrics;

namespace Samepage.Live;

/// <content>Who else holds its pages, or answers for it, and what is put off for that.</content>
internal sealed partial class LiveSpace
{
    /// <summary>Which operations of a batch give a page back that somebody may hold.</summary>
    /// <remarks>The program's threads are held meanwhile, and whoever reads page tables may wait for a lock that somebody has: so another does, and what is not known in time is held.</remarks>
    private List<int>? FindHeld(AgentOperation[] batch)
    {
        List<int>? held = null;
        try
        {
            if (TryBegin(Lane.Frames, () => held = HeldPages.Among(Pagemap, batch)) is { } job && job.Wait(FramesBound))
                return held;
        }
        catch (Exception failed) when (failed is SyscallException or IOException or OutOfMemoryException or UnauthorizedAccessException or InvalidOperationException or AggregateException)
        {
            // It is not known then.
        }

        Incidents.Note(Incident.QuestionLate, Pid);
        return null;
    }

    /// <summary>A batch takes longer than any should.</summary>
    private void LetGo()
    {
        _world.LeaveAtGate();
        Incidents.Note(Incident.LetGo, Pid);
    }

    private void NoteRefusals(ReadOnlySpan<AgentOperation> batch)
    {
        int held = 0, withheld = 0, refused = 0;
        foreach (ref readonly AgentOperation operation in batch)
        {
            held += operation.Kind == OperationKind.Unmerge && operation.Error == (long)Errno.EBUSY ? 1 : 0;
            withheld += operation.Error == (long)MoveSieve.Held ? 1 : 0;
            refused += operation.Kind != OperationKind.Unmerge && operation.Error == (long)Errno.EBUSY ? 1 : 0;
        }

        Incidents.Note(Incident.GivingBackHeld, Pid, held);
        Incidents.Note(Incident.MoveWithheld, Pid, withheld);
        Incidents.Note(Incident.MoveRefused, Pid, refused);
    }

    /// <summary>Hears an answer that the agent owed, or what it asks instead: it waits for that in the middle of a batch, and the program's threads with it. In <see cref="Lane.Hold"/>.</summary>
    public void Hear()
    {
        if (Unanswered > 0 && Session.IsAnswered())
            Unanswered = 0;
    }

    /// <summary>Whether nobody but its own warden answers for it any more.</summary>
    /// <remarks>Whoever answers over a copy of M takes what is missing for discarded, and ends protections; UFFDIO_ZEROPAGE does so on any userfaultfd of the address space. A child's parent's warden does until it is told
    /// to close its copy, and may be frozen between reading a fault and answering it, for any time: then it would fill what an exchange has emptied, or let a write through in the middle of one. It works one thing
    /// after the other, so that none of its answers is under way once it has closed its copy.</remarks>
    private bool IsHandedOver()
    {
        if (Brought is { } child && !Offspring.IsDropped(child))
            return false;
        Brought = null;
        return true;
    }
}
