using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>The dashboard's questions, put to Debian's Prometheus, which has scraped a daemon that merges: each is answered, with what the legend names.</summary>
public sealed partial class DashboardTests
{
    [Fact]
    public async Task PrometheusAnswersEachQuestionOfTheDashboard()
    {
        string program = Needs.Program("prometheus", "prometheus");
        int metrics = Outside.FreePort(), port = Outside.FreePort();
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(arguments: ["--metrics-port", $"{metrics}"]);
        string folder = Directory.CreateTempSubdirectory("samepage-prometheus-").FullName, config = Path.Combine(folder, "prometheus.yml");
        await File.WriteAllTextAsync(config, $$"""
            global: { scrape_interval: 250ms }
            scrape_configs: [{ job_name: samepage, static_configs: [{ targets: ["127.0.0.1:{{metrics}}"] }] }]
            """);
        await using LiveProgram prometheus = LiveProgram.Start(program, $"--config.file={config}", $"--storage.tsdb.path={folder}/data", $"--web.listen-address=127.0.0.1:{port}", "--log.level=error");
        await Outside.Get($"http://127.0.0.1:{port}/-/ready", prometheus);
        using HttpClient http = new() { BaseAddress = new Uri($"http://127.0.0.1:{port}") };

        // What is a rate needs a before and an after.
        await Until.True(async () => (await Ask("samepage_hold_seconds_count")) is [{ Value: 0 }], 20, "the daemon's first figures");
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "4", "zeros=50");
        await using var together = new Together(two);
        await daemon.TakeInAndWait(two);
        await two[0].Does("poke");
        WireStatus status = await daemon.Status();
        await Until.True(async () => await Ask("rate(samepage_cow_breaks_total[5m])") is [{ Value: > 0 }], 20, "a rate of breaks");

        using JsonDocument dashboard = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(Repository.Root, "deploy", "grafana-dashboard.json")));
        JsonElement variable = dashboard.RootElement.GetProperty("templating").GetProperty("list").EnumerateArray().Single(one => one.GetProperty("type").GetString() == "query");
        Match labels = LabelValues().Match(variable.GetProperty("query").GetString()!);
        JsonElement values = await Data($"/api/v1/label/{labels.Groups["label"]}/values?match[]={labels.Groups["metric"]}");
        Assert.Equal([$"127.0.0.1:{metrics}"], values.EnumerateArray().Select(value => value.GetString()));
        JsonElement[] panels = [.. dashboard.RootElement.GetProperty("panels").EnumerateArray()];
        Assert.Equal(panels.Length, panels.Select(panel => panel.GetProperty("id").GetInt32()).Distinct().Count());
        int asked = 0;
        foreach (JsonElement panel in panels)
        {
            foreach (JsonElement target in panel.GetProperty("targets").EnumerateArray())
            {
                // As Grafana fills it in with all instances chosen, and with one.
                foreach (string instance in (string[])[variable.GetProperty("allValue").GetString()!, $"127.0.0.1:{metrics}"])
                {
                    string expression = target.GetProperty("expr").GetString()!.Replace("$instance", instance, StringComparison.Ordinal);
                    Sample[] answer = await Ask(expression);
                    Assert.True(answer.Length > 0 && answer.All(sample => double.IsFinite(sample.Value)), $"{panel.GetProperty("title")}: {expression} is answered with {string.Join(", ", answer)}");
                    foreach (Match named in LegendLabel().Matches(target.GetProperty("legendFormat").GetString()!))
                        Assert.All(answer, sample => Assert.Contains(named.Groups[1].Value, sample.Labels));
                    asked++;
                }
            }
        }

        Assert.True(asked > 30, $"{asked} questions");
        Assert.Equal(status.PagesShared, (await Ask("node_ksmd_pages_shared")).Single().Value);
        await daemon.GiveBack(two);
        prometheus.Kill();
        await prometheus.Ends(20);
        Directory.Delete(folder, recursive: true);

        async Task<Sample[]> Ask(string expression) =>
            [.. (await Data($"/api/v1/query?query={Uri.EscapeDataString(expression)}")).GetProperty("result").EnumerateArray().Select(series => new Sample(
                double.Parse(series.GetProperty("value")[1].GetString()!, CultureInfo.InvariantCulture), [.. series.GetProperty("metric").EnumerateObject().Select(label => label.Name)]))];

        async Task<JsonElement> Data(string question)
        {
            using HttpResponseMessage reply = await http.GetAsync(new Uri(question, UriKind.Relative));
            string text = await reply.Content.ReadAsStringAsync();
            Assert.True(reply.IsSuccessStatusCode, $"{question}: {text}");
            return JsonDocument.Parse(text).RootElement.GetProperty("data");
        }
    }

    private sealed record Sample(double Value, string[] Labels);

    [GeneratedRegex(@"^label_values\((?<metric>\w+), (?<label>\w+)\)$")]
    private static partial Regex LabelValues();

    [GeneratedRegex(@"\{\{(\w+)\}\}")]
    private static partial Regex LegendLabel();
}
