using System.CommandLine;
using System.Text;

namespace Samepage.Cli;

/// <summary><c>samepage completion</c>: scripts that complete commands, options and process ids, made from the commands that there are.</summary>
internal static class CompletionCommand
{
    private const string More = """
        Prints a script that lets a shell complete samepage's commands, options and process ids.
        Debian's package has installed them.

        Examples:
          . <(samepage completion bash)
          samepage completion zsh > ~/.zfunc/_samepage
          samepage completion fish > ~/.config/fish/completions/samepage.fish
        """;

    public static Command Create()
    {
        Argument<string> shell = new("SHELL") { Description = "bash, zsh or fish." };
        shell.AcceptOnlyFromAmong("bash", "zsh", "fish");
        DocumentedCommand command = new("completion", "Print a completion script for a shell.", More) { shell };
        command.SetAction(parsed =>
        {
            Command root = parsed.RootCommandResult.Command;
            Console.Out.Write(parsed.GetRequiredValue(shell) switch { "bash" => Bash(root), "zsh" => Zsh(root), _ => Fish(root) });
        });
        return command;
    }

    private static string Bash(Command root)
    {
        StringBuilder words = new(), values = new();
        foreach (Command command in CommandTree.Commands(root))
        {
            Option[] options = CommandTree.Options(root, command);
            words.Append($"        {command.Name}) words='{string.Join(' ', options.Select(option => option.Name))}'");
            words.Append(CommandTree.TakesPids(command) ? " pids=1" : "").Append(CommandTree.TakesPaths(command) ? " files=1" : "").Append(" ;;\n");
            foreach (Option option in options.Where(option => !CommandTree.IsFlag(option)))
            {
                values.Append($"        '{command.Name} {option.Name}') words='{string.Join(' ', CommandTree.Values(option))}' pids= files={(CommandTree.TakesPath(option) ? "1" : "")} ;;\n");
            }
        }

        return $$"""
            # Completes samepage in bash. Made by: samepage completion bash
            _samepage() {
                local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command='' words='' pids='' files=''
                [ "$COMP_CWORD" -gt 1 ] && command=${COMP_WORDS[1]}
                case $command in
                    '') words='{{string.Join(' ', CommandTree.Commands(root).Select(command => command.Name))}} --help --version' ;;
            {{Indented(words)}}
                esac
                case "$command $prev" in
                    ' ') ;;
            {{Indented(values)}}
                esac
                [ -z "$pids" ] || words="$words $(cd /proc && printf '%s ' [0-9]*)"
                COMPREPLY=($(compgen -W "$words" -- "$cur"))
                [ -z "$files" ] || COMPREPLY+=($(compgen -f -- "$cur"))
            }
            complete -F _samepage samepage

            """;
    }

    private static string Zsh(Command root)
    {
        StringBuilder commands = new(), cases = new();
        foreach (Command command in CommandTree.Commands(root))
        {
            commands.Append($"        '{Quoted(command.Name, command.Description)}'\n");
            IEnumerable<string> specs = CommandTree.Options(root, command).Select(option =>
            {
                string value = CommandTree.IsFlag(option) ? "" : CommandTree.Values(option) is { Length: > 0 } few ? $":value:({string.Join(' ', few)})" : CommandTree.TakesPath(option) ? ":file:_files" : ":value: ";
                return $"'{option.Name}[{Quoted("", option.Description)[1..].Replace("[", "\\[", StringComparison.Ordinal).Replace("]", "\\]", StringComparison.Ordinal)}]{value}'";
            });
            string rest = CommandTree.TakesPids(command) ? " '*:process:_pids'" : CommandTree.TakesPaths(command) ? " '*:file:_files'" : command.Name == "completion" ? " '1:shell:(bash zsh fish)'" : "";
            cases.Append($"        {command.Name}) _arguments {string.Join(' ', specs)}{rest} ;;\n");
        }

        return $$"""
            #compdef samepage
            # Completes samepage in zsh. Made by: samepage completion zsh
            _samepage() {
                local -a commands
                commands=(
            {{commands.ToString().TrimEnd()}}
                )
                if (( CURRENT == 2 )); then
                    _describe -t commands command commands
                    return
                fi
                local command=$words[2]
                shift words
                (( CURRENT-- ))
                case $command in
            {{cases.ToString().TrimEnd()}}
                esac
            }
            _samepage "$@"

            """;
    }

    private static string Fish(Command root)
    {
        StringBuilder script = new("# Completes samepage in fish. Made by: samepage completion fish\ncomplete -c samepage -f\n");
        foreach (Command command in CommandTree.Commands(root))
        {
            script.Append($"complete -c samepage -n __fish_use_subcommand -a {command.Name} -d '{FishQuoted(command.Description)}'\n");
            string within = $"complete -c samepage -n '__fish_seen_subcommand_from {command.Name}'";
            foreach (Option option in CommandTree.Options(root, command))
            {
                string value = CommandTree.IsFlag(option) ? "" : CommandTree.TakesPath(option) ? " -r -F" : CommandTree.Values(option) is { Length: > 0 } few ? $" -x -a '{string.Join(' ', few)}'" : " -x";
                script.Append($"{within} -l {option.Name[2..]}{value} -d '{FishQuoted(option.Description)}'\n");
            }

            if (CommandTree.TakesPids(command))
                script.Append($"{within} -a '(__fish_complete_pids)'\n");
            if (CommandTree.TakesPaths(command))
                script.Append($"{within} -F\n");
            if (command.Name == "completion")
                script.Append($"{within} -a 'bash zsh fish'\n");
        }

        return script.ToString();
    }

    private static string Indented(StringBuilder lines) => lines.ToString().TrimEnd();

    private static string Quoted(string name, string? text) => $"{name}:{text?.Replace("'", "'\\''", StringComparison.Ordinal).Replace(":", "\\:", StringComparison.Ordinal)}";

    private static string FishQuoted(string? text) => text?.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("'", "\\'", StringComparison.Ordinal) ?? "";
}
