using Samepage.Linux;
using Samepage.Linux.Userfault;

namespace Samepage.Live;

/// <summary>Children without a warden: their parent has ended with the one that they had, or it could take no more. The daemon answers their faults itself,
/// as soon as they come, until they end.</summary>
internal sealed class Orphans : IDisposable
{
    private readonly List<FileDescriptor> _watched = [];

    /// <summary>Takes a descriptor. Any thread.</summary>
    public void Add(FileDescriptor m)
    {
        lock (_watched)
            _watched.Add(m);
    }

    /// <summary>The descriptors; the thread that serves may wait on them, for it alone closes them.</summary>
    public List<FileDescriptor> Watched()
    {
        lock (_watched)
            return [.. _watched];
    }

    /// <summary>Answers what waits, and lets go of what is dead. One thread.</summary>
    public void Serve()
    {
        foreach (FileDescriptor m in Watched())
        {
            foreach (FileDescriptor born in Userfaultfd.AnswerDiscards(m, isUnfilled: null))
                Add(born);
            if (!Userfaultfd.IsDead(m))
                continue;
            lock (_watched)
                _watched.Remove(m);
            m.Dispose();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (FileDescriptor descriptor in Watched())
            descriptor.Dispose();
    }
}
