using System.CommandLine;
using Samepage.Daemon;
using Samepage.Web;

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
        the loopback addresses, where nothing else is. With --web-port there is a web page on a
        port of 127.0.0.1; 'samepage web' prints its address.

        Examples:
          samepage daemon
          samepage daemon --metrics-port 9101 --web-port 9102
          SAMEPAGE_RUN_DIR=/tmp/mine samepage daemon --no-rules
        """;

    /// <summary>What it is called.</summary>
    public const string Name = "daemon";

    public static Command Create()
    {
        Option<string> rules = new("--config") { Description = "The file of rules; it need not exist.", HelpName = "FILE", DefaultValueFactory = _ => Rules.RuleFile.DefaultPath };
        Option<bool> none = new("--no-rules") { Description = "Take in nobody but by hand." };
        Option<int> port = Arguments.Number("--metrics-port", "PORT", "Serve /metrics on this port of the loopback addresses too; anybody on this machine can read them there.", 0, 1, 65535);
        Option<int> web = Arguments.Number("--web-port", "PORT", "Serve a web page on this port of 127.0.0.1, for who knows its token: samepage web.", 0, 1, 65535);
        DocumentedCommand command = new(Name, "Serve in the foreground.", More) { rules, none, port, web };
        command.Validators.Add(result =>
        {
            // By what was typed: a value that is no number has none, and is complained of elsewhere.
            if (result.GetResult(port) is { Tokens: [var one] } && result.GetResult(web) is { Tokens: [var other] } && one.Value.TrimStart('0') == other.Value.TrimStart('0'))
                result.AddError($"--metrics-port and --web-port: two ports are wanted, not {one.Value} twice");
        });
        command.SetAction(async (parsed, cancellation) =>
        {
            DaemonPorts ports = new(Checked(parsed.GetValue(port), "metrics", port.Name), Checked(parsed.GetValue(web), "the web page", web.Name));
            try
            {
                return await DaemonHost.RunAsync(parsed.GetValue(none) ? null : Arguments.FullPath(rules.Name, parsed.GetValue(rules)!), ports, cancellation);
            }
            catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
            {
                // Told to end before it had anybody: that is done, too.
                return ExitCode.Done;
            }
        });
        return command;
    }
    private static int? Checked(int port, string what, string option)
    {
        if (port <= 0)
            return null;
        LoopbackPort.Check(port, what, option);
        return port;
    }
}
