using System.CommandLine;
using System.CommandLine.Help;

namespace Samepage.Cli;

/// <summary>The commands and options that there are, for what is made of them: completions and the manual.</summary>
internal static class CommandTree
{
    /// <summary>The commands, without those that are for ourselves.</summary>
    public static Command[] Commands(Command root) => [.. root.Subcommands.Where(command => !command.Hidden)];

    /// <summary>A command's options, the one for help among them.</summary>
    public static Option[] Options(Command root, Command command) =>
        [.. command.Options.Where(option => !option.Hidden && option is not HelpOption), .. root.Options.OfType<HelpOption>()];

    /// <summary>Whether an option stands alone.</summary>
    public static bool IsFlag(Option option) => option is HelpOption || option.ValueType == typeof(bool);

    /// <summary>The values that an option takes, where these are a few words.</summary>
    public static string[] Values(Option option) => option.HelpName?.Contains('|', StringComparison.Ordinal) == true ? option.HelpName.Split('|') : [];

    /// <summary>Whether an option takes a path.</summary>
    public static bool TakesPath(Option option) => option.HelpName is "FILE" or "DIR" or "DIRECTORY" or "PATH";

    /// <summary>Whether process ids may stand behind a command.</summary>
    public static bool TakesPids(Command command) => command.Arguments.Any(argument => argument.Name == "PID");

    /// <summary>Whether paths may stand behind a command.</summary>
    public static bool TakesPaths(Command command) => command.Arguments.Any(argument => argument.Name is "FILE" or "DIR" or "PATH");
}
