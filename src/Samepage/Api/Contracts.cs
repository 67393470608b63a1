using System.Text.Json.Serialization;

namespace Samepage.Api;

/// <summary>What <c>GET /v1/status</c> answers and <c>samepage status --json</c> prints. Names are the kernel's where the kernel has one.</summary>
/// <param name="Run">What the scanner is told to do, as in the control directory: 0 stand still, 1 scan, 2 stand still with nothing merged.</param>
/// <param name="FullScans">Passes over all processes completed since the daemon started.</param>
/// <param name="PagesScanned">Pages read and looked up since the daemon started.</param>
/// <param name="PagesShared">Frames in use.</param>
/// <param name="PagesSharing">Further pages mapped to those frames: pages saved.</param>
/// <param name="PagesUnshared">Pages unique so far.</param>
/// <param name="PagesVolatile">All pages tracked less the three above: such as change too fast to be looked up, wait, are shared by fork already or left to the zero page.</param>
/// <param name="ZeroPages">Pages given back to the kernel's zero page.</param>
/// <param name="PageSize">Bytes per page.</param>
/// <param name="ProfitBytes">Bytes saved less all that the daemon and its agents cost; may be negative.</param>
/// <param name="GeneralProfitBytes">As the kernel reckons it: bytes of pages saved less those of records; may be negative, where the control file shows 0.</param>
/// <param name="ControlDirectory">The directory of the control files and of those of processes; empty where they could not be served.</param>
/// <param name="Daemon">The daemon's own cost.</param>
/// <param name="Domains">One entry per trust domain.</param>
/// <param name="Processes">One entry per process that was asked for.</param>
/// <remarks>Sums are exact: figures of a domain are those of its processes summed, but for <see cref="DomainReport.CowBreaks"/>; and
/// <paramref name="ProfitBytes"/> is the profit of all domains less <see cref="DaemonReport.OverheadBytes"/>.</remarks>
public sealed record StatusReport(
    int Run, long FullScans, long PagesScanned, long PagesShared, long PagesSharing, long PagesUnshared, long PagesVolatile,
    long ZeroPages, int PageSize, long ProfitBytes, long GeneralProfitBytes, string ControlDirectory, DaemonReport Daemon, DomainReport[] Domains, ProcessReport[] Processes) : IScanFigures
{
    /// <summary>What merging waits for although <see cref="Run"/> is 1: memory pressure, as the rules have it, and how things are; empty while it waits for nothing.</summary>
    public string WaitsFor { get; init; } = "";

    /// <summary>That merging waits for swap to be turned off, on a kernel that cannot move pages beside it, and why; empty while it does not.</summary>
    public string WaitsForSwap { get; init; } = "";

    /// <summary>What is left off for the bugs of this kernel, a sentence each: docs/kernels.md.</summary>
    public string[] LeftOff { get; init; } = [];

    /// <summary>How old these figures are, seconds: the scanner brings new ones at least every other second, unless something keeps it.</summary>
    public double AgeSeconds { get; init; }
}

/// <summary>What a scanner has done, a daemon's or a simulated one: as in <see cref="StatusReport"/>.</summary>
public interface IScanFigures
{
    /// <inheritdoc cref="StatusReport.PagesSharing"/>
    long PagesSharing { get; }

    /// <inheritdoc cref="StatusReport.PagesShared"/>
    long PagesShared { get; }

    /// <inheritdoc cref="StatusReport.ZeroPages"/>
    long ZeroPages { get; }

    /// <inheritdoc cref="StatusReport.PagesUnshared"/>
    long PagesUnshared { get; }

    /// <inheritdoc cref="StatusReport.PagesVolatile"/>
    long PagesVolatile { get; }

    /// <inheritdoc cref="StatusReport.PagesScanned"/>
    long PagesScanned { get; }

    /// <inheritdoc cref="StatusReport.FullScans"/>
    long FullScans { get; }

    /// <inheritdoc cref="StatusReport.Domains"/>
    DomainReport[] Domains { get; }
}

/// <summary>The daemon's own cost.</summary>
/// <param name="Pid">Its process id.</param>
/// <param name="RssBytes">Its resident memory, bytes.</param>
/// <param name="MetadataBytes">Bytes of records and indexes held for tracked pages.</param>
/// <param name="PoolBytes">Bytes of memory that the frame pools hold.</param>
/// <param name="OverheadBytes">What no domain pays for: resident memory besides records, the guardian, frames that nobody uses any more and that are about to be freed.</param>
/// <param name="ScanSeconds">Time that visits to processes have taken since it started.</param>
public sealed record DaemonReport(int Pid, long RssBytes, long MetadataBytes, long PoolBytes, long OverheadBytes, double ScanSeconds)
{
    /// <summary>Processor time that it had taken since it started when it was asked: newer than the rest.</summary>
    public double ProcessorSeconds { get; init; }
}

/// <summary>One trust domain.</summary>
/// <param name="Name">Its name, such as <c>uid:1000</c>.</param>
/// <param name="Frames">Frames in use.</param>
/// <param name="PagesSharing">Pages saved in it: its merged pages less its frames.</param>
/// <param name="PagesTracked">Pages that have a record.</param>
/// <param name="PagesMerged">Pages mapped to a frame.</param>
/// <param name="ZeroPages">Pages given back to the kernel's zero page.</param>
/// <param name="CowBreaks">As in <see cref="ProcessReport"/>, those of processes that have left counted too.</param>
/// <param name="ProfitBytes">Bytes saved in it less the cost of its records and agents; may be negative.</param>
public sealed record DomainReport(string Name, long Frames, long PagesSharing, long PagesTracked, long PagesMerged, long ZeroPages, long CowBreaks, long ProfitBytes)
{
    /// <summary>A domain, of which most figures are the sums of its processes', which are looked up by its name.</summary>
    internal static DomainReport Of(string name, long frames, long sharing, long breaks, ILookup<string, ProcessReport> processes)
    {
        long tracked = 0, merged = 0, zero = 0, profit = 0;
        foreach (ProcessReport process in processes[name])
            (tracked, merged, zero, profit) = (tracked + process.PagesTracked, merged + process.PagesMerged, zero + process.ZeroPages, profit + process.ProfitBytes);
        return new DomainReport(name, frames, sharing, tracked, merged, zero, breaks, profit);
    }
}

/// <summary>One process.</summary>
/// <param name="Pid">Its process id.</param>
/// <param name="Name">Its command name.</param>
/// <param name="Domain">Its trust domain; empty where it has none.</param>
/// <param name="State"><c>settling</c>, <c>merging</c>, <c>skipped</c> or <c>detaching</c>.</param>
/// <param name="Reason">Why it is skipped, or what holds merging back at the moment; empty otherwise.</param>
/// <param name="Settled">Nothing more can be merged in it now.</param>
/// <param name="PagesTracked">Pages that have a record.</param>
/// <param name="PagesMerged">Pages mapped to a frame.</param>
/// <param name="ZeroPages">Pages given back to the kernel's zero page.</param>
/// <param name="PagesVolatile">Pages that change too fast to be looked up.</param>
/// <param name="PagesUnshared">Pages unique so far.</param>
/// <param name="PagesBroken">Pages written back: private memory, by copy-on-write, inside a mapping of frames; given back to the program's own mapping later.</param>
/// <param name="CowBreaks">Merged pages that a write, or a discard, has taken from their frames, counted since it was taken in.</param>
/// <param name="ProfitBytes">Its share of the bytes saved, less the cost of its records and agent; may be negative.</param>
/// <param name="Stops">How many times its threads were held for a batch of merges.</param>
/// <param name="StallNsMax">The longest such hold, nanoseconds.</param>
public sealed record ProcessReport(
    int Pid, string Name, string Domain, string State, string Reason, bool Settled, long PagesTracked, long PagesMerged,
    long ZeroPages, long PagesVolatile, long PagesUnshared, long PagesBroken, long CowBreaks, long ProfitBytes, long Stops, long StallNsMax)
{
    /// <summary>The state of a process that was asked for and is not taken in.</summary>
    public const string Skipped = "skipped";
}

/// <summary>Body of <c>POST /v1/attach</c>.</summary>
/// <param name="Pids">Processes to take in, 1 to 4096 of them.</param>
public sealed record AttachRequest(int[] Pids);

/// <summary>Body of <c>POST /v1/detach</c>.</summary>
/// <param name="Pids">Processes to give back; ignored with <paramref name="All"/>.</param>
/// <param name="All">Give every process back.</param>
public sealed record DetachRequest(int[] Pids, bool All);

/// <summary>What attach and detach answer, one entry per process.</summary>
/// <param name="Processes">The outcomes, in the order asked for.</param>
public sealed record OutcomeReply(ProcessOutcome[] Processes);

/// <summary>What became of one process.</summary>
/// <param name="Pid">Its process id.</param>
/// <param name="Done">It was taken in (or was in already), or was given back without a trace.</param>
/// <param name="State">Its state now: as in <see cref="ProcessReport"/>, or <c>gone</c>.</param>
/// <param name="Reason">Why it was not done; empty otherwise.</param>
public sealed record ProcessOutcome(int Pid, bool Done, string State, string Reason)
{
    /// <summary>What is not as it was in a process that was given back, a clause; empty when all that matters is.</summary>
    public string Different { get; init; } = "";
}

/// <summary>What <c>POST /v1/reload</c> answers when the rules are in force.</summary>
/// <param name="Path">The file that was read; empty where the daemon uses none.</param>
public sealed record ReloadReply(string Path);

/// <summary>What a refused request answers, with a 4xx or 5xx status.</summary>
/// <param name="Error">What was tried, on what, what the system answered, and what can be done.</param>
public sealed record ErrorReply(string Error);

/// <summary>The JSON that crosses the socket and that <c>--json</c> prints: snake_case, no reflection.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true)]
[JsonSerializable(typeof(StatusReport))]
[JsonSerializable(typeof(AttachRequest))]
[JsonSerializable(typeof(DetachRequest))]
[JsonSerializable(typeof(OutcomeReply))]
[JsonSerializable(typeof(ReloadReply))]
[JsonSerializable(typeof(AreasReply))]
[JsonSerializable(typeof(FramesReply))]
[JsonSerializable(typeof(HistoryReply))]
[JsonSerializable(typeof(WebReply))]
[JsonSerializable(typeof(ErrorReply))]
[JsonSerializable(typeof(DoctorReport))]
internal sealed partial class ApiJson : JsonSerializerContext;

/// <summary>What <c>samepage doctor --json</c> prints.</summary>
/// <param name="Verdict"><c>ok</c>, <c>warning</c> or <c>failure</c>: the worst of the checks.</param>
/// <param name="Checks">Each check.</param>
public sealed record DoctorReport(string Verdict, DoctorCheck[] Checks);

/// <summary>One thing that the doctor looked at.</summary>
/// <param name="Name">A short stable name, such as <c>userfaultfd</c>.</param>
/// <param name="Verdict"><c>ok</c>, <c>warning</c> or <c>failure</c>.</param>
/// <param name="Found">What was found.</param>
/// <param name="Remedy">What to do about it; empty when ok.</param>
public sealed record DoctorCheck(string Name, string Verdict, string Found, string Remedy);
