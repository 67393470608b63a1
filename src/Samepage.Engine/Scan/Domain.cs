using Samepage.Engine.Frames;
using Samepage.Engine.Index;
using Samepage.Engine.Records;

namespace Samepage.Engine.Scan;

/// <summary>A trust domain: its frames (the stable side) and its unique pages (the unstable side). No search ever looks into two.</summary>
internal sealed class Domain(DomainId id, PageRecords records, EngineOptions options, MemoryBudget budget) : IDisposable
{
    public DomainId Id => id;

    public FrameTable Frames { get; } = new(id, options, budget);

    public IDigestIndex Unstable { get; } = Make(options.Index, reference => records.Digest(new PageRef(reference)), budget);

    /// <summary>As <see cref="Space.Breaks"/>, of all spaces that were ever in it.</summary>
    public long Breaks { get; set; }

    public long Bytes => Frames.Bytes + Unstable.Bytes;

    /// <inheritdoc/>
    public void Dispose()
    {
        Frames.Dispose();
        Unstable.Dispose();
    }

    /// <summary>An index of the kind chosen.</summary>
    public static IDigestIndex Make(IndexKind kind, Func<uint, ulong> digestOf, MemoryBudget budget) => kind switch
    {
        IndexKind.Hash => new DigestIndex(digestOf, budget),
        _ => new DigestTree(digestOf, budget),
    };
}
