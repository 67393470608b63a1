using System.Text.Json;

namespace Samepage.SystemTests.Harness;

/// <summary>The parts of the status that tests look at, as a program of somebody else would read them.</summary>
internal sealed record WireStatus(
    int Run, long FullScans, long PagesScanned, long PagesShared, long PagesSharing, long PagesUnshared, long PagesVolatile, long ZeroPages,
    int PageSize, long ProfitBytes, long GeneralProfitBytes, string ControlDirectory, WireDaemon Daemon, WireDomain[] Domains, WireProcess[] Processes, string WaitsFor)
{
    internal static readonly JsonSerializerOptions SnakeCase = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower, RespectRequiredConstructorParameters = true };

    public static WireStatus Parse(string json) => JsonSerializer.Deserialize<WireStatus>(json, SnakeCase) ?? throw new InvalidDataException(json);

    public WireProcess Of(int pid) => Processes.FirstOrDefault(process => process.Pid == pid)
        ?? new WireProcess(pid, "", "", "absent", "", false, 0, 0, 0, 0, 0);
}

internal sealed record WireDaemon(int Pid, long RssBytes, long MetadataBytes, long PoolBytes);

internal sealed record WireDomain(string Name, long Frames, long PagesSharing);

internal sealed record WireProcess(int Pid, string Name, string Domain, string State, string Reason, bool Settled, long PagesTracked, long PagesMerged, long ZeroPages, long CowBreaks, long ProfitBytes);

/// <summary>What became of a process that was to be taken in or given back.</summary>
internal sealed record WireOutcome(int Pid, bool Done, string State, string Reason)
{
    public static WireOutcome[] Parse(string json) => JsonSerializer.Deserialize<Reply>(json, WireStatus.SnakeCase)?.Processes ?? throw new InvalidDataException(json);

    private sealed record Reply(WireOutcome[] Processes);
}
