using System.Globalization;
using Samepage.Engine.Control;

namespace Samepage.Linux.ProcFs;

/// <summary>Reads how pressed for memory this machine is: <c>/proc/meminfo</c>, and pressure stall information, <c>/proc/pressure/memory</c>.</summary>
public static class PressureReader
{
    /// <summary>Where the kernel says how long was waited for memory. It is not there without CONFIG_PSI, and where <c>psi=0</c> is, or is the default and <c>psi=1</c> is not given.</summary>
    public const string StallPath = "/proc/pressure/memory";

    /// <summary>The kernel says how long was waited for memory.</summary>
    public static bool SaysStalls => ProcFile.TryRead(StallPath, out string text) && ParseStalls(text) is not null;

    /// <summary>Reads it. What cannot be read shows no pressure.</summary>
    public static MemoryPressure Read()
    {
        double available = ProcFile.TryRead("/proc/meminfo", out string memory) ? ParseAvailable(memory) ?? 100 : 100;
        return new MemoryPressure(available, ProcFile.TryRead(StallPath, out string stalls) ? ParseStalls(stalls) : null);
    }

    /// <summary>The part of all memory that is available, percent; null where it is not said.</summary>
    internal static double? ParseAvailable(string text) =>
        Number(text, "MemTotal:") is > 0 and double total && Number(text, "MemAvailable:") is double available ? 100 * available / total : null;

    /// <summary>The part of the last ten seconds in which somebody waited, percent; null where it is not said.</summary>
    internal static double? ParseStalls(string text) => Number(text, "some avg10=");

    private static double? Number(string text, string name)
    {
        foreach (ReadOnlySpan<char> line in text.AsSpan().EnumerateLines())
        {
            if (!line.StartsWith(name, StringComparison.Ordinal))
                continue;
            ReadOnlySpan<char> value = line[name.Length..].TrimStart();
            int length = value.IndexOf(' ');
            return double.TryParse(length < 0 ? value : value[..length], NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double number) ? number : null;
        }

        return null;
    }
}
