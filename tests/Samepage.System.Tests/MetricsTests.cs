using System.Globalization;
using System.Text.Json;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary><c>/metrics</c>: what a scraper reads, on the socket and on a loopback port.</summary>
public sealed class MetricsTests
{
    [Fact]
    public async Task MetricsAreTheFiguresOfTheStatusUnderTheNamesThatTheExporterHas()
    {
        string exporter = Needs.Program("prometheus-node-exporter", "prometheus-node-exporter");
        int port = Outside.FreePort(), exporterPort = Outside.FreePort();
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(arguments: ["--metrics-port", $"{port}"]);
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "4", "zeros=50");
        await using var together = new Together(two);
        await daemon.TakeInAndWait(two);
        await daemon.Merged(two[0], 768);
        // Nothing changes any more, so that one moment can be read three times.
        await File.WriteAllTextAsync(Path.Combine(daemon.RunFolder, "control", "ksm", "run"), "0");
        string page = await Outside.Get($"http://127.0.0.1:{port}/metrics");
        Dictionary<string, double> metrics = Parse(page);
        WireStatus status = await daemon.Status();
        Assert.Equal(
            (status.PagesShared, status.PagesSharing, status.PagesUnshared, status.PagesVolatile, status.FullScans, 0, status.ZeroPages, status.PagesScanned),
            (Value("node_ksmd_pages_shared"), Value("node_ksmd_pages_sharing"), Value("node_ksmd_pages_unshared"), Value("node_ksmd_pages_volatile"), Value("node_ksmd_full_scans_total"),
                Value("node_ksmd_run"), Value("samepage_zero_pages"), Value("samepage_pages_scanned_total")));
        Assert.Equal(0.02, metrics["node_ksmd_sleep_seconds"]);
        Assert.Equal(status.Domains.Sum(domain => domain.PagesSharing) * 4096 + status.ZeroPages * 4096, Value($"samepage_domain_saved_bytes{{domain=\"{TrustTests.RootsDomain}\"}}"));
        Assert.Equal(2, Value("samepage_processes{state=\"merging\"}"));
        Assert.True(metrics["samepage_scan_seconds_total"] > 0 && metrics["samepage_processor_seconds_total"] > 0 && metrics["samepage_resident_bytes"] > 1 << 20, page);

        // Each batch of merges was a hold: the histogram has as many as the processes, and the longest is in it.
        using JsonDocument processes = JsonDocument.Parse((await daemon.Cli("status", "--json")).Output);
        JsonElement[] held = [.. processes.RootElement.GetProperty("processes").EnumerateArray()];
        Assert.Equal(held.Sum(process => process.GetProperty("stops").GetInt64()), Value("samepage_hold_seconds_count"));
        Assert.Equal(metrics["samepage_hold_seconds_count"], metrics["samepage_hold_seconds_bucket{le=\"+Inf\"}"]);
        double[] buckets = [.. metrics.Where(metric => metric.Key.StartsWith("samepage_hold_seconds_bucket", StringComparison.Ordinal)).Select(metric => metric.Value)];
        Assert.Equal(buckets.Order(), buckets);
        Assert.True(metrics["samepage_hold_seconds_sum"] >= held.Max(process => process.GetProperty("stall_ns_max").GetInt64()) / 1e9 * 0.999, page);

        // The exporter's names and types, as Debian's exporter has them on the same files.
        await using LiveProgram exporting = LiveProgram.StartIn("/", new Dictionary<string, string> { ["SAMEPAGE_RUN_DIR"] = daemon.RunFolder }, Repository.Program[0], [.. Repository.Program[1..], "control", "--bind", "--",
            exporter, "--collector.disable-defaults", "--collector.ksmd", $"--web.listen-address=127.0.0.1:{exporterPort}"]);
        string exported = await Outside.Get($"http://127.0.0.1:{exporterPort}/metrics", exporting);
        Assert.Equal(Types(exported), Types(page).Where(type => type.Contains("node_ksmd", StringComparison.Ordinal)));
        foreach ((string name, double value) in Parse(exported).Where(metric => metric.Key.StartsWith("node_ksmd", StringComparison.Ordinal)))
            Assert.Equal((name, value), (name, metrics[name]));

        // On its port there is nothing else, and on the socket the same page.
        using HttpClient http = new();
        Assert.Equal(404, (int)(await http.GetAsync($"http://127.0.0.1:{port}/v1/status")).StatusCode);
        using var misled = new HttpRequestMessage(HttpMethod.Get, $"http://127.0.0.1:{port}/metrics");
        misled.Headers.Host = "example.org";
        Assert.Equal(404, (int)(await http.SendAsync(misled)).StatusCode);
        Assert.Equal(Types(page), Types(await daemon.Get("/metrics")));

        Called second = await daemon.Cli("daemon", "--no-rules", "--metrics-port", $"{port}");
        Assert.True(second.ExitCode == 1 && second.Errors.Contains($"127.0.0.1:{port}", StringComparison.Ordinal), $"{second}");
        foreach (string bad in (string[])["0", "65536", "http"])
            Assert.Equal(2, (await daemon.Cli("daemon", "--no-rules", "--metrics-port", bad)).ExitCode);
        await daemon.GiveBack(two);

        long Value(string name) => (long)metrics[name];
    }

    /// <summary>Debian's prometheus has a tool that judges what is scraped.</summary>
    [Fact]
    public async Task ThePageIsWhatPrometheusWants()
    {
        string promtool = Needs.Program("promtool", "prometheus");
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start();
        await using LiveProgram judge = LiveProgram.Start(promtool, "check", "metrics");
        foreach (string line in (await daemon.Get("/metrics")).Split('\n', StringSplitOptions.RemoveEmptyEntries))
            await judge.Tell(line);
        judge.CloseInput();
        Assert.True(await judge.Ends(30) is 0 or 3, judge.Errors); // 3: it would have liked other names, such as for the exporter's
        Assert.DoesNotContain("error", judge.Errors, StringComparison.OrdinalIgnoreCase);
        Assert.All(judge.Errors.Split('\n', StringSplitOptions.RemoveEmptyEntries), line => Assert.StartsWith("node_ksmd", line, StringComparison.Ordinal));
    }

    private static string[] Types(string page) => [.. page.Split('\n').Where(line => line.StartsWith("# TYPE ", StringComparison.Ordinal) && (line.Contains(" node_ksmd", StringComparison.Ordinal) || line.Contains(" samepage_", StringComparison.Ordinal))).Select(line => line[7..]).Order()];

    private static Dictionary<string, double> Parse(string page) => page.Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => line[0] != '#')
        .Select(line => (Line: line, At: line.LastIndexOf(' '))).ToDictionary(part => part.Line[..part.At], part => double.Parse(part.Line.AsSpan(part.At), CultureInfo.InvariantCulture));
}
