using System.Globalization;
using Samepage.Estimate;
using Samepage.Estimate.Figures;

namespace Samepage.Cli;

/// <summary>An estimate as people read it.</summary>
internal static class EstimateScreen
{
    private const int ProcessesMax = 40, PairsMax = 10, ContentsMax = 10;

    public static void Print(EstimateReport report)
    {
        if (report.Partial)
            Output.Line("PARTIAL: interrupted; what follows is of the pages that were read until then.\n");
        PrintTotals(report);
        PrintClones(report);
        PrintDomains(report);
        PrintProcesses(report);
        PrintKinds(report);
        PrintPairs(report);
        PrintContents(report);
        if (report.Samples.Count > 1)
            PrintSamples(report);
    }

    private static void PrintTotals(EstimateReport report)
    {
        Totals totals = report.Totals;
        PageFigures all = totals.Figures;
        Table table = new("all together", ">pages", ">bytes");
        Add(table, "merging would save", totals.SavedPages);
        if (report.Sample < 1)
            table.Add("  with 95 % certainty", $"{Quantity.Count(totals.SavedPagesLow)} to {Quantity.Count(totals.SavedPagesHigh)}", $"{Bytes(totals.SavedPagesLow)} to {Bytes(totals.SavedPagesHigh)}");
        if (report.Samples.Count > 1)
            Add(table, "  stable over the samples", totals.StablePages);
        table.Add("  less what it costs", "", Quantity.Bytes(totals.ProfitBytes));
        Add(table, "resident", all.Resident);
        Add(table, "  of files and shared memory", all.OfFiles);
        Add(table, "  shared already", all.Shared);
        if (!report.FramesHidden && all.Shared > 0)
            Add(table, "    on frames", totals.FramesShared);
        Add(table, "  zeros", all.Zero);
        Add(table, "  copies within a process", all.Internal);
        Add(table, "  copies within a domain", all.InDomain);
        Add(table, "  copies across domains: what isolation costs", all.AcrossDomains);
        Add(table, "  unique", all.Unique);
        Add(table, "  in huge pages, left whole", all.Huge);
        Add(table, "  in huge pages, split where they merge", all.HugeReached);
        Add(table, "  out of reach: zeros", all.ZeroOutOfReach);
        Add(table, "  out of reach: copies", all.DuplicatesOutOfReach);
        Add(table, "  could not be read", all.Unread);
        Add(table, "swapped out, not read", all.SwappedOut);
        table.Add("cost: records", "", Quantity.Bytes(report.Costs.RecordBytes));
        table.Add("cost: agents", "", Quantity.Bytes(report.Costs.AgentBytes));
        table.Add("cost: the daemon", "", Quantity.Bytes(report.Costs.DaemonBytes));
        table.Add("read", "", $"{Quantity.Bytes(report.Effort.BytesRead)} in {report.Effort.Seconds.ToString("N2", CultureInfo.InvariantCulture)} s");
        table.Write();
        Output.Line();
        if (report.FramesHidden)
            Output.Line("Frame numbers are root's to see: how many frames lie behind the pages that are shared already is not known.\n");
    }

    private static void PrintClones(EstimateReport report)
    {
        if (report.Clones is not { } clones)
            return;
        Table table = new($"{Quantity.Count(clones.Count)} clones of each", ">pages", ">bytes");
        Add(table, "hold together, of what merging reaches", clones.Pages);
        Add(table, "merging would save, at the moment of cloning", clones.SavedPages);
        table.Add("  less what it costs", "", Quantity.Bytes(clones.ProfitBytes));
        if (report.Samples.Count > 1)
        {
            Add(table, "  when each has written what was written over the samples", clones.StablePages);
            table.Add("  less what it costs", "", Quantity.Bytes(clones.StableProfitBytes));
        }

        table.Write();
        Output.Line();
    }

    private static void PrintDomains(EstimateReport report)
    {
        Table table = new("domain", ">processes", ">resident", ">would save", ">zeros", ">within", ">between", ">across domains");
        foreach (DomainEstimate domain in report.Domains)
        {
            PageFigures figures = domain.Figures;
            table.Add(domain.Name, Quantity.Count(domain.Processes), Bytes(figures.Resident), Bytes(domain.SavedPages), Bytes(figures.Zero), Bytes(figures.Internal), Bytes(figures.InDomain), Bytes(figures.AcrossDomains));
        }

        table.Write();
        Output.Line();
    }

    private static void PrintProcesses(EstimateReport report)
    {
        Table table = new(">pid", "name", "domain", ">resident", ">share saved", ">net", ">zeros", ">own copies", ">with others", ">huge", ">mappings", "remark");
        SourceEstimate[] shown = [.. report.Processes.Where(process => process.Figures.Resident > 0).OrderByDescending(process => process.ProfitBytes).Take(ProcessesMax)];
        foreach (SourceEstimate process in shown)
        {
            PageFigures figures = process.Figures;
            table.Add(process.Pid == 0 ? "file" : $"{process.Pid}", process.Name, process.Domain, Bytes(figures.Resident), Bytes((long)figures.SavedShare), Quantity.Bytes(process.ProfitBytes),
                Bytes(figures.Zero), Bytes(figures.Internal), Bytes(figures.WithOthers), Bytes(figures.Huge), $"{process.Mappings}+{process.MappingsNeeded}", RemarkOn(process));
        }

        table.Write();
        if (report.Processes.Count > shown.Length)
            Output.Line($"and {report.Processes.Count - shown.Length} more; --json has all");
        Output.Line();
    }

    private static string RemarkOn(SourceEstimate process) =>
        process.Obstacle.Length > 0 ? process.Obstacle
        : process.BeyondLimitPages > 0 ? $"vm.max_map_count leaves {Quantity.Count(process.BeyondLimitPages)} pages out"
        : process.LeftOut.Count > 0 ? $"left alone: {process.LeftOut[0].Reason} ({Bytes(process.LeftOut[0].Pages)})" : "";

    private static void PrintKinds(EstimateReport report)
    {
        Table table = new("memory", ">resident", ">would save", ">shared already", ">unique", ">huge", ">copies out of reach");
        foreach (KindEstimate kind in report.Kinds)
        {
            PageFigures figures = kind.Figures;
            table.Add(NameOf(kind.Kind), Bytes(figures.Resident), Bytes(figures.Saved), Bytes(figures.Shared), Bytes(figures.Unique), Bytes(figures.Huge), Bytes(figures.ZeroOutOfReach + figures.DuplicatesOutOfReach));
        }

        table.Write();
        Output.Line();
    }

    private static void PrintPairs(EstimateReport report)
    {
        PairEstimate[] pairs = [.. report.Pairs.Where(pair => pair.One != pair.Other).OrderByDescending(pair => pair.Contents).Take(PairsMax)];
        if (pairs.Length == 0)
            return;
        Table table = new("who shares", "with whom", ">contents in common", "");
        foreach (PairEstimate pair in pairs)
        {
            SourceEstimate one = report.Processes[pair.One], other = report.Processes[pair.Other];
            table.Add(Title(one), Title(other), Bytes(pair.Contents), one.Domain == other.Domain ? "" : "across domains: not merged");
        }

        table.Write();
        Output.Line();
    }

    private static string Title(SourceEstimate process) => process.Pid == 0 ? process.Name : $"{process.Pid} {process.Name}";

    private static void PrintContents(EstimateReport report)
    {
        if (report.Contents.Count == 0)
            return;
        Table table = new(">copies", ">processes", "looks like", "begins");
        foreach (ContentEstimate content in report.Contents.Take(ContentsMax))
            table.Add(Quantity.Count(content.Copies), Quantity.Count(content.Processes), content.Guess, content.Preview);
        table.Write();
    }

    private static void PrintSamples(EstimateReport report)
    {
        Output.Line();
        Table table = new(">sample", ">after", ">would save", ">of that unchanged since the first");
        foreach ((int index, SamplePoint point) in report.Samples.Index())
            table.Add($"{index + 1}", $"{point.Seconds.ToString("N1", CultureInfo.InvariantCulture)} s", Bytes(point.SavedPages), Bytes(point.StablePages));
        table.Write();
    }

    private static void Add(Table table, string name, long pages) => table.Add(name, Quantity.Count(pages), Bytes(pages));

    private static string Bytes(long pages) => Quantity.Bytes(pages * 4096);

    private static string NameOf(MemoryKind kind) => kind switch
    {
        MemoryKind.Heap => "heap",
        MemoryKind.Anonymous => "anonymous",
        MemoryKind.Named => "anonymous, named",
        MemoryKind.ThreadStack => "thread stacks",
        MemoryKind.MainStack => "main stacks",
        MemoryKind.FileData => "private file data",
        MemoryKind.Image => "images",
        _ => throw new ArgumentOutOfRangeException(nameof(kind), kind, "no such kind"),
    };
}
