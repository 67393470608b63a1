using System.CommandLine;
using System.Text;

namespace Samepage.Cli;

/// <summary><c>samepage manual</c>: the manual page samepage(1), made from the commands that there are, so that it cannot lag behind them.</summary>
internal static class ManualCommand
{
    private const string More = """
        Prints the manual page samepage(1), in the language of man(7). It says what --help of
        every command says.

        Example:
          samepage manual | man -l -
        """;

    /// <param name="introduction">What the root's own help says.</param>
    public static Command Create(string introduction)
    {
        DocumentedCommand command = new("manual", "Print the manual page samepage(1).", More);
        command.SetAction(parsed => Console.Out.Write(Page(parsed.RootCommandResult.Command, introduction)));
        return command;
    }

    private static string Page(Command root, string introduction)
    {
        StringBuilder page = new();
        page.Append(".\\\" Made by: samepage manual\n.TH SAMEPAGE 1 \"\" \"samepage ").Append(typeof(ManualCommand).Assembly.GetName().Version?.ToString(3)).Append("\" \"User commands\"\n");
        page.Append(".SH NAME\nsamepage \\- share identical memory pages between running programs\n");
        page.Append(".SH SYNOPSIS\n.B samepage\n.I COMMAND\n.RI [ OPTIONS ]\n.SH DESCRIPTION\n");
        Literal(page, introduction);
        page.Append(".SH COMMANDS\n");
        foreach (Command command in CommandTree.Commands(root))
        {
            page.Append(".SS \"").Append(Escaped(Synopsis(command))).Append("\"\n").Append(Escaped(command.Description ?? "")).Append('\n');
            foreach (Option option in CommandTree.Options(root, command))
            {
                page.Append(".TP\n.B ").Append(Escaped(option.Name));
                if (!CommandTree.IsFlag(option))
                    page.Append(" \\fI").Append(Escaped(option.HelpName ?? "VALUE")).Append("\\fR");
                page.Append('\n').Append(Escaped(option.Description ?? "")).Append('\n');
            }

            if (command is DocumentedCommand documented)
            {
                page.Append(".PP\n");
                Literal(page, documented.More);
            }
        }

        page.Append(".SH \"EXIT STATUS\"\n");
        Literal(page, HelpPage.ExitCodes);
        return page.Append(".SH \"SEE ALSO\"\n.BR samepaged (8),\n.BR samepage.toml (5),\n.BR ptrace (2),\n.BR userfaultfd (2),\n.BR madvise (2)\n").ToString();
    }

    private static string Synopsis(Command command) =>
        string.Join(' ', [$"samepage {command.Name}", .. command.Options.Any(option => !option.Hidden) ? ["[OPTIONS]"] : Array.Empty<string>(), .. command.Arguments.Select(argument =>
            $"{(argument.Arity.MinimumNumberOfValues == 0 ? "[" : "")}{argument.Name}{(argument.Arity.MaximumNumberOfValues > 1 ? "…" : "")}{(argument.Arity.MinimumNumberOfValues == 0 ? "]" : "")}")]);

    /// <summary>Text that is wrapped by hand, as it is.</summary>
    private static void Literal(StringBuilder page, string text) =>
        page.Append(".nf\n").Append(string.Join('\n', text.Split('\n').Select(Escaped))).Append("\n.fi\n");

    private static string Escaped(string text)
    {
        text = text.Replace("\\", "\\e", StringComparison.Ordinal).Replace("-", "\\-", StringComparison.Ordinal).Replace("…", "...", StringComparison.Ordinal).Replace("\"", "\\(dq", StringComparison.Ordinal);
        return text.StartsWith('.') || text.StartsWith('\'') ? "\\&" + text : text;
    }
}
