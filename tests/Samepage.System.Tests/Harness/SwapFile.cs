namespace Samepage.SystemTests.Harness;

/// <summary>A swap file that is in use for the time of a test.</summary>
internal sealed class SwapFile : IAsyncDisposable
{
    /// <summary>The tests that turn swap on, and those that another's swap would give room to, run one after another.</summary>
    public const string Machine = "the machine's swap";

    private readonly string _path;

    private SwapFile(string path) => _path = path;

    public static async Task<SwapFile> On(long bytes)
    {
        string path = Path.Combine(Path.GetTempPath(), $"samepage-swap-{Environment.ProcessId}");
        // Written, not only reserved: swap files have no holes.
        await Outside.Must(60, "dd", "if=/dev/zero", $"of={path}", "bs=1M", $"count={bytes >> 20}", "status=none");
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        await Outside.Must(10, "mkswap", path);
        Called on = await Outside.Run(10, "swapon", path);
        if (on.ExitCode != 0)
            File.Delete(path);
        Assert.SkipUnless(on.ExitCode == 0, $"needs a file system and privileges for a swap file: {on}");
        return new SwapFile(path);
    }

    public async ValueTask DisposeAsync()
    {
        await Outside.Must(60, "swapoff", _path);
        File.Delete(_path);
    }
}
