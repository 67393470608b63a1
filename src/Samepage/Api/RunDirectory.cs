namespace Samepage.Api;

/// <summary>Where the daemon keeps its socket and state, for the daemon and for those who call it.</summary>
internal static class RunDirectory
{
    /// <summary>The environment variable that moves it.</summary>
    public const string Variable = "SAMEPAGE_RUN_DIR";

    /// <summary>The directory.</summary>
    public static string Current => Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } set ? set : "/run/samepage";

    /// <summary>The daemon's socket in the directory.</summary>
    public static string SocketPath(string directory) => Path.Combine(directory, "samepage.sock");

    /// <summary>Where the control files are mounted in the directory, which must exist: a path without links, as mounts are named.</summary>
    public static string ControlPath(string directory) => Path.Combine(Linux.RealPath.Of(directory), "control");
}
