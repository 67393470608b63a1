using System.Globalization;

namespace Samepage.Cli;

/// <summary>Figures as people read them.</summary>
internal static class Quantity
{
    private static readonly string[] s_units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

    /// <summary>A whole number with thousands apart: <c>98,304</c>.</summary>
    public static string Count(long count) => count.ToString("N0", CultureInfo.InvariantCulture);

    /// <summary>An amount of memory in the largest unit that leaves a whole part: <c>384.0 MiB</c>; may be negative.</summary>
    public static string Bytes(long bytes)
    {
        double amount = bytes;
        int unit = 0;
        while (Math.Abs(amount) >= 1024 && unit < s_units.Length - 1)
        {
            amount /= 1024;
            unit++;
        }
        return unit == 0 ? $"{bytes} bytes" : string.Create(CultureInfo.InvariantCulture, $"{amount:N1} {s_units[unit]}");
    }

    /// <summary>A time in the unit that suits it: <c>0.2 ms</c>.</summary>
    public static string Nanoseconds(long nanoseconds) => string.Create(CultureInfo.InvariantCulture, $"{nanoseconds / 1e6:N1} ms");
}
