using System.Globalization;
using System.Text;

namespace Samepage.Metrics;

/// <summary>Writes metrics as text: Prometheus' exposition format 0.0.4.</summary>
/// <remarks>Ours and small: prometheus-net's dependencies do not restore in the versions that it names, and OpenTelemetry's exporter turns names into its own, where ours must be node_exporter's.</remarks>
internal sealed class MetricsText
{
    /// <summary>The format's media type.</summary>
    public const string MediaType = "text/plain; version=0.0.4; charset=utf-8";

    private readonly StringBuilder _text = new();

    /// <summary>A metric that goes up only.</summary>
    public MetricsText Counter(string name, string help, double value) => Head(name, "counter", help).Sample(name, "", value);

    /// <summary>A metric that goes up and down.</summary>
    public MetricsText Gauge(string name, string help, double value) => Head(name, "gauge", help).Sample(name, "", value);

    /// <summary>A metric with a value for each value of a label.</summary>
    public MetricsText Family(string name, string type, string help, string label, IEnumerable<(string Label, double Value)> values)
    {
        Head(name, type, help);
        foreach ((string value, double figure) in values)
            Sample(name, $"{{{label}=\"{Escape(value, quotes: true)}\"}}", figure);
        return this;
    }

    /// <summary>A histogram: buckets add up, and end with one for everything.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="help">What it is about.</param>
    /// <param name="bounds">Upper bounds, rising.</param>
    /// <param name="counts">One for each bucket, and one behind the last bound.</param>
    /// <param name="sum">Of all values.</param>
    public MetricsText Histogram(string name, string help, double[] bounds, long[] counts, double sum)
    {
        Head(name, "histogram", help);
        long below = 0;
        for (int i = 0; i < counts.Length; i++)
            Sample($"{name}_bucket", $"{{le=\"{(i < bounds.Length ? Number(bounds[i]) : "+Inf")}\"}}", below += counts[i]);
        return Sample($"{name}_sum", "", sum).Sample($"{name}_count", "", below);
    }

    /// <inheritdoc/>
    public override string ToString() => _text.ToString();

    private MetricsText Head(string name, string type, string help)
    {
        _text.Append("# HELP ").Append(name).Append(' ').Append(Escape(help, quotes: false)).Append('\n');
        _text.Append("# TYPE ").Append(name).Append(' ').Append(type).Append('\n');
        return this;
    }

    private MetricsText Sample(string name, string labels, double value)
    {
        _text.Append(name).Append(labels).Append(' ').Append(Number(value)).Append('\n');
        return this;
    }

    private static string Number(double value) => value.ToString("R", CultureInfo.InvariantCulture);

    private static string Escape(string text, bool quotes)
    {
        text = text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);
        return quotes ? text.Replace("\"", "\\\"", StringComparison.Ordinal) : text;
    }
}
