using System.Text;
using Samepage.Cli;
using Samepage.Linux;

namespace Samepage.Api;

/// <summary>Where the daemon keeps its socket and state, for the daemon and for those who call it.</summary>
internal static class RunDirectory
{
    /// <summary>The environment variable that moves it.</summary>
    public const string Variable = "SAMEPAGE_RUN_DIR";

    private const int SocketPathMax = 107; // sockaddr_un, unix(7), with the byte that ends it

    /// <summary>The directory.</summary>
    public static string Current => Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } set ? set : "/run/samepage";

    /// <summary>The daemon's socket in the directory.</summary>
    public static string SocketPath(string directory) => Path.Combine(directory, "samepage.sock");

    /// <summary>Where the control files are mounted in the directory, which must exist: a path without links, as mounts are named.</summary>
    public static string ControlPath(string directory) => Path.Combine(RealPath.Of(directory), "control");

    /// <summary>Looks at a directory before it is used: its path, and what stands there.</summary>
    /// <param name="directory">The directory; it need not be there.</param>
    /// <param name="parents">What leads to it must be root's and ours alone as well.</param>
    /// <returns>Whether it is there.</returns>
    /// <exception cref="CommandException">It cannot be used; nothing was changed.</exception>
    public static bool Check(string directory, bool parents)
    {
        string? wrong = null;
        bool isThere = false;
        if (directory[0] != '/')
            wrong = "a path from / is wanted, for what another means depends on where a program runs";
        else if (directory.Contains('\ufffd', StringComparison.Ordinal))
            wrong = "its bytes are no UTF-8";
        else if (Encoding.UTF8.GetByteCount(SocketPath(directory)) > SocketPathMax)
            wrong = $"the path of the socket in it is longer than the {SocketPathMax} bytes that unix(7) allows";
        else
            wrong = TrustedPath.WhyNot(directory, out isThere, parents, links: false);
        if (wrong is null && isThere && FileFacts.TryRead(directory, follow: false, out FileFacts facts) == Errno.None && facts.Kind != FileKind.Directory)
            wrong = $"it is {facts.Words}";
        return wrong is null
            ? isThere
            : throw new CommandException(ExitCode.BadUse, $"the run directory {directory} cannot be used: {wrong}", $"set {Variable} to a directory that is root's alone, such as /run/samepage");
    }

    /// <summary>Sees to it that the directory is there, and root's and ours alone.</summary>
    /// <exception cref="CommandException">It cannot be used.</exception>
    /// <exception cref="IOException">It cannot be made.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be made.</exception>
    public static void Prepare(string directory)
    {
        if (Check(directory, parents: true))
            return;
        // Everybody may pass, to the control files; the socket and the agents' records are root's alone.
        Directory.CreateDirectory(directory, (UnixFileMode)0b111_101_101);
        _ = Check(directory, parents: true);
    }
}
