using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;

namespace Samepage.Cli;

/// <summary>The arguments and options that more than one command takes.</summary>
internal static class Arguments
{
    private const int PidsMax = 4096;

    /// <summary>Process ids: decimal, positive, at most 4096 of them; one named twice counts once.</summary>
    public static Argument<int[]> Pids(ArgumentArity arity) => new("PID")
    {
        Description = "Process ids.",
        Arity = arity,
        CustomParser = Parse,
    };

    /// <summary>One process id.</summary>
    public static Argument<int[]> Pid() => Pids(ArgumentArity.ExactlyOne);

    /// <summary>A whole number of a range, by default <paramref name="value"/>; one below the least is none.</summary>
    public static Option<int> Number(string name, string helpName, string description, int value, int min, int max)
    {
        Option<int> option = new(name) { Description = description, HelpName = helpName };
        if (value >= min)
            option.DefaultValueFactory = _ => value;
        option.Validators.Add(result =>
        {
            if (result.Tokens.Count == 1 && (!int.TryParse(result.Tokens[0].Value, NumberStyles.None, CultureInfo.InvariantCulture, out int given) || given < min || given > max))
                result.AddError($"{name}: {min} to {max} are wanted, not '{result.Tokens[0].Value}'");
        });
        return option;
    }

    /// <summary>A path that was given, from <c>/</c> on.</summary>
    /// <param name="option">Where it was given.</param>
    /// <param name="path">What was given.</param>
    /// <exception cref="CommandException">It is none.</exception>
    public static string FullPath(string option, string path)
    {
        if (path.Length == 0 || path.Contains('\ufffd', StringComparison.Ordinal))
            throw new CommandException(ExitCode.BadUse, path.Length == 0 ? $"{option}: the path is empty" : $"{option}: the path '{path}' has bytes that are no UTF-8", "nothing was done");
        try
        {
            return Path.GetFullPath(path);
        }
        catch (IOException gone)
        {
            throw new CommandException(ExitCode.BadUse, $"{option}: '{path}' leads nowhere from the directory that this was started in: {gone.Message}", "give a path from /");
        }
    }

    /// <summary><c>--json</c>.</summary>
    public static Option<bool> Json() => new("--json") { Description = "Print JSON for programs instead of text for people." };

    private static int[] Parse(ArgumentResult result)
    {
        List<int> pids = [];
        foreach (Token token in result.Tokens)
        {
            if (!int.TryParse(token.Value, NumberStyles.None, CultureInfo.InvariantCulture, out int pid) || pid == 0)
                result.AddError(Refusal(token.Value));
            else if (!pids.Contains(pid))
                pids.Add(pid);
        }
        if (pids.Count > PidsMax)
            result.AddError($"{pids.Count} process ids were given, and one request takes at most {PidsMax}");
        return [.. pids];
    }

    // An unknown option arrives here as well, as it stands where process ids may.
    private static string Refusal(string word) => word.StartsWith('-')
        ? $"'{word}' is neither an option of this command nor a process id"
        : $"'{word}' is not a process id: a positive decimal number up to {int.MaxValue}";
}
