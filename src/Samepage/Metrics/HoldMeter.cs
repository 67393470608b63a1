using System.Diagnostics.Metrics;

namespace Samepage.Metrics;

/// <summary>The instrument that each hold of a program's threads is recorded with.</summary>
internal static class HoldMeter
{
    /// <summary>The meter's name.</summary>
    public const string Name = "Samepage";

    /// <summary>The instrument's name.</summary>
    public const string InstrumentName = "samepage.hold.duration";

    private static readonly Meter s_meter = new(Name);
    private static long s_nanoseconds;

    /// <summary>How long the threads of a program were held for one batch, seconds.</summary>
    public static readonly Histogram<double> Seconds = s_meter.CreateHistogram<double>(InstrumentName, "s", "How long the threads of a program were held for one batch.");

    /// <summary>All holds together: the time in which agents worked. Any thread.</summary>
    public static TimeSpan Total => TimeSpan.FromTicks(Interlocked.Read(ref s_nanoseconds) / TimeSpan.NanosecondsPerTick);

    /// <summary>Notes how long the threads of a program were held for one batch. Any thread.</summary>
    public static void Record(long nanoseconds)
    {
        Seconds.Record(nanoseconds / 1e9);
        Interlocked.Add(ref s_nanoseconds, nanoseconds);
    }
}
