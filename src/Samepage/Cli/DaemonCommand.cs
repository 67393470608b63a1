using System.CommandLine;
using Samepage.Daemon;

namespace Samepage.Cli;

/// <summary><c>samepage daemon</c>: serves in the foreground.</summary>
internal static class DaemonCommand
{
    private const string More = """
        Serves in the foreground; prints 'ready' on a line when it does. Its socket and state are
        in SAMEPAGE_RUN_DIR (default /run/samepage). It does nothing to any process until told to
        by 'samepage attach'.

        SIGTERM or Ctrl-C gives every process back, then ends with 0. If it is killed, the
        processes go on with the right content, and a guardian that it started gives them back
        ('samepage recover').

        Examples:
          samepage daemon
          SAMEPAGE_RUN_DIR=/tmp/mine samepage daemon
        """;

    public static Command Create()
    {
        DocumentedCommand command = new("daemon", "Serve in the foreground.", More);
        command.SetAction((_, cancellation) => DaemonHost.RunAsync(cancellation));
        return command;
    }
}
