using Samepage.Linux;
using Samepage.Linux.Userfault;

namespace Samepage.Live;

/// <summary>Children whose parent has ended with its warden, and who cannot be taken in: the daemon answers their faults itself, until they end.</summary>
/// <remarks>Looked at between passes, so such a child may wait for up to a pause when it touches a page that it discarded.</remarks>
internal sealed class Orphans : IDisposable
{
    private readonly List<FileDescriptor> _watched = [];

    /// <summary>Takes the descriptors of a space that is about to go.</summary>
    public void Inherit(LiveSpace space)
    {
        foreach (Inherited inherited in space.Inherited.Values)
            _watched.Add(inherited.M);
        space.Inherited.Clear();
    }

    /// <summary>Answers what waits, and lets go of what is dead.</summary>
    public void Serve()
    {
        for (int i = _watched.Count - 1; i >= 0; i--)
        {
            foreach (FileDescriptor born in Userfaultfd.AnswerDiscards(_watched[i]))
                _watched.Add(born);
            if (Userfaultfd.IsDead(_watched[i]))
            {
                _watched[i].Dispose();
                _watched.RemoveAt(i);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (FileDescriptor descriptor in _watched)
            descriptor.Dispose();
    }
}
