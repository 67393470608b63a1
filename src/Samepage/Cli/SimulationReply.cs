using Samepage.Api;
using Samepage.Simulation.Scenarios;

namespace Samepage.Cli;

/// <summary>What <c>simulate --json</c> prints: the fields of <see cref="StatusReport"/> where they apply, and what only a simulation has.</summary>
/// <remarks>Simulated: always true. ChecksHeld: every invariant held after every step; Broken and Found name the one that did not and what was found. Steps: of the
/// machine, each of them checked; StepsWithin: those in the middle of a call of the engine's. The rest as in <see cref="StatusReport"/>.</remarks>
internal sealed record SimulationReply(
    bool Simulated, string Scenario, ulong Seed, bool ChecksHeld, string Broken, string Found, long Steps, long StepsWithin,
    long FullScans, long PagesScanned, long PagesShared, long PagesSharing, long PagesUnshared, long PagesVolatile, long ZeroPages, int PageSize, long ProfitBytes,
    SimulatedDaemon Daemon, DomainReport[] Domains, ProcessReport[] Processes, HostReply? Host) : IScanFigures
{
    public static SimulationReply Of(SimulationReport report)
    {
        var figures = report.Figures;
        ProcessReport[] processes = [.. report.Processes.Select(process => Describe(process, report))];
        ILookup<string, ProcessReport> byDomain = processes.ToLookup(process => process.Domain);
        return new SimulationReply(
            true, report.Scenario.Name, report.Seed, report.Broken is null, report.Broken?.Invariant.ToString() ?? "", report.Broken?.Message ?? "", report.Steps, report.StepsWithin,
            figures.FullScans, figures.PagesScanned, figures.PagesShared, figures.PagesSharing, figures.PagesUnshared, figures.PagesVolatile, report.ZeroPages, report.PageSize, report.ProfitBytes,
            new SimulatedDaemon(report.MetadataBytes, report.PoolBytes),
            [.. report.Domains.Select(domain => DomainReport.Of($"user {domain.Domain + 1}", domain.Frames, domain.PagesSharing, domain.Breaks, byDomain))],
            processes,
            report.Host is { } host ? HostReply.Of(host) : null);
    }

    /// <summary>A process's share of what is saved: a page that is merged costs the frames' share of all that are.</summary>
    private static ProcessReport Describe(ProcessFigures process, SimulationReport report)
    {
        long users = report.Figures.PagesShared + report.Figures.PagesSharing;
        double saved = users == 0 ? 0 : (double)report.Figures.PagesSharing / users;
        long tracked = Math.Max(1, report.Processes.Sum(other => other.PagesTracked));
        long profit = (long)((process.PagesMerged * saved + process.ZeroPages) * report.PageSize - (double)report.MetadataBytes * process.PagesTracked / tracked);
        return new ProcessReport(process.Number, $"simulated {process.Number}", $"user {process.Domain + 1}", "merging", "", process.Settled, process.PagesTracked, process.PagesMerged,
            process.ZeroPages, process.PagesVolatile, process.PagesUnshared, process.PagesBroken, process.Breaks, profit, 0, 0);
    }
}

/// <summary>What the simulated daemon holds.</summary>
/// <param name="MetadataBytes">Bytes of records and indexes.</param>
/// <param name="PoolBytes">Bytes of memory that the frame pools hold.</param>
internal sealed record SimulatedDaemon(long MetadataBytes, long PoolBytes);

/// <summary>A host of a size, extrapolated.</summary>
/// <param name="HostBytes">Memory of its guests.</param>
/// <param name="Guests">How many.</param>
/// <param name="SavedBytes">Bytes saved.</param>
/// <param name="MetadataBytes">Bytes of records and indexes.</param>
/// <param name="FirstPassSeconds">Processor time until all is merged.</param>
/// <param name="IdlePassSeconds">Processor time of a pass over idle memory.</param>
/// <param name="KsmdPassSeconds">Processor time of a pass of the kernel's scanner.</param>
/// <param name="Assumptions">What was taken for granted.</param>
/// <param name="Costs">The measured costs.</param>
internal sealed record HostReply(
    long HostBytes, int Guests, long SavedBytes, long MetadataBytes, double FirstPassSeconds, double IdlePassSeconds, double KsmdPassSeconds, string[] Assumptions, Cost[] Costs)
{
    public static HostReply Of(HostEstimate host) => new(
        host.Size.Bytes, host.Size.Guests, (long)host.SavedBytes, (long)host.MetadataBytes, Math.Round(host.FirstPassSeconds, 1), Math.Round(host.IdlePassSeconds, 1), Math.Round(host.KsmdPassSeconds, 1),
        [.. host.Assumptions], [.. Simulation.Scenarios.Costs.All]);
}
