using Samepage.Api;

namespace Samepage.Cli;

/// <summary>What <c>status --areas --json</c> prints.</summary>
/// <param name="Processes">The processes, in the order asked for.</param>
internal sealed record AreasReport(AreasReply[] Processes);

/// <summary>An area's name for people.</summary>
internal static class AreaTitle
{
    /// <summary>Its addresses and its name.</summary>
    public static string Of(AreaReport area) => area.Start.Length == 0 ? "in no area any more" : area.Name.Length == 0 ? $"{area.Start}-{area.End}" : $"{area.Start}-{area.End} {area.Name}";
}
