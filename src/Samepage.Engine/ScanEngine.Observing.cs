using Samepage.Engine.Records;
using Samepage.Engine.Scan;

namespace Samepage.Engine;

/// <summary>A frame in use.</summary>
/// <param name="Frame">Which.</param>
/// <param name="Users">Pages mapped to it, 1 at least.</param>
public readonly record struct SharedFrame(FrameId Frame, long Users);

/// <content>What observers ask between two calls. Nothing here asks the machine, or changes anything; each call costs what it is given room for.</content>
public sealed partial class ScanEngine
{
    /// <summary>Says of neighbouring pages what their records say.</summary>
    /// <param name="id">The space.</param>
    /// <param name="first">The first page.</param>
    /// <param name="kinds">Receives one for each page.</param>
    /// <exception cref="KeyNotFoundException">It is not taken in.</exception>
    public void ReadKinds(SpaceId id, PageNumber first, Span<PageKind> kinds)
    {
        Space space = _spaces[id.Value];
        kinds.Clear();
        ulong end = first.Value + (ulong)kinds.Length;
        for (int i = space.Slabs.LowerBound(first.Value / PageRecords.PagesPerSlab); i < space.Slabs.Count; i++)
        {
            ulong slab = space.Slabs.Chunk(i) * PageRecords.PagesPerSlab, from = Math.Max(slab, first.Value), to = Math.Min(slab + PageRecords.PagesPerSlab, end);
            if (slab >= end)
                break;
            ReadOnlySpan<uint> states = _records.StatesOf(space.Slabs.Slab(i))[(int)(from - slab)..(int)(to - slab)];
            Span<PageKind> said = kinds[(int)(from - first.Value)..];
            for (int place = 0; place < states.Length; place++)
                said[place] = PageState.KindOf(states[place]);
        }
    }

    /// <summary>The first page, from a place on, at or behind which there may be records; null when there are none.</summary>
    /// <exception cref="KeyNotFoundException">It is not taken in.</exception>
    public PageNumber? NextTracked(SpaceId id, PageNumber from)
    {
        SlabTable slabs = _spaces[id.Value].Slabs;
        int index = slabs.LowerBound(from.Value / PageRecords.PagesPerSlab);
        return index == slabs.Count ? null : new PageNumber(Math.Max(from.Value, slabs.Chunk(index) * PageRecords.PagesPerSlab));
    }

    /// <summary>The frames that most pages use, among some neighbouring frames of a domain; who uses them says <see cref="UsersOf"/>.</summary>
    /// <param name="domain">The domain.</param>
    /// <param name="first">The first frame to look at.</param>
    /// <param name="count">How many to look at, at most.</param>
    /// <param name="most">How many to return, at most.</param>
    /// <param name="next">Where to go on; null when there are no further frames.</param>
    /// <returns>The most used first; of equally many users the lower number.</returns>
    public IReadOnlyList<SharedFrame> MostShared(DomainId domain, FrameId first, int count, int most, out FrameId? next)
    {
        next = null;
        if (!_domains.TryGetValue(domain, out Domain? known))
            return [];
        uint end = (uint)Math.Min(known.Frames.End, first.Value + (long)count);
        PriorityQueue<SharedFrame, (long, long)> best = new();
        for (uint frame = first.Value; frame < end; frame++)
        {
            uint users = known.Frames.UsersOf(new FrameId(frame));
            if (users == 0)
                continue;
            (long, long) rank = (users, -(long)frame);
            if (best.Count < most)
                best.Enqueue(new SharedFrame(new FrameId(frame), users), rank);
            else
                best.EnqueueDequeue(new SharedFrame(new FrameId(frame), users), rank);
        }

        if (end < known.Frames.End)
            next = new FrameId(end);
        SharedFrame[] found = new SharedFrame[best.Count];
        for (int i = found.Length - 1; i >= 0; i--)
            found[i] = best.Dequeue();
        return found;
    }

    /// <summary>Merged pages of a domain that a write, or a discard, has taken from their frames, noticed so far; those of spaces that have gone are counted too.</summary>
    public long BreaksIn(DomainId domain) => _domains.TryGetValue(domain, out Domain? known) ? known.Breaks : 0;
}
