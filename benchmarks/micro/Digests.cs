using Samepage.Engine;
using Samepage.Engine.Index;
using Samepage.Engine.Records;
using Samepage.Engine.Scan;

namespace Samepage.MicroBench;

/// <summary>Entries with digests as pages have them: spread evenly, and in no order.</summary>
internal sealed class Digests : IDisposable
{
    private readonly NativeColumn<ulong> _digests;

    private Digests(long count)
    {
        _digests = new NativeColumn<ulong>(Budget);
        if (!_digests.TryRenew(count))
            throw new InvalidOperationException($"no memory for {count} digests");
        for (long i = 0; i < count; i++)
            _digests[i] = Mix((ulong)i);
    }

    public static Digests Of(long count) => new(count);

    public MemoryBudget Budget { get; } = new(long.MaxValue);

    public ulong this[long entry] => _digests[entry];

    /// <summary>A digest that no entry has.</summary>
    public static ulong Missing(long entry) => Mix((ulong)entry | 1UL << 63);

    public IDigestIndex NewIndex(IndexKind kind) => Domain.Make(kind, entry => _digests[entry], Budget);

    public void Dispose() => _digests.Dispose();

    /// <summary>The finalizer of splitmix64: a permutation of 64 bits.</summary>
    public static ulong Mix(ulong value)
    {
        value = unchecked((value + 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9);
        value = unchecked((value ^ (value >> 27)) * 0x94D049BB133111EB);
        return value ^ (value >> 31);
    }
}
