using System.CommandLine;
using Samepage.Daemon;
using Samepage.Metrics;

namespace Samepage.Cli;

/// <summary><c>samepage daemon</c>: serves in the foreground.</summary>
internal static class DaemonCommand
{
    private const string More = """
        Serves in the foreground; prints 'ready' on a line when it does. Its socket and state are
        in SAMEPAGE_RUN_DIR (default /run/samepage). It takes in what is asked for by 'samepage
        attach', memory that programs have advised to be mergeable (MADV_MERGEABLE,
        PR_SET_MEMORY_MERGE), and the processes that its rules are about. SIGHUP and 'samepage
        reload' read the rules again. With --no-rules it takes in nobody but by hand.

        SIGTERM or Ctrl-C gives every process back, then ends with 0. If it is killed, the
        processes go on with the right content, and a guardian that it started gives them back
        ('samepage recover').

        Metrics for Prometheus are at /metrics on its socket, and with --metrics-port on a port of
        the loopback addresses, where nothing else is.

        Examples:
          samepage daemon
          samepage daemon --metrics-port 9101
          SAMEPAGE_RUN_DIR=/tmp/mine samepage daemon --no-rules
        """;

    /// <summary>What it is called.</summary>
    public const string Name = "daemon";

    public static Command Create()
    {
        Option<string> rules = new("--config") { Description = "The file of rules; it need not exist.", HelpName = "FILE", DefaultValueFactory = _ => Rules.RuleFile.DefaultPath };
        Option<bool> none = new("--no-rules") { Description = "Take in nobody but by hand." };
        Option<int> port = Arguments.Number("--metrics-port", "PORT", "Serve /metrics on this port of the loopback addresses too; anybody on this machine can read them there.", 0, 1, 65535);
        DocumentedCommand command = new(Name, "Serve in the foreground.", More) { rules, none, port };
        command.SetAction((parsed, cancellation) =>
        {
            int? metrics = parsed.GetValue(port) is > 0 and int given ? given : null;
            if (metrics is int wanted)
                MetricsEndpoint.Check(wanted);
            return DaemonHost.RunAsync(parsed.GetValue(none) ? null : Path.GetFullPath(parsed.GetValue(rules)!), metrics, cancellation);
        });
        return command;
    }
}
