using System.Diagnostics;
using Samepage.Engine;
using Samepage.Engine.Index;

namespace Samepage.MicroBench;

/// <summary>Fills, searches and empties indexes once, up to sizes at which many rounds would take hours.</summary>
internal static class IndexSweep
{
    private const long Searches = 4 << 20;

    public static void Run(long[] sizes)
    {
        Console.WriteLine("entries (M)  index  bytes/entry    add ns   longest add ms    hit ns   miss ns  remove ns  clear µs");
        foreach (long size in sizes)
        {
            using Digests digests = Digests.Of(size);
            foreach (IndexKind kind in Enum.GetValues<IndexKind>())
                Measure(digests, size, kind);
        }
    }

    private static void Measure(Digests digests, long size, IndexKind kind)
    {
        using IDigestIndex index = digests.NewIndex(kind);
        long longest = 0, start = Stopwatch.GetTimestamp(), last = start;
        for (uint i = 0; i < size; i++)
        {
            index.TryAdd(digests[i], i);
            // Looked at now and then: the clock would cost more than what it measures, and a growth takes far longer than 64 additions.
            if (i % 64 == 0)
            {
                long now = Stopwatch.GetTimestamp();
                (longest, last) = (Math.Max(longest, now - last), now);
            }
        }

        double add = PerOperation(start, size);
        double bytes = (double)index.Bytes / size;
        start = Stopwatch.GetTimestamp();
        long found = 0, entry = 0;
        for (long i = 0; i < Searches; i++)
        {
            entry = (entry + 7_654_321) % size;
            found += index.TryFind(digests[entry], out _) ? 1 : 0;
        }

        double hit = PerOperation(start, Searches);
        start = Stopwatch.GetTimestamp();
        for (long i = 0; i < Searches; i++)
            found += index.TryFind(Digests.Missing(i), out _) ? 1 : 0;
        double miss = PerOperation(start, Searches);
        if (found != Searches)
            throw new InvalidOperationException($"{found} of {Searches} searches found what they should");
        long removals = Math.Min(Searches, size / 4);
        start = Stopwatch.GetTimestamp();
        for (long i = 0; i < removals; i++)
        {
            entry = (entry + 7_654_321) % size;
            index.Remove(digests[entry], (uint)entry);
        }

        double remove = PerOperation(start, removals);
        start = Stopwatch.GetTimestamp();
        index.Clear();
        double clear = PerOperation(start, 1) / 1000;
        Console.WriteLine($"{size >> 20,11}  {kind,-5}  {bytes,11:F2}  {add,8:F0}  {longest * 1000.0 / Stopwatch.Frequency,15:F1}  {hit,8:F0}  {miss,8:F0}  {remove,9:F0}  {clear,8:F0}");
    }

    private static double PerOperation(long start, long operations) => Stopwatch.GetElapsedTime(start).TotalNanoseconds / operations;
}
