using System.Globalization;
using Spectre.Console;

namespace Samepage.Cli;

/// <summary>Rows under headings: drawn on a terminal, aligned with spaces in a pipe, so that <c>awk</c> can read it.</summary>
/// <param name="headings">Column headings; one that starts with <c>&gt;</c> is aligned to the right.</param>
internal sealed class Table(params string[] headings)
{
    private readonly List<string[]> _rows = [];
    private string[]? _sum;

    /// <summary>A row. What is in its cells is made visible, and stays on its line.</summary>
    public void Add(params string[] cells) => _rows.Add([.. cells.Select(VisibleText.Of)]);

    /// <summary>A last row that stands apart.</summary>
    public void Sum(params string[] cells) => _sum = [.. cells.Select(VisibleText.Of)];

    public void Write()
    {
        if (Console.IsOutputRedirected)
            WritePlain();
        else
            AnsiConsole.Write(Drawn());
    }

    private Spectre.Console.Table Drawn()
    {
        Spectre.Console.Table table = new Spectre.Console.Table().Border(TableBorder.Rounded);
        for (int i = 0; i < headings.Length; i++)
        {
            TableColumn column = new TableColumn($"[bold]{Markup.Escape(Heading(i))}[/]");
            if (IsRight(i))
                column.RightAligned().NoWrap();
            if (_sum is not null)
                column.Footer($"[bold]{Markup.Escape(_sum[i])}[/]");
            table.AddColumn(column);
        }
        foreach (string[] row in _rows)
            table.AddRow([.. row.Select(Markup.Escape)]);
        return table;
    }

    private void WritePlain()
    {
        string[][] all = [[.. headings.Select((_, i) => Heading(i).ToUpper(CultureInfo.InvariantCulture))], .. _rows, .. _sum is null ? Array.Empty<string[]>() : [_sum]];
        int[] widths = [.. headings.Select((_, i) => all.Max(r => r[i].Length))];
        foreach (string[] row in all)
            Output.Line(string.Join("  ", row.Select((cell, i) => IsRight(i) ? cell.PadLeft(widths[i]) : cell.PadRight(widths[i]))).TrimEnd());
    }

    private bool IsRight(int column) => headings[column].StartsWith('>');

    private string Heading(int column) => VisibleText.Of(headings[column].TrimStart('>'));
}
