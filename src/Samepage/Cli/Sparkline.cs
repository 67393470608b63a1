namespace Samepage.Cli;

/// <summary>A row of figures as a line of small bars.</summary>
internal static class Sparkline
{
    private const string Bars = "▁▂▃▄▅▆▇█";

    /// <summary>The last figures, the newest to the right: the least of them has the lowest bar, the most the highest; all alike are low.</summary>
    /// <param name="figures">The figures.</param>
    /// <param name="width">Characters at most.</param>
    public static string Of(IReadOnlyList<long> figures, int width)
    {
        long[] shown = [.. figures.Skip(Math.Max(0, figures.Count - width))];
        if (shown.Length == 0)
            return "";
        long least = shown.Min(), most = shown.Max();
        return string.Concat(shown.Select(figure => Bars[most == least ? 0 : (int)((Int128)(figure - least) * (Bars.Length - 1) / (most - least))]));
    }
}
