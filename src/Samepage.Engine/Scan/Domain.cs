using Samepage.Engine.Frames;
using Samepage.Engine.Index;
using Samepage.Engine.Records;

namespace Samepage.Engine.Scan;

/// <summary>A trust domain: its frames (the stable side) and its unique pages (the unstable side). No search ever looks into two.</summary>
internal sealed class Domain(DomainId id, PageRecords records) : IDisposable
{
    public DomainId Id => id;

    public FrameTable Frames { get; } = new(id);

    public DigestIndex Unstable { get; } = new(reference => records.Digest(new PageRef(reference)));

    public long Bytes => Frames.Bytes + Unstable.Bytes;

    /// <inheritdoc/>
    public void Dispose()
    {
        Frames.Dispose();
        Unstable.Dispose();
    }
}
