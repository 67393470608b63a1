using System.Globalization;
using Microsoft.AspNetCore.Connections.Features;
using Samepage.Api;
using Samepage.Engine;
using Samepage.Linux.Processes;
using Samepage.Web;

namespace Samepage.Daemon;

/// <summary>The API's questions of observers. Each is answered in steps on the scanner's thread, so that none keeps it for long.</summary>
internal static class ObservationApi
{
    private const int CellsMax = 1 << 16, FramesMax = 256, CapSysPtrace = 19;

    /// <summary>Adds them.</summary>
    public static void Map(WebApplication application, ScannerService scanner)
    {
        application.MapGet("/v1/processes/{pid}/areas", (int pid, int? cells, string? start, string? end, CancellationToken cancellation) =>
            AreasAsync(scanner, pid, cells ?? 0, start ?? "0", end ?? "ffffffffffffffff", cancellation)).WithMetadata(WebEndpoint.Shown);
        application.MapGet("/v1/frames", (HttpContext context, int? top, CancellationToken cancellation) => MayReadMemory(context)
            ? FramesAsync(scanner, top ?? 20, cancellation)
            : Task.FromResult(RefuseContents("what is in frames"))).WithMetadata(WebEndpoint.Shown);
    }

    /// <summary>Whether who asks may read the memory of all programs anyway: CAP_SYS_PTRACE. Root's socket is open to every root, also to one without capabilities. Who asks over the web page's port has its token, which is told to such alone.</summary>
    public static bool MayReadMemory(HttpContext context) =>
        context.Connection.LocalIpAddress is not null || (context.Features.Get<IConnectionSocketFeature>()?.Socket is { } socket && SocketPeer.Has(socket, CapSysPtrace));

    /// <summary>The answer to who may not.</summary>
    /// <param name="what">What he asked for.</param>
    public static IResult RefuseContents(string what) =>
        DaemonHost.Refused($"{what} is other programs' memory: it is told to who may read all of that, which takes CAP_SYS_PTRACE in the daemon's user namespace; run this as root with all capabilities", StatusCodes.Status403Forbidden);

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
