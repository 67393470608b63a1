using System.CommandLine;
using Samepage.Api;

namespace Samepage.Cli;

/// <summary><c>samepage status</c>: what is shared at the moment, and what it costs.</summary>
internal static class StatusCommand
{
    private const string More = """
        Shows what is shared at the moment, what it saves, what it costs, and how each process
        fares. 'saved' is net: bytes saved less all that the daemon and its agents cost, so it
        may be negative while little is merged.

        Examples:
          samepage status
          samepage status --json | jq '.processes[] | select(.state == "skipped")'
        """;

    public static Command Create()
    {
        Option<bool> json = Arguments.Json();
        DocumentedCommand command = new("status", "Show what is shared, what it saves and what it costs.", More) { json };
        command.SetAction((parsed, cancellation) => RunAsync(parsed.GetValue(json), cancellation));
        return command;
    }

    private static async Task<int> RunAsync(bool json, CancellationToken cancellation)
    {
        using ApiClient api = new(RunDirectory.Current);
        StatusReport status = await api.StatusAsync(cancellation);
        if (json)
            Output.Json(status, ApiJson.Default.StatusReport);
        else
            Print(status);
        return ExitCode.Done;
    }

    private static void Print(StatusReport status)
    {
        Table totals = new("all together", ">");
        totals.Add("saved, net", Quantity.Bytes(status.ProfitBytes));
        FigureTables.AddTo(totals, status);
        totals.Add("memory of the frame pools", Quantity.Bytes(status.Daemon.PoolBytes));
        totals.Add("memory of the daemon", Quantity.Bytes(status.Daemon.RssBytes));
        totals.Add("of that, records", Quantity.Bytes(status.Daemon.MetadataBytes));
        totals.Add("daemon", $"pid {status.Daemon.Pid}, {(status.Run == 1 ? "scanning" : "not scanning")}");
        totals.Write();
        Console.WriteLine();

        FigureTables.WriteDomains(status);
        if (status.Processes.Length == 0)
        {
            Console.WriteLine("No processes. Take some in with: samepage attach PID…");
            return;
        }
        Table processes = new(">pid", "name", "domain", "state", ">tracked", ">merged", ">zero", ">saved", ">longest hold", "reason");
        foreach (ProcessReport p in status.Processes)
        {
            processes.Add(
                $"{p.Pid}", p.Name, p.Domain.Length > 0 ? p.Domain : "-", p.Settled && p.State != "skipped" ? "settled" : p.State, Quantity.Count(p.PagesTracked), Quantity.Count(p.PagesMerged),
                Quantity.Count(p.ZeroPages), Quantity.Bytes(p.ProfitBytes), Quantity.Nanoseconds(p.StallNsMax), p.Reason);
        }
        processes.Write();
    }
}
