using System.CommandLine;
using Samepage.Api;

namespace Samepage.Cli;

/// <summary><c>samepage reload</c>: lets the daemon read its rules again.</summary>
internal static class ReloadCommand
{
    private const string More = """
        Lets the daemon read its rules again (/etc/samepage/samepage.toml), as SIGHUP does. A bad
        file is refused with line and column, and the old rules stay in force. Processes that
        the new rules would not take in are given back; those attached by hand stay.

        Example:
          samepage reload
        """;

    public static Command Create()
    {
        DocumentedCommand command = new("reload", "Let the daemon read its rules again.", More);
        command.SetAction((_, cancellation) => RunAsync(cancellation));
        return command;
    }

    private static async Task<int> RunAsync(CancellationToken cancellation)
    {
        using ApiClient api = new(RunDirectory.Current);
        ReloadReply reply = await api.ReloadAsync(cancellation);
        Output.Line(reply.Path.Length > 0 ? $"The rules of {reply.Path} are in force." : "The daemon was started without rules, and stays so.");
        return ExitCode.Done;
    }
}
