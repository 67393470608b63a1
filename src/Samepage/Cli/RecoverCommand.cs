using System.CommandLine;
using Samepage.Daemon;

namespace Samepage.Cli;

/// <summary><c>samepage recover</c>: gives back what a daemon that died has left.</summary>
internal static class RecoverCommand
{
    private const string More = """
        Gives back the processes of a daemon that was killed, as it would have done itself. The
        daemon starts this command by itself when it dies, and every daemon recovers before it
        serves; by hand it is needed only where both were killed. Until then the processes go
        on with the right content, and share what they share.

        Forked children whose parent has ended, and that have no agent, cannot be given back:
        what they discard must read as zeros for as long as they live. Where there are such, the
        command stays for as long, and watches them, or until a daemon takes its place.

        Examples:
          samepage recover
          samepage recover --timeout 5
        """;

    public static Command Create()
    {
        Option<int> timeout = new("--timeout")
        {
            Description = "Seconds to go on with processes that cannot be given back at once.",
            HelpName = "SECONDS",
            DefaultValueFactory = _ => 3600,
        };
        timeout.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && (!int.TryParse(result.Tokens[0].Value, out int seconds) || seconds is < 0 or > 86_400))
                result.AddError("--timeout: 0 to 86400 seconds");
        });
        DocumentedCommand command = new("recover", "Give back what a daemon that died has left.", More) { timeout };
        command.SetAction((parsed, cancellation) => DaemonHost.RecoverAsync(TimeSpan.FromSeconds(parsed.GetValue(timeout)), cancellation));
        return command;
    }
}
