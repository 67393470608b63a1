using System.Runtime.InteropServices;

namespace Samepage.Estimate.Census;

/// <summary>Counts contents that have many copies, whatever a sample takes: without them one content that the sample misses could be most of the truth.</summary>
/// <remarks>
/// <para>Misra and Gries, 1982, with batches: 1. A content in the table is counted. 2. One that is not gets a place, and remembers how many it may have
/// been counted before and thrown out: as many as <c>_dropped</c> says. 3. A full table is lowered: what is at or below the median goes, and <c>_dropped</c> rises by it.
/// So a content's true number lies between its count since it came in and that plus what was dropped before.</para>
/// <para>Thread-safe.</para>
/// </remarks>
internal sealed class HeavyContents(int capacity = HeavyContents.DefaultCapacity)
{
    public const int DefaultCapacity = 1 << 18;
    private const int CopiesMin = 16, MarginOfDropped = 8;
    private readonly Lock _lock = new();
    private readonly Dictionary<(ulong Digest, int Domain), Count> _counts = [];
    private long _dropped;

    /// <summary>Counts pages of a domain.</summary>
    public void Add(int domain, ReadOnlySpan<ulong> digests)
    {
        lock (_lock)
        {
            foreach (ulong digest in digests)
            {
                ref Count count = ref CollectionsMarshal.GetValueRefOrAddDefault(_counts, (digest, domain), out bool known);
                count = known ? count with { Copies = count.Copies + 1 } : new Count(1, _dropped);
                if (_counts.Count >= capacity)
                    Lower();
            }
        }
    }

    /// <summary>The contents that have so many copies that they are not left to the sample.</summary>
    public Dictionary<(ulong Digest, int Domain), Count> Take()
    {
        lock (_lock)
        {
            return _counts.Where(entry => entry.Value.Copies >= Math.Max(CopiesMin, MarginOfDropped * entry.Value.Missed)).ToDictionary();
        }
    }

    private void Lower()
    {
        long[] worths = [.. _counts.Values.Select(count => count.Copies + count.Missed - _dropped)];
        Array.Sort(worths);
        long median = Math.Max(1, worths[worths.Length / 2]);
        foreach (((ulong, int) key, Count count) in _counts)
        {
            if (count.Copies + count.Missed - _dropped <= median)
                _counts.Remove(key);
        }

        _dropped += median;
    }

    /// <param name="Copies">Met since it came into the table.</param>
    /// <param name="Missed">Met before, at the most.</param>
    public readonly record struct Count(long Copies, long Missed);
}
