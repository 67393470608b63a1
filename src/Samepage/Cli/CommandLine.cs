using System.CommandLine;
using System.CommandLine.Invocation;
using Samepage.Linux;

namespace Samepage.Cli;

/// <summary>Reads the arguments, runs the command that they name, and turns every ending into an exit code.</summary>
internal static class CommandLine
{
    /// <summary>What the program is, for its help and its manual.</summary>
    public const string More = """
        Samepage finds identical pages in the memory of running, unmodified programs and lets
        them share one copy. A page that is written to becomes its program's own again.

        Examples:
          samepage doctor            # can this machine do it?
          samepage demo              # see it happen, on programs started for the purpose
          samepage daemon &          # serve
          samepage attach 4711 4712  # share memory between two running programs
          samepage detach --all      # give everything back
          samepage control           # the control files, as the kernel has them

        Environment:
          SAMEPAGE_RUN_DIR  where the daemon keeps its socket and state (default /run/samepage)

        Files:
          /etc/samepage/samepage.toml  which processes the daemon takes in by itself
        """;

    /// <returns>The exit code; see <see cref="ExitCode"/>.</returns>
    public static async Task<int> RunAsync(string[] arguments, Command[] commands)
    {
        Output.Install();
        RootCommand root = new("Shares identical memory pages between running programs.");
        foreach (Command command in commands)
            root.Add(command);
        HelpPage.Install(root, More);
        // No response files: '@' in an argument means itself.
        ParseResult parsed = root.Parse(arguments, new ParserConfiguration { ResponseFileTokenReplacer = null });
        if (parsed.Action is null or ParseErrorAction)
            return Complain(parsed);

        using TerminationSignals signals = new(hangup: parsed.CommandResult.Command.Name != DaemonCommand.Name);
        try
        {
            // The signals are ours: a daemon that is told to end takes the time that detaching needs, and ends with 0.
            return await parsed.InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null }, signals.Token);
        }
        catch (CommandException e)
        {
            return Fail(e.ExitCode, e.Message);
        }
        catch (Rules.RuleFileException wrong)
        {
            return Fail(ExitCode.BadUse, $"{wrong.Message}; nothing was done");
        }
        catch (OperationCanceledException) when (signals.Token.IsCancellationRequested)
        {
            return Fail(ExitCode.Failed, "interrupted");
        }
        catch (SyscallException e) when (e is { Call: "write", Errno: Errno.EPIPE })
        {
            // As if the signal had ended us: whoever read us has what he wanted.
            return ExitCode.ReaderGone;
        }
        catch (UnauthorizedAccessException e)
        {
            return Fail(ExitCode.NotPermitted, $"not permitted: {e.Message}");
        }
        catch (IOException e)
        {
            return Fail(ExitCode.Failed, $"input or output failed: {e.Message}");
        }
        catch (Exception e)
        {
            foreach (string line in e.ToString().Split('\n'))
                Output.Complain(line);
            return Fail(ExitCode.Failed, "an error in samepage itself; please report it with what stands above");
        }
    }

    private static int Complain(ParseResult parsed)
    {
        // A word that nothing takes is the cause; that a command is missing then only follows from it.
        string[] complaints = parsed.UnmatchedTokens.Count > 0
            ? [.. parsed.UnmatchedTokens.Select(word => $"unknown command, option or argument '{word}'")]
            : [.. parsed.Errors.Select(error => error.Message)];
        foreach (string complaint in complaints)
            Output.Complain(complaint);
        string command = parsed.CommandResult.Command is RootCommand ? "" : $" {parsed.CommandResult.Command.Name}";
        Output.Complain($"nothing was done; see: samepage{command} --help");
        return ExitCode.BadUse;
    }

    private static int Fail(int exitCode, string message)
    {
        Output.Complain(message);
        return exitCode;
    }
}
