using Samepage.Linux;
using Samepage.Linux.Processes;
using Samepage.Linux.Userfault;

namespace Samepage.Live;

/// <summary>Children without a warden: their parent has ended with the one that they had, or it could take no more. The daemon answers their faults itself,
/// as soon as they come, until they end.</summary>
/// <remarks>To answer may have to wait for the lock of a child's address space, so each child has an attendant of its own while anything has come over its descriptor.</remarks>
/// <param name="attendants">Answer.</param>
/// <param name="changed">Set when there is another, or one may be waited on again.</param>
internal sealed class Orphans(Attendants attendants, EventSignal changed) : IDisposable
{
    private readonly List<FileDescriptor> _watched = [];
    private readonly HashSet<FileDescriptor> _answered = [];

    /// <summary>Takes a descriptor. Any thread.</summary>
    public void Add(FileDescriptor m)
    {
        lock (_watched)
            _watched.Add(m);
    }

    /// <summary>There are none.</summary>
    public bool IsEmpty
    {
        get
        {
            lock (_watched)
                return _watched.Count == 0;
        }
    }

    /// <summary>The descriptors that may be waited on: those over which nobody is answering, for who does may close one.</summary>
    public List<FileDescriptor> Watched()
    {
        lock (_watched)
            return [.. _watched.Where(m => !_answered.Contains(m))];
    }

    /// <summary>Has answered what waits, and what is dead let go of. One thread.</summary>
    /// <param name="waited">Those that were waited on.</param>
    public void Serve(List<FileDescriptor> waited)
    {
        foreach (FileDescriptor m in waited)
        {
            lock (_watched)
                _answered.Add(m);
            _ = attendants.Begin(Lanes.OfDescriptor(m.Number), () => Answer(m));
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (FileDescriptor descriptor in Watched())
            descriptor.Dispose();
    }

    private void Answer(FileDescriptor m)
    {
        foreach (FileDescriptor born in Userfaultfd.AnswerDiscards(m, isUnfilled: null))
            Add(born);
        bool dead = Userfaultfd.IsDead(m);
        lock (_watched)
        {
            _answered.Remove(m);
            if (dead)
                _watched.Remove(m);
        }

        if (dead)
            m.Dispose();
        changed.Set();
    }
}
