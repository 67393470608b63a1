using Samepage.Api;

namespace Samepage.Cli;

/// <summary>The figures that the status of a daemon and a simulated run both show.</summary>
internal static class FigureTables
{
    /// <summary>Adds what has been shared and scanned, a row each.</summary>
    public static void AddTo(Table totals, IScanFigures figures)
    {
        totals.Add("pages saved by sharing", Quantity.Count(figures.PagesSharing));
        totals.Add("frames that they share", Quantity.Count(figures.PagesShared));
        totals.Add("pages given to the zero page", Quantity.Count(figures.ZeroPages));
        totals.Add("pages unique so far", Quantity.Count(figures.PagesUnshared));
        totals.Add("pages that change, wait or cannot be merged", Quantity.Count(figures.PagesVolatile));
        totals.Add("pages scanned", Quantity.Count(figures.PagesScanned));
        totals.Add("full scans", Quantity.Count(figures.FullScans));
    }

    /// <summary>Writes the table of domains, if there are any, and an empty line.</summary>
    public static void WriteDomains(IScanFigures figures)
    {
        if (figures.Domains.Length == 0)
            return;
        Table domains = new("domain", ">frames", ">pages saved");
        foreach (DomainReport domain in figures.Domains)
            domains.Add(domain.Name, Quantity.Count(domain.Frames), Quantity.Count(domain.PagesSharing));
        domains.Write();
        Output.Line();
    }
}
