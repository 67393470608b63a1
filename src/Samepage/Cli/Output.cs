using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace Samepage.Cli;

/// <summary>Where a command's words go: results to standard output, everything else to standard error.</summary>
internal static class Output
{
    public static void Json<T>(T report, JsonTypeInfo<T> type) => Console.Out.WriteLine(JsonSerializer.Serialize(report, type));

    /// <summary>A remark about something that was not done, or not wholly.</summary>
    public static void Complain(string message) => Console.Error.WriteLine($"samepage: {message}");
}

/// <summary>What <c>attach --json</c> prints: the daemon's outcomes, and what is merged at the time of printing.</summary>
/// <param name="Processes">One entry per process, in the order asked for.</param>
/// <param name="PagesMerged">The sum over the processes.</param>
/// <param name="ZeroPages">The sum over the processes.</param>
/// <param name="ProfitBytes">The sum over the processes.</param>
internal sealed record AttachReport(AttachedProcess[] Processes, long PagesMerged, long ZeroPages, long ProfitBytes);

/// <summary>One process of an <see cref="AttachReport"/>.</summary>
/// <param name="Pid">Its process id.</param>
/// <param name="Name">Its command name; empty when the daemon does not know it.</param>
/// <param name="Done">It was taken in, or was in already.</param>
/// <param name="State">As in <see cref="Api.ProcessReport"/>, or <c>gone</c>.</param>
/// <param name="Reason">Why it was not taken in, or what holds merging back; empty otherwise.</param>
/// <param name="Settled">Nothing more can be merged in it now.</param>
/// <param name="PagesMerged">Pages mapped to a frame.</param>
/// <param name="ZeroPages">Pages given back to the kernel's zero page.</param>
/// <param name="ProfitBytes">Its share of the bytes saved, less the cost of its records and agent; may be negative.</param>
internal sealed record AttachedProcess(
    int Pid, string Name, bool Done, string State, string Reason, bool Settled, long PagesMerged, long ZeroPages, long ProfitBytes);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true)]
[JsonSerializable(typeof(AttachReport))]
[JsonSerializable(typeof(SimulationReply))]
[JsonSerializable(typeof(SortedDictionary<string, string>))]
[JsonSerializable(typeof(FleetReply))]
[JsonSerializable(typeof(AreasReport))]
internal sealed partial class CliJson : JsonSerializerContext;
