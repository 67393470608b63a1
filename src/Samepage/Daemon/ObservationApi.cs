using System.Globalization;
using Samepage.Api;
using Samepage.Engine;
using Samepage.Web;

namespace Samepage.Daemon;

/// <summary>The API's questions of observers. Each is answered in steps on the scanner's thread, so that none keeps it for long.</summary>
internal static class ObservationApi
{
    private const int CellsMax = 1 << 16, FramesMax = 256;

    /// <summary>Adds them.</summary>
    public static void Map(WebApplication application, ScannerService scanner)
    {
        application.MapGet("/v1/processes/{pid}/areas", (int pid, int? cells, string? start, string? end, CancellationToken cancellation) =>
            AreasAsync(scanner, pid, cells ?? 0, start ?? "0", end ?? "ffffffffffffffff", cancellation)).WithMetadata(WebEndpoint.Shown);
        application.MapGet("/v1/frames", (int? top, CancellationToken cancellation) => FramesAsync(scanner, top ?? 20, cancellation)).WithMetadata(WebEndpoint.Shown);
    }

    private static async Task<IResult> AreasAsync(ScannerService scanner, int pid, int cells, string start, string end, CancellationToken cancellation)
    {
        if (cells is < 0 or > CellsMax)
            return DaemonHost.Refused($"cells: 0 to {CellsMax} are wanted", 400);
        if (!TryReadAddress(start, out ulong first) || !TryReadAddress(end, out ulong last) || first >= last)
            return DaemonHost.Refused("start, end: two hexadecimal addresses are wanted, the first below the second", 400);
        // From whole pages to whole pages.
        AreaWalk walk = new(pid, cells, first / 4096, last / 4096 + (last % 4096 == 0 ? 0UL : 1));
        while (!await scanner.Ask(walk.Step))
            cancellation.ThrowIfCancellationRequested();
        return walk.Reply is { } reply
            ? DaemonHost.Json(reply, ApiJson.Default.AreasReply)
            : DaemonHost.Refused($"process {pid} is not taken in; take it in with: samepage attach {pid}", 404);
    }

    private static async Task<IResult> FramesAsync(ScannerService scanner, int top, CancellationToken cancellation)
    {
        if (top is < 1 or > FramesMax)
            return DaemonHost.Refused($"top: 1 to {FramesMax} frames", 400);
        List<(DomainId Domain, SharedFrame Frame)> best = [];
        (int, uint) step = default;
        while (!await scanner.Ask(coordinator => coordinator.FindMostShared(top, ref step, best)))
            cancellation.ThrowIfCancellationRequested();
        List<FrameReport> frames = [];
        foreach ((DomainId domain, SharedFrame frame) in best)
        {
            cancellation.ThrowIfCancellationRequested();
            if (await scanner.Ask(coordinator => coordinator.DescribeFrame(domain, frame.Frame)) is { } report)
                frames.Add(report);
        }

        return DaemonHost.Json(new FramesReply(scanner.Status?.PageSize ?? 4096, [.. frames]), ApiJson.Default.FramesReply);
    }

    private static bool TryReadAddress(string text, out ulong address) =>
        ulong.TryParse(text.StartsWith("0x", StringComparison.Ordinal) ? text[2..] : text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out address);
}
