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
    public static Task<Called> RunAs(int? user, string runFolder, IEnumerable<string> arguments, int seconds = 120)
    {
        string[] command = user is { } id
            ? ["setpriv", $"--reuid={id}", $"--regid={id}", "--clear-groups", .. Repository.Program, .. arguments]
            : [.. Repository.Program, .. arguments];
        var start = new ProcessStartInfo(command[0], command[1..]);
        start.Environment["SAMEPAGE_RUN_DIR"] = runFolder;
        start.Environment["DOTNET_CLI_HOME"] = runFolder;
        return Outside.Run(seconds, start);
    }
}
