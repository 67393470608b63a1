using System.CommandLine;
using Samepage.Api;

namespace Samepage.Cli;

/// <summary><c>samepage frames</c>: the most shared contents, and who maps them.</summary>
internal static class FramesCommand
{
    private const int ProcessesShown = 6;

    private const string More = """
        Shows the frames that most pages share: what they save, what is in them, and which
        processes map them, with how many pages each. The contents are other programs' memory,
        so the daemon shows them to its own user only, which is root.

        Examples:
          samepage frames
          samepage frames --top 100 --json | jq '.frames[] | {users, text}'
        """;

    public static Command Create()
    {
        Option<int> top = Arguments.Number("--top", "N", "How many frames, 1 to 256.", 10, 1, 256);
        Option<bool> json = Arguments.Json();
        DocumentedCommand command = new("frames", "Show the most shared contents, and who maps them.", More) { top, json };
        command.SetAction((parsed, cancellation) => RunAsync(parsed.GetValue(top), parsed.GetValue(json), cancellation));
        return command;
    }

    private static async Task<int> RunAsync(int top, bool json, CancellationToken cancellation)
    {
        using ApiClient api = new(RunDirectory.Current);
        FramesReply reply = await api.FramesAsync(top, cancellation);
        if (json)
        {
            Output.Json(reply, ApiJson.Default.FramesReply);
            return ExitCode.Done;
        }

        if (reply.Frames.Length == 0)
        {
            Output.Line("Nothing is shared.");
            return ExitCode.Done;
        }

        Table table = new(">pages", ">saved", "domain", ">frame", "looks like", "first bytes", "as text", "mapped by (pages)");
        foreach (FrameReport frame in reply.Frames)
        {
            string processes = string.Join(", ", frame.Processes.Take(ProcessesShown).Select(process => $"{process.Name} {process.Pid} ({process.Pages})"));
            if (frame.Processes.Length > ProcessesShown)
                processes += $", and {frame.Processes.Length - ProcessesShown} more";
            table.Add($"{frame.Users}", Quantity.Bytes(frame.SavedBytes), frame.Domain, $"{frame.Frame}", frame.Looks, frame.Hex[..32], frame.Text, processes);
        }

        table.Write();
        return ExitCode.Done;
    }
}
