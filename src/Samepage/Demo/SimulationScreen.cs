using System.Globalization;
using Samepage.Api;
using Samepage.Cli;
using Samepage.Simulation;
using Samepage.Simulation.Scenarios;

namespace Samepage.Demo;

/// <summary>Shows what came of a simulated run, as <c>samepage status</c> shows a real one; and that it was simulated.</summary>
internal static class SimulationScreen
{
    public static void Print(SimulationReport report)
    {
        SimulationReply reply = SimulationReply.Of(report);
        Output.Line($"Simulated: no real process was touched. Scenario {reply.Scenario}: {report.Scenario.Summary}.");
        Output.Line($"Seed {reply.Seed}; the same again: samepage simulate --scenario {reply.Scenario} --seed {reply.Seed}{Processes(report)}");
        Output.Line();
        Table totals = new("all together", ">");
        totals.Add("saved, net of records", Quantity.Bytes(reply.ProfitBytes));
        FigureTables.AddTo(totals, reply);
        totals.Add("memory of the frame pools", Quantity.Bytes(reply.Daemon.PoolBytes));
        totals.Add("records", Quantity.Bytes(reply.Daemon.MetadataBytes));
        totals.Write();
        Output.Line();

        FigureTables.WriteDomains(reply);
        Table processes = new(">process", "domain", "state", ">tracked", ">merged", ">zero", ">saved");
        foreach (ProcessReport process in reply.Processes)
        {
            processes.Add($"{process.Pid}", process.Domain, process.Settled ? "settled" : process.State, Quantity.Count(process.PagesTracked), Quantity.Count(process.PagesMerged),
                Quantity.Count(process.ZeroPages), Quantity.Bytes(process.ProfitBytes));
        }

        processes.Write();
        if (report.Host is { } host)
            Print(host);
        Output.Line();
        Output.Line(report.Broken is null
            ? $"All {Enum.GetValues<Invariant>().Length} invariants held after each of {Quantity.Count(reply.Steps)} steps, {Quantity.Count(reply.StepsWithin)} of them in the middle of the engine's work."
            : $"FAILED after {Quantity.Count(reply.Steps)} steps: {reply.Found}");
    }

    private static string Processes(SimulationReport report) =>
        report.Processes.Count is 0 || report.Processes.Count == report.Scenario.Processes || report.Scenario.Memory.Stormy ? "" : $" --processes {report.Processes.Count}";

    private static void Print(HostEstimate host)
    {
        Output.Line();
        Table table = new($"extrapolated to {Quantity.Bytes(host.Size.Bytes)} and {Quantity.Count(host.Size.Guests)} guests, not measured", ">");
        table.Add("saved", Quantity.Bytes((long)host.SavedBytes));
        table.Add("records and indexes", Quantity.Bytes((long)host.MetadataBytes));
        table.Add("processor time until all is merged", Time(host.FirstPassSeconds));
        table.Add("processor time of a pass over idle memory", Time(host.IdlePassSeconds));
        table.Add("processor time of a pass of the kernel's own scanner", Time(host.KsmdPassSeconds));
        table.Write();
        Output.Line("Assumed:");
        foreach (string assumption in host.Assumptions)
            Output.Line($"  {assumption}");
        Table costs = new("cost", ">", "", "source");
        foreach (Cost cost in Costs.All)
            costs.Add(cost.Name, cost.Value.ToString("0.##", CultureInfo.InvariantCulture), cost.Unit, cost.Source);
        costs.Write();
    }

    private static string Time(double seconds) => string.Create(CultureInfo.InvariantCulture, $"{(seconds < 600 ? $"{seconds:F0} s" : $"{seconds / 60:F0} min")}");
}
