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

    /// <summary>How long the threads of a program were held for one batch, seconds. Any thread records.</summary>
    public static readonly Histogram<double> Seconds = s_meter.CreateHistogram<double>(InstrumentName, "s", "How long the threads of a program were held for one batch.");
}
