using System.Text.Json;
using System.Text.Json.Serialization;

namespace Samepage.Bench;

/// <summary>All that was measured, with the machine it was measured on.</summary>
internal sealed record Results(Machine Machine, WorkReport Work, IReadOnlyList<RunLengthReport> RunLengths)
{
    public static Results From(Machine machine, Options options, IReadOnlyList<Measurement> measurements) => new(
        machine,
        new WorkReport(options.TotalMib, Workload.Processes, options.Rounds),
        [.. options.RunLengths.Select(length => RunLengthReport.From(length, [.. measurements.Where(one => one.RunLength == length)]))]);

    public string ToJson() => JsonSerializer.Serialize(this, ResultsJson.Default.Results);
}

/// <summary>Where it was measured.</summary>
internal sealed record Machine(string Kernel, string Processor, int Cores, long MemoryMib, long MaxMapCount, bool KsmExists)
{
    public static Machine Here() => new(
        File.ReadAllText("/proc/sys/kernel/osrelease").TrimEnd(),
        File.ReadLines("/proc/cpuinfo").FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal))?.Split(':', 2)[1].Trim() ?? "unknown processor",
        Environment.ProcessorCount,
        ProcFile.KibField("/proc/meminfo", "MemTotal:") / 1024,
        long.Parse(File.ReadAllText("/proc/sys/vm/max_map_count"), System.Globalization.CultureInfo.InvariantCulture),
        KernelKsm.Exists);
}

internal sealed record WorkReport(int TotalMib, int Processes, int Rounds);

/// <summary>One run length: the medians of each side, and the medians of the ratios taken round by round.</summary>
/// <remarks>A ratio over 1 is in Samepage's favour. Round by round, because both sides of a round met the same neighbours.</remarks>
internal sealed record RunLengthReport(
    int RunLength, SideReport? Kernel, SideReport? Samepage, double? MergeRatio, double? MergeProcessorRatio, double? IdlePassRatio,
    double? EarlyPassRatio, IReadOnlyList<Measurement> Rounds)
{
    public static RunLengthReport From(int length, IReadOnlyList<Measurement> rounds)
    {
        (Measurement Kernel, Measurement Samepage)[] pairs = [.. rounds.Where(one => one.Side == Measurement.KernelSide)
            .Join(rounds.Where(one => one.Side == Measurement.SamepageSide), one => one.Round, one => one.Round, (kernel, ours) => (kernel, ours))];
        return new RunLengthReport(
            length, SideReport.From(rounds, Measurement.KernelSide), SideReport.From(rounds, Measurement.SamepageSide),
            Median.Of(pairs.Select(pair => (double?)pair.Kernel.MergeSeconds / pair.Samepage.MergeSeconds)),
            Median.Of(pairs.Select(pair => (double?)pair.Kernel.MergeProcessorSeconds / pair.Samepage.MergeProcessorSeconds)),
            Median.Of(pairs.Select(pair => pair.Kernel.IdlePassProcessorMs / pair.Samepage.IdlePassProcessorMs)),
            Median.Of(pairs.Select(pair => pair.Kernel.EarlyPassProcessorMs / pair.Samepage.IdlePassProcessorMs)), rounds);
    }
}

/// <summary>One side's medians for one run length; see <see cref="Measurement"/>.</summary>
internal sealed record SideReport(
    double? MergeSeconds, double? MergeProcessorSeconds, double? SettledSeconds, double? IdlePassProcessorMs, double? EarlyPassProcessorMs,
    double? RecordBytesPerPage, double? DaemonProcessorSeconds, double? AgentProcessorSeconds, double? Holds, double? LongestHoldMicroseconds)
{
    public static SideReport? From(IReadOnlyList<Measurement> rounds, string side)
    {
        Measurement[] own = [.. rounds.Where(one => one.Side == side)];
        return own.Length == 0 ? null : new SideReport(
            Median.Of(own.Select(one => (double?)one.MergeSeconds)), Median.Of(own.Select(one => (double?)one.MergeProcessorSeconds)),
            Median.Of(own.Select(one => one.SettledSeconds)), Median.Of(own.Select(one => one.IdlePassProcessorMs)),
            Median.Of(own.Select(one => one.EarlyPassProcessorMs)), Median.Of(own.Select(one => one.RecordBytesPerPage)),
            Median.Of(own.Select(one => one.DaemonProcessorSeconds)), Median.Of(own.Select(one => one.AgentProcessorSeconds)),
            Median.Of(own.Select(one => (double?)one.Holds)), Median.Of(own.Select(one => one.LongestHoldMicroseconds)));
    }
}

internal static class Median
{
    /// <summary>The middle one of those that are there; null when none is.</summary>
    public static double? Of(IEnumerable<double?> figures)
    {
        double[] sorted = [.. figures.OfType<double>().Order()];
        int middle = sorted.Length / 2;
        return sorted.Length switch
        {
            0 => null,
            _ when sorted.Length % 2 == 1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2,
        };
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true)]
[JsonSerializable(typeof(Results))]
internal sealed partial class ResultsJson : JsonSerializerContext;
