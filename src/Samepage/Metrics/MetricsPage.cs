using System.Globalization;
using System.Reflection;
using Samepage.Api;

namespace Samepage.Metrics;

/// <summary>What <c>/metrics</c> says: node_exporter's names for what the kernel's files say, and ours for the rest.</summary>
internal static class MetricsPage
{
    /// <summary>The files that node_exporter's ksmd collector reads, and how it calls what they say.</summary>
    private static readonly (string File, string Name, bool Counts, double Unit)[] Ksmd =
    [
        ("full_scans", "node_ksmd_full_scans_total", true, 1),
        ("merge_across_nodes", "node_ksmd_merge_across_nodes", false, 1),
        ("pages_shared", "node_ksmd_pages_shared", false, 1),
        ("pages_sharing", "node_ksmd_pages_sharing", false, 1),
        ("pages_to_scan", "node_ksmd_pages_to_scan", false, 1),
        ("pages_unshared", "node_ksmd_pages_unshared", false, 1),
        ("pages_volatile", "node_ksmd_pages_volatile", false, 1),
        ("run", "node_ksmd_run", false, 1),
        ("sleep_millisecs", "node_ksmd_sleep_seconds", false, 0.001),
    ];

    /// <summary>Writes the page. Any thread.</summary>
    /// <param name="status">The figures.</param>
    /// <param name="file">What a control file says.</param>
    /// <param name="holds">Holds so far.</param>
    public static string Write(StatusReport status, Func<string, string?> file, HoldHistogram holds)
    {
        MetricsText text = new();
        foreach ((string name, string metric, bool counts, double unit) in Ksmd)
        {
            if (!double.TryParse(file(name), NumberStyles.Float, CultureInfo.InvariantCulture, out double value))
                continue;
            string help = $"ksmd '{name}' file.";
            _ = counts ? text.Counter(metric, help, value * unit) : text.Gauge(metric, help, value * unit);
        }

        string version = typeof(MetricsPage).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "";
        return text
            .Family("samepage_build_info", "gauge", "The version that runs.", "version", [(version, 1)])
            .Gauge("samepage_profit_bytes", "Bytes saved less all that the daemon and its agents cost; may be negative.", status.ProfitBytes)
            .Gauge("samepage_zero_pages", "Pages left to the kernel's zero page.", status.ZeroPages)
            .Counter("samepage_pages_scanned_total", "Pages read and looked up.", status.PagesScanned)
            .Counter("samepage_scan_seconds_total", "Time that visits to processes have taken.", status.Daemon.ScanSeconds)
            .Counter("samepage_processor_seconds_total", "Processor time of the daemon.", status.Daemon.ProcessorSeconds)
            .Gauge("samepage_resident_bytes", "Resident memory of the daemon.", status.Daemon.RssBytes)
            .Gauge("samepage_records_bytes", "Records and indexes held for tracked pages.", status.Daemon.MetadataBytes)
            .Gauge("samepage_pool_bytes", "Memory that the frame pools hold.", status.Daemon.PoolBytes)
            .Gauge("samepage_overhead_bytes", "What no domain pays for: the daemon's memory besides records, its guardian, frames about to be freed.", status.Daemon.OverheadBytes)
            .Family("samepage_processes", "gauge", "Processes that were asked for or found, by state.", "state",
                ((string[])["arriving", "settling", "merging", "detaching", ProcessReport.Skipped]).Select(state => (state, (double)status.Processes.Count(process => process.State == state))))
            .Domains(status, "samepage_domain_profit_bytes", "gauge", "Bytes saved in a trust domain less the cost of its records and agents.", domain => domain.ProfitBytes)
            .Domains(status, "samepage_domain_saved_bytes", "gauge", "Bytes of pages that share a frame or are the zero page, less the frames.", domain => (domain.PagesSharing + domain.ZeroPages) * (double)status.PageSize)
            .Domains(status, "samepage_domain_frames", "gauge", "Frames in use.", domain => domain.Frames)
            .Domains(status, "samepage_domain_pages_tracked", "gauge", "Pages that have a record.", domain => domain.PagesTracked)
            .Domains(status, "samepage_domain_pages_merged", "gauge", "Pages mapped to a frame.", domain => domain.PagesMerged)
            .Domains(status, "samepage_domain_zero_pages", "gauge", "Pages left to the kernel's zero page.", domain => domain.ZeroPages)
            .Domains(status, "samepage_cow_breaks_total", "counter", "Merged pages that a write or a discard has taken from their frames.", domain => domain.CowBreaks)
            .Family("samepage_incidents_total", "counter", "What was put off, or ended at a bound.", "kind", Incidents.All)
            .Histogram("samepage_hold_seconds", "How long the threads of a program were held for one batch.", HoldHistogram.Bounds, holds.Counts(), holds.Sum)
            .ToString();
    }

    private static MetricsText Domains(this MetricsText text, StatusReport status, string name, string type, string help, Func<DomainReport, double> figure) =>
        text.Family(name, type, help, "domain", status.Domains.Select(domain => (domain.Name, figure(domain))));
}
