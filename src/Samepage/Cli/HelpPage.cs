using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace Samepage.Cli;

/// <summary>Help that goes on where the generated page ends: what the command does, an example, exit codes.</summary>
/// <remarks>
/// The one-line description stands alone in the list of commands, so it cannot carry this text. Commands give it by
/// <see cref="DocumentedCommand"/>; the root gives its own.
/// </remarks>
internal sealed class HelpPage(HelpAction generated, string rootText) : SynchronousCommandLineAction
{
    /// <summary>The codes that most commands share.</summary>
    public const string ExitCodes = """
        Exit codes:
          0  done
          1  failed, or done only in part
          2  bad use; nothing was changed
          3  not permitted, or the kernel is too old
          141  whoever read the output went away, as of a program that SIGPIPE ended
        """;

    // Help is asked for with arguments missing as a rule: those are no errors then.
    public override bool ClearsParseErrors => true;

    /// <summary>Puts the page in place of the generated one, for the root and every command under it.</summary>
    public static void Install(RootCommand root, string rootText)
    {
        HelpOption option = root.Options.OfType<HelpOption>().Single();
        option.Action = new HelpPage((HelpAction)option.Action!, rootText);
    }

    public override int Invoke(ParseResult parseResult)
    {
        generated.Invoke(parseResult);
        TextWriter output = parseResult.InvocationConfiguration.Output;
        output.WriteLine(parseResult.CommandResult.Command is DocumentedCommand command ? command.More : rootText);
        output.WriteLine();
        output.WriteLine(ExitCodes);
        return ExitCode.Done;
    }
}

/// <summary>A command whose help has more to say than a line.</summary>
/// <param name="name">What is typed.</param>
/// <param name="summary">One line, for the list of commands.</param>
/// <param name="more">What it does in full, with an example; wrapped by hand at 90 columns.</param>
internal sealed class DocumentedCommand(string name, string summary, string more) : Command(name, summary)
{
    public string More => more;
}
