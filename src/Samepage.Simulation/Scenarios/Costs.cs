namespace Samepage.Simulation.Scenarios;

/// <summary>A measured cost.</summary>
/// <param name="Name">Of what.</param>
/// <param name="Value">How much.</param>
/// <param name="Unit">In which unit.</param>
/// <param name="Source">Where it was measured.</param>
public sealed record Cost(string Name, double Value, string Unit, string Source);

/// <summary>What things cost on a real machine, as far as it was measured: all that is extrapolated stands on these.</summary>
public static class Costs
{
    private const string LinuxMeasured = "measured on Linux 6.18, x86-64, in a virtual machine (docs/simulation.md)";

    /// <summary>Asking for the pages written, where none were.</summary>
    public static readonly Cost ScanIdle = new("PAGEMAP_SCAN over idle memory", 6.4, "ms per GiB and pass", LinuxMeasured);

    /// <summary>Reading another process's memory.</summary>
    public static readonly Cost Read = new("process_vm_readv", 6.5, "GB per second", LinuxMeasured);

    /// <summary>Digesting it.</summary>
    public static readonly Cost Digest = new("XxHash3 in .NET", 25, "GB per second", LinuxMeasured);

    /// <summary>Writing a new frame to the pool.</summary>
    public static readonly Cost WriteFrame = new("pwrite to the pool", 3, "GB per second", "assumed: half of reading");

    /// <summary>Merging a run of one page.</summary>
    public static readonly Cost Run1 = new("exchange of a run of 1 page", 22, "µs", LinuxMeasured);

    /// <summary>Merging a run of 16 pages.</summary>
    public static readonly Cost Run16 = new("exchange of a run of 16 pages", 34, "µs", LinuxMeasured);

    /// <summary>Merging a run of 64 pages.</summary>
    public static readonly Cost Run64 = new("exchange of a run of 64 pages", 59, "µs", LinuxMeasured);

    /// <summary>Merging a run of 256 pages.</summary>
    public static readonly Cost Run256 = new("exchange of a run of 256 pages", 168, "µs", LinuxMeasured);

    /// <summary>What a write to a watched page costs its program.</summary>
    public static readonly Cost FirstWrite = new("first write to a watched page", 0.9, "µs, paid by the program", LinuxMeasured);

    /// <summary>Records and indexes.</summary>
    public static readonly Cost Metadata = new("records and indexes", 22, "bytes per page, at most", "measured: docs/engine-figures.md");

    /// <summary>The kernel's own scanner, to compare.</summary>
    public static readonly Cost Ksmd = new("the kernel's ksmd", 1100, "ms per GiB and pass", LinuxMeasured);

    /// <summary>All of them.</summary>
    public static IReadOnlyList<Cost> All { get; } = [ScanIdle, Read, Digest, WriteFrame, Run1, Run16, Run64, Run256, FirstWrite, Metadata, Ksmd];

    /// <summary>What it costs to merge a run, between the measured lengths in a straight line; microseconds.</summary>
    public static double OfRun(double pages)
    {
        (double Pages, Cost Cost)[] measured = [(1, Run1), (16, Run16), (64, Run64), (256, Run256)];
        for (int i = 1; i < measured.Length; i++)
        {
            (double from, double to) = (measured[i - 1].Pages, measured[i].Pages);
            if (pages <= to)
                return measured[i - 1].Cost.Value + (Math.Max(pages, from) - from) / (to - from) * (measured[i].Cost.Value - measured[i - 1].Cost.Value);
        }

        return Run256.Value / 256 * pages;
    }
}

/// <summary>What a host of a size would take and save. Extrapolated, not measured.</summary>
/// <param name="Size">The host.</param>
/// <param name="SavedBytes">Bytes saved, less frames.</param>
/// <param name="MetadataBytes">Bytes of records and indexes.</param>
/// <param name="FirstPassSeconds">Processor time until all that is alike is merged for the first time.</param>
/// <param name="IdlePassSeconds">Processor time of a pass in which nothing was written.</param>
/// <param name="KsmdPassSeconds">Processor time of a pass of the kernel's scanner.</param>
/// <param name="Assumptions">What was taken for granted.</param>
public sealed record HostEstimate(
    HostSize Size, double SavedBytes, double MetadataBytes, double FirstPassSeconds, double IdlePassSeconds, double KsmdPassSeconds, IReadOnlyList<string> Assumptions)
{
    /// <summary>Extrapolates what a small number of guests showed to all guests of a host.</summary>
    /// <param name="size">The host.</param>
    /// <param name="mix">What the guests hold.</param>
    /// <param name="merged">Runs merged in the simulation, and the pages in them.</param>
    public static HostEstimate Of(HostSize size, MemoryMix mix, (long Runs, long Pages) merged)
    {
        const double PageSize = 4096, Gib = 1L << 30;
        double pages = size.Bytes / PageSize, common = pages * mix.Common / 100, zero = pages * mix.Zero / 100;
        double frames = common / size.Guests, length = Math.Max(1, (double)merged.Pages / Math.Max(1, merged.Runs));
        double looks = size.Bytes / 1e9 / Costs.Read.Value + size.Bytes / 1e9 / Costs.Digest.Value;
        double exchanges = (common + zero) / length * Costs.OfRun(length) / 1e6;
        return new HostEstimate(size,
            SavedBytes: (common - frames + zero) * PageSize,
            MetadataBytes: pages * Costs.Metadata.Value,
            FirstPassSeconds: looks + frames * PageSize / 1e9 / Costs.WriteFrame.Value + exchanges + size.Bytes / Gib * Costs.ScanIdle.Value / 1000,
            IdlePassSeconds: size.Bytes / Gib * Costs.ScanIdle.Value / 1000,
            KsmdPassSeconds: size.Bytes / Gib * Costs.Ksmd.Value / 1000,
            [
                $"{mix.Common} of 100 pages are the same in every guest, {mix.Zero} are zero, the rest is a guest's own",
                $"runs are as long as in the simulation: {length:F1} pages on average",
                "one scanner thread; costs grow with the number of pages and not faster; memory is not in huge pages",
                "nothing is written while it is merged for the first time; every further pass over written pages costs a read and a digest each",
            ]);
    }
}
