namespace Samepage.Simulation.Memory;

/// <summary>Where a frame's content lies at the moment.</summary>
internal struct PoolFrame
{
    /// <summary>It was written and not freed since.</summary>
    public bool Held;

    /// <summary>Its physical page plus one; 0 while it is nowhere but in swap, or was never written.</summary>
    public int Physical;

    /// <summary>Its swap slot plus one; 0 when it has none.</summary>
    public int Slot;

    /// <summary>What was written to it: it must never be anything else.</summary>
    public ulong Written;

    /// <summary>Pages that were merged into it, or came to it by fork, be they its users still or not.</summary>
    public int Joined;

    /// <summary>Of those, pages that were merged.</summary>
    public int Merges;

    /// <summary>A page that was to join it was put off: held by a device, or for want of memory, or because its process was stopped.</summary>
    public bool PutOff;
}

/// <summary>The frames of every trust domain.</summary>
internal sealed class FramePools
{
    private readonly Dictionary<int, PoolFrame[]> _frames = [];

    public IEnumerable<int> Domains => _frames.Keys.Order();

    /// <summary>A frame of a domain; the pool grows as it is asked.</summary>
    public ref PoolFrame this[int domain, uint frame]
    {
        get
        {
            if (!_frames.TryGetValue(domain, out PoolFrame[]? frames))
                _frames.Add(domain, frames = new PoolFrame[64]);
            if (frame >= frames.Length)
            {
                Array.Resize(ref frames, (int)Math.Max(frame + 1, (uint)frames.Length * 2));
                _frames[domain] = frames;
            }

            return ref frames[frame];
        }
    }

    /// <summary>Numbers that a domain's frames may have: below this.</summary>
    public uint LimitOf(int domain) => _frames.TryGetValue(domain, out PoolFrame[]? frames) ? (uint)frames.Length : 0;
}
