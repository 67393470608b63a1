namespace Samepage.Cli;

/// <summary>Ends a command with a message for its user and an exit code.</summary>
/// <param name="exitCode">See <see cref="ExitCode"/>.</param>
/// <param name="problem">What was tried, on what, and what the system answered.</param>
/// <param name="remedy">What the user can do about it.</param>
internal sealed class CommandException(int exitCode, string problem, string remedy = "")
    : Exception(remedy.Length == 0 ? problem : $"{problem}; {remedy}")
{
    public int ExitCode => exitCode;

    public string Problem => problem;

    public string Remedy => remedy;

    /// <summary>The daemon that was to be asked is not there.</summary>
    public bool NobodyServes { get; init; }
}
