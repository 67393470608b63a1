using System.CommandLine;
using Samepage.Api;

namespace Samepage.Cli;

/// <summary><c>samepage web</c>: the address of the daemon's web page.</summary>
internal static class WebCommand
{
    private const string More = """
        Prints the address of the daemon's web page, which shows savings over time, every process,
        pictures of their memory, and the most shared contents. The daemon serves it if it was
        started with --web-port, on 127.0.0.1 only.

        What stands behind the # is a secret, made anew at each start of the daemon: who knows it
        sees the page. It is never part of a request's address. Open the address in a browser by
        hand: as an argument of a command every user of this machine could read it.

        Examples:
          samepage web
          ssh -L 9102:127.0.0.1:9102 HOST   # to look at it from elsewhere, by the same port
        """;

    public static Command Create()
    {
        Option<bool> json = Arguments.Json();
        DocumentedCommand command = new("web", "Print the address of the daemon's web page.", More) { json };
        command.SetAction((parsed, cancellation) => RunAsync(parsed.GetValue(json), cancellation));
        return command;
    }

    private static async Task<int> RunAsync(bool json, CancellationToken cancellation)
    {
        using ApiClient api = new(RunDirectory.Current);
        WebReply reply = await api.WebAsync(cancellation);
        if (json)
            Output.Json(reply, ApiJson.Default.WebReply);
        else
            Output.Line(reply.Url);
        return ExitCode.Done;
    }
}
