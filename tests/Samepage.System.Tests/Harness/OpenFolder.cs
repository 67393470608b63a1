namespace Samepage.SystemTests.Harness;

/// <summary>A folder with a target in it that every user may run: the checkout may be closed to others.</summary>
internal sealed class OpenFolder : IDisposable
{
    private const UnixFileMode All = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute;
    private readonly DirectoryInfo _folder;

    /// <param name="target">The target.</param>
    /// <param name="prefix">How the folder's name begins; see <see cref="Repository.OthersExcluded"/>.</param>
    public OpenFolder(string target, string prefix = "samepage-open-")
    {
        _folder = Directory.CreateTempSubdirectory(prefix);
        File.SetUnixFileMode(_folder.FullName, All);
        Target = Path.Combine(_folder.FullName, target);
        Repository.CopyTarget(target, Target);
        File.SetUnixFileMode(Target, All);
    }

    /// <summary>The target's path.</summary>
    public string Target { get; }

    /// <summary>Starts it as some user without any privilege, and returns when it is ready.</summary>
    public async Task<LiveProgram> Start(uint user, params IEnumerable<string> arguments)
    {
        var program = LiveProgram.Start(Needs.Program("setpriv", "util-linux"), [$"--reuid={user}", $"--regid={user}", "--clear-groups", Target, .. arguments]);
        await program.Ready(120);
        return program;
    }

    public void Dispose() => _folder.Delete(recursive: true);
}
