using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Samepage.Api;
using Samepage.Linux;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace Samepage.Cli;

/// <summary><c>samepage top</c>: the status, live.</summary>
internal static class TopCommand
{
    private const int RowsAround = 10, KeyMilliseconds = 50;

    private const string More = """
        Shows what is saved and how each process fares, again and again, with a line of the
        savings over time. Keys: s sorts by savings, m by pages merged, t by pages tracked,
        b by copy-on-write breaks, h by the longest hold, p by process id, n by name; q ends it.

        In a pipe it prints a table for each look, and with --json a status on one line for
        each; --count says how many looks.

        Examples:
          samepage top
          samepage top --sort breaks --interval 5
          samepage top --json --count 60 | jq .profit_bytes
        """;

    private static readonly JsonSerializerOptions s_onOneLine = new(ApiJson.Default.Options) { WriteIndented = false, TypeInfoResolver = ApiJson.Default };

    private static readonly Dictionary<char, TopOrder> s_keys = new()
    {
        ['s'] = TopOrder.Saved,
        ['m'] = TopOrder.Merged,
        ['t'] = TopOrder.Tracked,
        ['b'] = TopOrder.Breaks,
        ['h'] = TopOrder.Hold,
        ['p'] = TopOrder.Pid,
        ['n'] = TopOrder.Name,
    };

    public static Command Create()
    {
        Option<TopOrder> sort = new("--sort") { Description = "What to sort by.", HelpName = "saved|merged|tracked|breaks|hold|pid|name" };
        sort.Validators.Add(result =>
        {
            // An enumeration is parsed from numbers as well.
            if (result.Tokens.Count == 1 && !Enum.GetNames<TopOrder>().Contains(result.Tokens[0].Value, StringComparer.OrdinalIgnoreCase))
                result.AddError($"--sort: one of {sort.HelpName} is wanted, not '{result.Tokens[0].Value}'");
        });
        Option<double> interval = new("--interval") { Description = "Seconds between two looks, 0.1 to 3600.", HelpName = "SECONDS", DefaultValueFactory = _ => 1 };
        interval.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && !(double.TryParse(result.Tokens[0].Value, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double seconds) && seconds is >= 0.1 and <= 3600))
                result.AddError($"--interval: 0.1 to 3600 seconds are wanted, not '{result.Tokens[0].Value}'");
        });
        Option<int> count = Arguments.Number("--count", "N", "End after so many looks.", int.MaxValue, 1, int.MaxValue);
        Option<bool> json = Arguments.Json();
        DocumentedCommand command = new("top", "Show what is saved, live.", More) { sort, interval, count, json };
        command.SetAction((parsed, cancellation) => RunAsync(new Wanted(parsed.GetValue(sort), parsed.GetValue(interval), parsed.GetValue(count), parsed.GetValue(json)), cancellation));
        return command;
    }

    private static async Task<int> RunAsync(Wanted wanted, CancellationToken cancellation)
    {
        using ApiClient api = new(RunDirectory.Current);
        TopView view = new();
        try
        {
            if (wanted.Json || Console.IsOutputRedirected)
            {
                await WatchAsync(api, view, wanted, _ => Print(view, wanted), static () => null, cancellation);
                return ExitCode.Done;
            }

            // What goes wrong is said on the screen that the user comes back to.
            await api.StatusAsync(cancellation);
            AnsiConsole.Write(new ControlCode("\e[?1049h\e[H"));
            try
            {
                await AnsiConsole.Live(new Text("")).StartAsync(context => WatchAsync(api, view, wanted, order => context.UpdateTarget(Draw(view, order)), Key, cancellation));
            }
            finally
            {
                AnsiConsole.Write(new ControlCode("\e[?1049l"));
            }
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            // Ctrl-C is the way to end it.
        }

        return ExitCode.Done;
    }

    /// <summary>Looks, and shows what it sees, until it is enough. A key shows it anew at once.</summary>
    private static async Task WatchAsync(ApiClient api, TopView view, Wanted wanted, Action<TopOrder> show, Func<char?> key, CancellationToken cancellation)
    {
        TopOrder order = wanted.Order;
        long looked = 0;
        for (int looks = 1; looks <= wanted.Count; looks++)
        {
            StatusReport status = await api.StatusAsync(cancellation);
            view.Look(status, looked == 0 ? 0 : Stopwatch.GetElapsedTime(looked).TotalSeconds);
            looked = Stopwatch.GetTimestamp();
            show(order);
            while (looks < wanted.Count && Stopwatch.GetElapsedTime(looked).TotalSeconds < wanted.Interval)
            {
                await Task.Delay(TimeSpan.FromSeconds(Math.Min(KeyMilliseconds / 1000.0, wanted.Interval)), cancellation);
                if (OutputStream.Results.IsAbandoned)
                    throw new SyscallException("write", "standard output", Errno.EPIPE);
                char? pressed = key();
                if (pressed is 'q' or 'Q')
                    return;
                if (pressed is { } letter && s_keys.TryGetValue(letter, out TopOrder other))
                    show(order = other);
            }
        }
    }

    private static char? Key() => !Console.IsInputRedirected && Console.KeyAvailable ? Console.ReadKey(intercept: true).KeyChar : null;

    private static void Print(TopView view, Wanted wanted)
    {
        if (wanted.Json)
        {
            Output.Line(JsonSerializer.Serialize(view.Status!, (System.Text.Json.Serialization.Metadata.JsonTypeInfo<StatusReport>)s_onOneLine.GetTypeInfo(typeof(StatusReport))));
            return;
        }

        Output.Line(Summary(view));
        Table table = new(">pid", "name", "state", ">tracked", ">merged", ">zero", ">unique", ">volatile", ">breaks/s", ">saved", ">longest hold");
        foreach (TopRow row in view.Rows(wanted.Order))
            table.Add(Cells(row));
        table.Write();
        Output.Line();
    }

    private static Rows Draw(TopView view, TopOrder order)
    {
        Spectre.Console.Table table = new Spectre.Console.Table().Border(TableBorder.Simple).Expand();
        foreach ((string title, TopOrder? by, bool right) in Columns)
        {
            TableColumn column = new(by == order ? $"[bold underline]{title}[/]" : title);
            table.AddColumn(right ? column.RightAligned().NoWrap() : column.NoWrap());
        }

        TopRow[] rows = view.Rows(order);
        int room = Math.Max(1, AnsiConsole.Profile.Height - RowsAround);
        foreach (TopRow row in rows.Take(room))
            table.AddRow([.. Cells(row).Select(cell => Markup.Escape(VisibleText.Of(cell)))]);
        List<IRenderable> lines =
        [
            new Text(Summary(view)),
            new Markup($"[green]{Sparkline.Of(view.Savings, AnsiConsole.Profile.Width - 1)}[/]"),
            table,
        ];
        if (rows.Length > room)
            lines.Add(new Text($"and {rows.Length - room} more"));
        lines.Add(new Markup("[grey]sort: s saved, m merged, t tracked, b breaks, h longest hold, p pid, n name; q ends[/]"));
        return new Rows(lines);
    }

    private static readonly (string Title, TopOrder? By, bool Right)[] Columns =
    [
        ("pid", TopOrder.Pid, true), ("name", TopOrder.Name, false), ("state", null, false), ("tracked", TopOrder.Tracked, true), ("merged", TopOrder.Merged, true), ("zero", null, true),
        ("unique", null, true), ("volatile", null, true), ("breaks/s", TopOrder.Breaks, true), ("saved", TopOrder.Saved, true), ("longest hold", TopOrder.Hold, true),
    ];

    private static string[] Cells(TopRow row)
    {
        ProcessReport p = row.Process;
        return
        [
            $"{p.Pid}", p.Name, p.Settled && p.State != ProcessReport.Skipped ? "settled" : p.State, Quantity.Count(p.PagesTracked), Quantity.Count(p.PagesMerged), Quantity.Count(p.ZeroPages),
            Quantity.Count(p.PagesUnshared), Quantity.Count(p.PagesVolatile), Quantity.Count((long)Math.Round(row.BreaksPerSecond)), Quantity.Bytes(p.ProfitBytes), Quantity.Nanoseconds(p.StallNsMax),
        ];
    }

    private static string Summary(TopView view)
    {
        StatusReport status = view.Status!;
        return string.Create(CultureInfo.InvariantCulture,
            $"saved {Quantity.Bytes(status.ProfitBytes)}: {Quantity.Count(status.PagesSharing)} pages by {Quantity.Count(status.PagesShared)} frames, {Quantity.Count(status.ZeroPages)} zero; "
            + $"{status.Processes.Length} processes; {Quantity.Count((long)view.PagesPerSecond)} pages scanned/s, {view.ProcessorShare * 100:N1} % of a processor");
    }

    /// <summary>What was asked for.</summary>
    /// <param name="Order">The order to begin with.</param>
    /// <param name="Interval">Seconds between two looks.</param>
    /// <param name="Count">Looks.</param>
    /// <param name="Json">In JSON.</param>
    private sealed record Wanted(TopOrder Order, double Interval, int Count, bool Json);
}
