using System.CommandLine;
using System.Globalization;
using Samepage.Api;

namespace Samepage.Cli;

/// <summary><c>samepage status</c>: what is shared at the moment, and what it costs.</summary>
internal static class StatusCommand
{
    private const double OldAfterSeconds = 3;
    private const string More = """
        Shows what is shared at the moment, what it saves, what it costs, and how each process
        fares; with process ids, how these fare. 'saved' is net: bytes saved less all that the
        daemon and its agents cost, so it may be negative while little is merged. With --areas
        it says so for each area of the processes: where the memory is that is merged, zero,
        unique, or written back (merged once, and written since).

        Examples:
          samepage status
          samepage status 4711 --areas
          samepage status --json | jq '.processes[] | select(.state == "skipped")'
        """;

    public static Command Create()
    {
        Argument<int[]> pids = Arguments.Pids(ArgumentArity.ZeroOrMore);
        Option<bool> areas = new("--areas") { Description = "Tell area by area; wants process ids." };
        Option<bool> json = Arguments.Json();
        DocumentedCommand command = new("status", "Show what is shared, what it saves and what it costs.", More) { pids, areas, json };
        command.Validators.Add(result =>
        {
            if (result.GetValue(areas) && result.GetResult(pids) is null or { Tokens.Count: 0 })
                result.AddError("--areas wants process ids");
        });
        command.SetAction((parsed, cancellation) => parsed.GetValue(areas)
            ? AreasAsync(parsed.GetValue(pids)!, parsed.GetValue(json), cancellation)
            : RunAsync(parsed.GetValue(pids) ?? [], parsed.GetValue(json), cancellation));
        return command;
    }

    private static async Task<int> RunAsync(int[] pids, bool json, CancellationToken cancellation)
    {
        using ApiClient api = new(RunDirectory.Current);
        StatusReport status = await api.StatusAsync(cancellation);
        int[] unknown = [.. pids.Where(pid => status.Processes.All(process => process.Pid != pid))];
        if (pids.Length > 0)
            status = status with { Processes = [.. status.Processes.Where(process => pids.Contains(process.Pid))] };
        if (json)
            Output.Json(status, ApiJson.Default.StatusReport);
        else if (pids.Length == 0)
            Print(status);
        else if (status.Processes.Length > 0)
            PrintProcesses(status);
        foreach (int pid in unknown)
            Output.Complain($"process {pid} is not taken in; take it in with: samepage attach {pid}");
        return unknown.Length > 0 ? ExitCode.Failed : ExitCode.Done;
    }

    private static async Task<int> AreasAsync(int[] pids, bool json, CancellationToken cancellation)
    {
        using ApiClient api = new(RunDirectory.Current);
        List<AreasReply> processes = [];
        foreach (int pid in pids)
            processes.Add(await api.AreasAsync(pid, "", cancellation));
        if (json)
        {
            Output.Json(new AreasReport([.. processes]), CliJson.Default.AreasReport);
            return ExitCode.Done;
        }

        foreach (AreasReply process in processes)
        {
            Output.Line($"{process.Name} ({process.Pid}), {process.Domain}");
            Table table = new("area", ">tracked", ">merged", ">zero", ">unique", ">volatile", ">written back", ">other", ">saved");
            foreach (AreaReport area in process.Areas.Where(area => area.PagesTracked > 0))
                table.Add(Row(AreaTitle.Of(area), area));
            if (process.AgentBytes > 0)
                table.Add("its agent", "", "", "", "", "", "", "", Quantity.Bytes(-process.AgentBytes));
            table.Sum(Row("sum", process.Total));
            table.Write();
        }

        return ExitCode.Done;
    }

    private static string[] Row(string title, AreaReport area) =>
    [
        title, Quantity.Count(area.PagesTracked), Quantity.Count(area.PagesMerged), Quantity.Count(area.ZeroPages), Quantity.Count(area.PagesUnshared), Quantity.Count(area.PagesVolatile),
        Quantity.Count(area.PagesBroken), Quantity.Count(area.PagesOther), Quantity.Bytes(area.ProfitBytes),
    ];

    private static void Print(StatusReport status)
    {
        Table totals = new("all together", ">");
        totals.Add("saved, net", Quantity.Bytes(status.ProfitBytes));
        FigureTables.AddTo(totals, status);
        totals.Add("memory of the frame pools", Quantity.Bytes(status.Daemon.PoolBytes));
        totals.Add("memory of the daemon", Quantity.Bytes(status.Daemon.RssBytes));
        totals.Add("of that, records", Quantity.Bytes(status.Daemon.MetadataBytes));
        totals.Add("daemon", $"pid {status.Daemon.Pid}, {(status.Run != 1 ? "not scanning" : status.WaitsForSwap.Length > 0 ? "waiting for swap to be off" : status.WaitsFor.Length > 0 ? "waiting for memory pressure" : "scanning")}");
        if (status.WaitsFor.Length > 0)
            totals.Add("merging waits for", status.WaitsFor);
        if (status.WaitsForSwap.Length > 0)
            totals.Add("merging waits", status.WaitsForSwap);
        foreach (string what in status.LeftOff)
            totals.Add("on this kernel", what);
        if (status.AgeSeconds > OldAfterSeconds)
            totals.Add("these figures are", string.Create(CultureInfo.InvariantCulture, $"{status.AgeSeconds:0.0} s old: something keeps the scanner"));
        totals.Write();
        Output.Line();

        FigureTables.WriteDomains(status);
        if (status.Processes.Length == 0)
        {
            Output.Line("No processes. Take some in with: samepage attach PID…");
            return;
        }
        PrintProcesses(status);
    }

    private static void PrintProcesses(StatusReport status)
    {
        Table processes = new(">pid", "name", "domain", "state", ">tracked", ">merged", ">zero", ">breaks", ">saved", ">longest hold", "reason");
        foreach (ProcessReport p in status.Processes)
        {
            processes.Add(
                $"{p.Pid}", p.Name, p.Domain.Length > 0 ? p.Domain : "-", p.Settled && p.State != "skipped" ? "settled" : p.State, Quantity.Count(p.PagesTracked), Quantity.Count(p.PagesMerged),
                Quantity.Count(p.ZeroPages), Quantity.Count(p.CowBreaks), Quantity.Bytes(p.ProfitBytes), Quantity.Nanoseconds(p.StallNsMax), p.Reason);
        }
        processes.Write();
    }
}
