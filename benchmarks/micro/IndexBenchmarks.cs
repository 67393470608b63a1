using BenchmarkDotNet.Attributes;
using Samepage.Engine;
using Samepage.Engine.Index;

namespace Samepage.MicroBench;

/// <summary>One operation on an index that is full, on entries that come in no order.</summary>
public class IndexBenchmarks
{
    private const int Batch = 1024;
    private Digests _digests = null!;
    private IDigestIndex _index = null!;
    private long _at;

    /// <summary>Which index.</summary>
    [Params(IndexKind.Hash, IndexKind.Tree)]
    public IndexKind Kind { get; set; }

    /// <summary>Entries.</summary>
    [Params(1 << 20, 8 << 20)]
    public int Entries { get; set; }

    /// <summary>Fills it.</summary>
    [GlobalSetup]
    public void Fill()
    {
        _digests = Digests.Of(Entries);
        _index = _digests.NewIndex(Kind);
        for (uint i = 0; i < Entries; i++)
            _index.TryAdd(_digests[i], i);
    }

    /// <summary>Empties it.</summary>
    [GlobalCleanup]
    public void Drop()
    {
        _index.Dispose();
        _digests.Dispose();
    }

    /// <summary>Searches for what is in.</summary>
    [Benchmark(OperationsPerInvoke = Batch)]
    public uint Hit()
    {
        uint sum = 0;
        for (int i = 0; i < Batch; i++)
        {
            _index.TryFind(_digests[Next()], out uint found);
            sum += found;
        }

        return sum;
    }

    /// <summary>Searches for what is not in: what most pages of most programs cost.</summary>
    [Benchmark(OperationsPerInvoke = Batch)]
    public int Miss()
    {
        int found = 0;
        for (int i = 0; i < Batch; i++)
            found += _index.TryFind(Digests.Missing(Next()), out _) ? 1 : 0;
        return found;
    }

    /// <summary>Takes an entry out and puts it in again: what a page that changes costs.</summary>
    [Benchmark(OperationsPerInvoke = Batch)]
    public long RemoveAndAdd()
    {
        for (int i = 0; i < Batch; i++)
        {
            long entry = Next();
            _index.Remove(_digests[entry], (uint)entry);
            _index.TryAdd(_digests[entry], (uint)entry);
        }

        return _index.Count;
    }

    private long Next() => _at = (_at + 7919) % Entries;
}
