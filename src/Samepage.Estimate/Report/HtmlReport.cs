using System.Text.Json;

namespace Samepage.Estimate.Report;

/// <summary>An estimate as one self-contained page: no network, no other file.</summary>
public static class HtmlReport
{
    private const string Place = "/*REPORT*/";

    /// <summary>Writes the page.</summary>
    /// <param name="report">What it shows.</param>
    /// <param name="output">Where it goes.</param>
    public static void Write(EstimateReport report, TextWriter output)
    {
        using Stream resource = typeof(HtmlReport).Assembly.GetManifestResourceStream("report.html")!;
        using StreamReader reader = new(resource);
        string page = reader.ReadToEnd();
        int place = page.IndexOf(Place, StringComparison.Ordinal);
        output.Write(page.AsSpan(0, place));
        // The serializer escapes what could end the script, whatever a process is called.
        output.Write(JsonSerializer.Serialize(report, EstimateJson.Default.EstimateReport));
        output.Write(page.AsSpan(place + Place.Length));
    }
}
