namespace Samepage.Cli;

/// <summary>The exit codes of every command.</summary>
internal static class ExitCode
{
    /// <summary>What was asked for is done.</summary>
    public const int Done = 0;

    /// <summary>It was tried and failed, wholly or in part.</summary>
    public const int Failed = 1;

    /// <summary>The command line makes no sense; nothing was tried.</summary>
    public const int BadUse = 2;

    /// <summary>Not permitted, or the kernel is too old.</summary>
    public const int NotPermitted = 3;

    /// <summary>Whoever read our output went away: what a shell tells of a program that SIGPIPE ended.</summary>
    public const int ReaderGone = 128 + 13;
}
