using Samepage.Api;

namespace Samepage.Web;

/// <summary>What was saved at one moment.</summary>
/// <param name="At">When: seconds of a clock that never goes back.</param>
/// <param name="ProfitBytes">Net of all costs.</param>
/// <param name="SharedBytes">Pages that share a frame, less the frames.</param>
/// <param name="ZeroBytes">Pages left to the zero page.</param>
internal readonly record struct Savings(long At, long ProfitBytes, long SharedBytes, long ZeroBytes);

/// <summary>The savings of the last hour at every few seconds, and of the last day by the minute. Any thread may note and read.</summary>
/// <remarks>
/// It is told the figures when the scanner publishes them, which it does once a second at least, so nothing wakes up for it. Two rings of 32 bytes a
/// sample: 70 KB, however long the daemon lives.
/// </remarks>
internal sealed class SavingsHistory
{
    /// <summary>Seconds between two samples of the last hour.</summary>
    public const int FineSeconds = 5;

    /// <summary>Seconds between two samples of the time before.</summary>
    public const int CoarseSeconds = 60;

    private const int FineMax = 3600 / FineSeconds, CoarseMax = 24 * 3600 / CoarseSeconds;
    private readonly Lock _lock = new();
    private readonly Queue<Savings> _fine = new(FineMax), _coarse = new(CoarseMax);
    private double _nextFine, _nextCoarse;

    /// <summary>Takes a sample if one is due.</summary>
    /// <param name="now">The time on a clock that never goes back.</param>
    /// <param name="status">The figures.</param>
    public void Note(TimeSpan now, StatusReport status)
    {
        double seconds = now.TotalSeconds;
        if (seconds < _nextFine)
            return;
        Savings sample = new((long)seconds, status.ProfitBytes, status.PagesSharing * status.PageSize, status.ZeroPages * status.PageSize);
        lock (_lock)
        {
            _nextFine = seconds + FineSeconds;
            Add(_fine, FineMax, sample);
            if (seconds < _nextCoarse)
                return;
            _nextCoarse = seconds + CoarseSeconds;
            Add(_coarse, CoarseMax, sample);
        }
    }

    /// <summary>The samples after a moment, the oldest first: by the minute as far as the finer ones do not reach.</summary>
    public Savings[] Since(long at)
    {
        lock (_lock)
        {
            long finest = _fine.TryPeek(out Savings first) ? first.At : 0;
            return [.. _coarse.Where(sample => sample.At < finest && sample.At > at), .. _fine.Where(sample => sample.At > at)];
        }
    }

    private static void Add(Queue<Savings> ring, int most, Savings sample)
    {
        if (ring.Count == most)
            ring.Dequeue();
        ring.Enqueue(sample);
    }
}
