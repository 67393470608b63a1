using System.CommandLine;
using System.Globalization;
using System.Text;
using Samepage.Api;
using Spectre.Console;

namespace Samepage.Cli;

/// <summary><c>samepage pages</c>: a picture of a process's address space.</summary>
internal static class PagesCommand
{
    private const int PlainColumns = 64, LinesOfPicture = 32;

    private const string More = """
        Draws the memory of a process that is taken in, area by area: what of it is merged, left
        to the zero page, unique, or changes too fast. A character stands for some neighbouring
        pages and shows what most of them are; with --range the picture is of a part, and so
        finer. In a pipe characters are letters, as in the JSON.

        Examples:
          samepage pages 4711
          samepage pages 4711 --range 7f2a00000000-7f2a40000000
          samepage pages 4711 --json --cells 65536 | jq -r '.areas[].cells'
        """;

    private static readonly Dictionary<char, (string Color, string Means)> s_legend = new()
    {
        ['M'] = ("green", "merged"),
        ['0'] = ("aqua", "zero page"),
        ['u'] = ("grey", "unique"),
        ['v'] = ("red", "volatile"),
        ['b'] = ("yellow", "written back"),
        ['w'] = ("blue", "waits"),
        ['f'] = ("purple", "shared by fork"),
        ['a'] = ("grey35", "absent"),
        ['o'] = ("maroon", "left alone"),
        ['.'] = ("grey23", "not tracked"),
    };

    public static Command Create()
    {
        Argument<int[]> pid = Arguments.Pid();
        Option<string> range = new("--range") { Description = "Only what lies between two addresses, as /proc/PID/maps has them.", HelpName = "START-END" };
        range.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && !TryParseRange(result.Tokens[0].Value, out _, out _))
                result.AddError($"--range: two hexadecimal addresses are wanted, the first below the second, not '{result.Tokens[0].Value}'");
        });
        Option<int> cells = Arguments.Number("--cells", "N", "How many characters at most, 1 to 65536; one for each area at least.", 0, 1, 65536);
        cells.DefaultValueFactory = _ => LinesOfPicture * Columns;
        Option<bool> json = Arguments.Json();
        DocumentedCommand command = new("pages", "Draw a process's memory: merged, zero, unique, volatile.", More) { pid, range, cells, json };
        command.SetAction((parsed, cancellation) => RunAsync(parsed.GetValue(pid)![0], parsed.GetValue(range), parsed.GetValue(cells), parsed.GetValue(json), cancellation));
        return command;
    }

    private static int Columns => Console.IsOutputRedirected ? PlainColumns : Math.Clamp(AnsiConsole.Profile.Width - 18, 16, 256);

    private static async Task<int> RunAsync(int pid, string? range, int cells, bool json, CancellationToken cancellation)
    {
        using ApiClient api = new(RunDirectory.Current);
        string query = $"?cells={cells}";
        if (range is not null && TryParseRange(range, out ulong start, out ulong end))
            query += string.Create(CultureInfo.InvariantCulture, $"&start={start:x}&end={end:x}");
        AreasReply reply = await api.AreasAsync(pid, query, cancellation);
        if (json)
            Output.Json(reply, ApiJson.Default.AreasReply);
        else
            Draw(reply);
        return ExitCode.Done;
    }

    private static void Draw(AreasReply reply)
    {
        Write(Markup.Escape($"{VisibleText.Of(reply.Name)} ({reply.Pid}), {VisibleText.Of(reply.Domain)}: a character is {Quantity.Count(reply.PagesPerCell)} {(reply.PagesPerCell == 1 ? "page" : "pages")}, "
            + $"{Quantity.Bytes(reply.PagesPerCell * reply.PageSize)}"));
        foreach (AreaReport area in reply.Areas)
        {
            if (area.PagesTracked == 0 || area.Start.Length == 0)
                continue;
            Write(Markup.Escape($"{VisibleText.Of(AreaTitle.Of(area))}: {Quantity.Count(area.PagesTracked)} tracked, {Quantity.Count(area.PagesMerged)} merged, {Quantity.Count(area.ZeroPages)} zero, "
                + $"{Quantity.Count(area.PagesUnshared)} unique, {Quantity.Count(area.PagesVolatile)} volatile, {Quantity.Count(area.PagesBroken)} written back"));
            ulong start = ulong.Parse(area.Start, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
            bool left = false;
            for (int at = 0; at < area.Cells.Length; at += Columns)
            {
                // Whole lines of nothing are left out.
                bool nothing = !area.Cells.AsSpan(at, Math.Min(Columns, area.Cells.Length - at)).ContainsAnyExcept('.');
                if (nothing && !left)
                    Write("             …");
                left = nothing;
                if (nothing)
                    continue;
                ulong address = start + (ulong)(at * reply.PagesPerCell * reply.PageSize);
                Write(string.Create(CultureInfo.InvariantCulture, $"{address,14:x}  {Colored(area.Cells.AsSpan(at, Math.Min(Columns, area.Cells.Length - at)))}"));
            }
        }

        string seen = string.Concat(reply.Areas.Select(area => area.Cells));
        Write("");
        Write(string.Join("  ", s_legend.Where(entry => seen.Contains(entry.Key)).Select(entry => $"{Colored([entry.Key])} {entry.Value.Means}")));
    }

    /// <summary>Runs of the same letter as blocks in its color; letters where colors would not be seen.</summary>
    private static string Colored(ReadOnlySpan<char> cells)
    {
        if (Console.IsOutputRedirected)
            return cells.ToString();
        StringBuilder text = new();
        for (int at = 0; at < cells.Length;)
        {
            int run = cells[at..].IndexOfAnyExcept(cells[at]) is var other and >= 0 ? other : cells.Length - at;
            text.Append('[').Append(s_legend[cells[at]].Color).Append(']').Append(cells[at] == '.' ? '·' : '█', run).Append("[/]");
            at += run;
        }

        return text.ToString();
    }

    private static void Write(string markup)
    {
        if (Console.IsOutputRedirected)
            Output.Line(Markup.Remove(markup));
        else
            AnsiConsole.MarkupLine(markup);
    }

    private static bool TryParseRange(string text, out ulong start, out ulong end)
    {
        string[] parts = text.Split('-');
        (start, end) = (0, 0);
        return parts.Length == 2 && ulong.TryParse(parts[0], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out start)
            && ulong.TryParse(parts[1], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out end) && start < end;
    }
}
