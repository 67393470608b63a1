using Spectre.Console;

namespace Samepage.Bench;

/// <summary>Prints for people: what will be measured, each measurement as it comes, and the tables.</summary>
internal static class Show
{
    /// <summary>Without a terminal there is no width to keep to, and a table broken into 80 columns can be neither read nor searched.</summary>
    private const int PlainWidth = 140;

    public static void Prepare()
    {
        if (Console.IsOutputRedirected)
            AnsiConsole.Profile.Width = PlainWidth;
    }

    public static void Plan(Machine machine, Options options)
    {
        Workload most = new(options.TotalMib, options.RunLengths.Min());
        Line($"Linux {machine.Kernel}, {machine.Cores} × {machine.Processor}, {machine.MemoryMib:N0} MiB");
        Line($"{options.TotalMib:N0} MiB in {Workload.Processes} processes of {options.TotalMib / Workload.Processes} MiB: half of the pages have a twin, process i's in process i+4; "
            + $"a quarter ({most.PagesToSave * Workload.PageBytes >> 20} MiB) can be saved");
        Line($"{Workload.Processes} processes, so that each stays under vm.max_map_count ({machine.MaxMapCount:N0}): with runs of {most.RunLength} it needs up to "
            + $"{most.MappingsPerProcess:N0} mappings");
        if (most.MappingsPerProcess > machine.MaxMapCount)
            Line("  that is too many here: Samepage will not save everything; raise it with 'sysctl vm.max_map_count=…'");
        if (options.Kernel)
            Line("the kernel's KSM: pages_to_scan 100000, sleep_millisecs 0, smart_scan 1. Samepage: a daemon of its own each time, "
                + (options.Cold ? "which has merged nothing before" : "which has merged 32 MiB before, so that its code is compiled"));
        if (options.Samepage && options.Kernel)
            Line("processor time: ksmd's; for Samepage the daemon's and that of its threads in the targets");
        Line("");
    }

    public static void One(Options options, Measurement one)
    {
        string idle = one.IdlePassProcessorMs is { } ms ? $"{ms:N1} ms a pass over {one.IdlePasses} idle passes" : "no idle pass seen";
        string holds = one.Holds is { } count ? $"; {count:N0} holds, the longest {one.LongestHoldMicroseconds:N0} µs" : "";
        if (one.IdleHolds > 0)
            holds += $"; NOT AT REST: {one.IdleHolds:N0} holds while nothing changed";
        Line($"round {one.Round}/{options.Rounds}, runs of {one.RunLength,3}, {one.Side,-8}: merged in {one.MergeSeconds:F2} s, {one.MergeProcessorSeconds:F2} s processor; {idle}{holds}");
    }

    public static void Tables(Results results)
    {
        Line("");
        Table merging = New("Merging everything", "runs of", "KSM s", "cpu s", "Samepage s", "cpu s", "of it agents", "faster", "less cpu", "holds", "longest µs");
        foreach (RunLengthReport one in results.RunLengths)
            Row(merging, $"{one.RunLength}", $"{one.Kernel?.MergeSeconds:F2}", $"{one.Kernel?.MergeProcessorSeconds:F2}", $"{one.Samepage?.MergeSeconds:F2}",
                $"{one.Samepage?.MergeProcessorSeconds:F2}", $"{one.Samepage?.AgentProcessorSeconds:F2}", Ratio(one.MergeRatio), Ratio(one.MergeProcessorRatio),
                $"{one.Samepage?.Holds:N0}", $"{one.Samepage?.LongestHoldMicroseconds:N0}");
        AnsiConsole.Write(merging);

        Table idle = New("Afterwards, nothing changing", "runs of", "KSM's first passes, cpu ms", "KSM settled", "Samepage", "less than first", "less than settled", "KSM bytes/page", "Samepage");
        foreach (RunLengthReport one in results.RunLengths)
            Row(idle, $"{one.RunLength}", $"{one.Kernel?.EarlyPassProcessorMs:N1}", $"{one.Kernel?.IdlePassProcessorMs:N1}", $"{one.Samepage?.IdlePassProcessorMs:N2}",
                Ratio(one.EarlyPassRatio), Ratio(one.IdlePassRatio), $"{one.Kernel?.RecordBytesPerPage:F1}", $"{one.Samepage?.RecordBytesPerPage:F1}");
        AnsiConsole.Write(idle);

        Line($"Medians of {results.Work.Rounds} round(s), ratios taken round by round. KSM's first passes: the mean of 8 after merging. KSM settled: the mean over");
        Line("smart_scan's whole cycle of 9, in 8 of which it looks at no page that it could not merge; Samepage learns of every changed page in each pass.");
    }

    public static void Line(string text) => Console.WriteLine(text);

    private static Table New(string title, params ReadOnlySpan<string> columns)
    {
        Table table = new Table { Title = new TableTitle(title) }.Border(TableBorder.Rounded);
        foreach (string column in columns)
            table.AddColumn(new TableColumn(column).RightAligned());
        return table;
    }

    private static void Row(Table table, params ReadOnlySpan<string> cells)
    {
        List<string> shown = [];
        foreach (string cell in cells)
            shown.Add(cell.Length == 0 ? "n/a" : cell);
        table.AddRow([.. shown]);
    }

    private static string Ratio(double? ratio) => ratio is { } value ? value < 10 ? $"{value:F2}×" : $"{value:N0}×" : "";
}
