using System.Diagnostics.Metrics;

namespace Samepage.Metrics;

/// <summary>How often holds took how long, since it was made. Any thread may add and read.</summary>
internal sealed class HoldHistogram : IDisposable
{
    /// <summary>The upper bounds of the buckets, seconds; one more has none.</summary>
    public static readonly double[] Bounds = [0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1];

    private readonly long[] _counts = new long[Bounds.Length + 1];
    private readonly MeterListener _listener = new();
    private long _nanoseconds;

    public HoldHistogram()
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name == HoldMeter.Name && instrument.Name == HoldMeter.InstrumentName)
                listener.EnableMeasurementEvents(instrument);
        };
        _listener.SetMeasurementEventCallback<double>((_, seconds, _, _) => Add(seconds));
        _listener.Start();
        // The instrument may not have been made yet, and then is published now.
        _ = HoldMeter.Seconds;
    }

    /// <summary>All of them together, seconds.</summary>
    public double Sum => Interlocked.Read(ref _nanoseconds) / 1e9;

    /// <summary>How many there were in each bucket.</summary>
    public long[] Counts() => [.. Enumerable.Range(0, _counts.Length).Select(i => Interlocked.Read(ref _counts[i]))];

    /// <summary>Counts one: a bound belongs to the bucket below it.</summary>
    public void Add(double seconds)
    {
        int bucket = Array.BinarySearch(Bounds, seconds);
        Interlocked.Increment(ref _counts[bucket < 0 ? ~bucket : bucket]);
        Interlocked.Add(ref _nanoseconds, (long)(seconds * 1e9));
    }

    /// <inheritdoc/>
    public void Dispose() => _listener.Dispose();
}
