using System.Diagnostics;

namespace Samepage.SystemTests.Harness;

/// <summary>What one call of the command line came to.</summary>
internal sealed record Called(int ExitCode, string Output, string Errors)
{
    public override string ToString() => $"exit {ExitCode}\n{Output}\n{Errors}";
}

/// <summary>Calls the program as its users do.</summary>
internal static class Cli
{
    public static Task<Called> Run(string runFolder, params IEnumerable<string> arguments) => RunAs(null, runFolder, arguments);

    /// <param name="user">A user id to run as, without any privilege; null: as we are.</param>
    /// <param name="runFolder">The run directory.</param>
    /// <param name="arguments">What it is told.</param>
    /// <param name="seconds">It is given up after so long.</param>
    /// <param name="launcher">A program, and its arguments, that becomes it.</param>
    /// <param name="environment">What else is in its environment.</param>
    public static Task<Called> RunAs(int? user, string runFolder, IEnumerable<string> arguments, int seconds = 120, string[]? launcher = null, Dictionary<string, string>? environment = null)
    {
        string[] command = user is { } id
            ? ["setpriv", $"--reuid={id}", $"--regid={id}", "--clear-groups", .. Repository.Program, .. arguments]
            : [.. launcher ?? [], .. Repository.Program, .. arguments];
        var start = new ProcessStartInfo(command[0], command[1..]);
        start.Environment["SAMEPAGE_RUN_DIR"] = runFolder;
        start.Environment["DOTNET_CLI_HOME"] = runFolder;
        foreach ((string name, string value) in environment ?? [])
            start.Environment[name] = value;
        return Outside.Run(seconds, start);
    }
}
