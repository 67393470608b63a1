using System.Diagnostics;

namespace Samepage.SystemTests.Harness;

/// <summary>A swap file that is in use for the time of a test.</summary>
internal sealed class SwapFile : IAsyncDisposable
{
    private readonly string _path;

    private SwapFile(string path) => _path = path;

    public static async Task<SwapFile> On(long bytes)
    {
        string path = Path.Combine(Path.GetTempPath(), $"samepage-swap-{Environment.ProcessId}");
        // Written, not only reserved: swap files have no holes.
        await Must("dd", "if=/dev/zero", $"of={path}", "bs=1M", $"count={bytes >> 20}", "status=none");
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        await Must("mkswap", path);
        (int status, string said) = await Run("swapon", path);
        if (status != 0)
            File.Delete(path);
        Assert.SkipUnless(status == 0, $"needs a file system and privileges for a swap file: {said}");
        return new SwapFile(path);
    }

    public async ValueTask DisposeAsync()
    {
        await Must("swapoff", _path);
        File.Delete(_path);
    }

    private static async Task Must(string program, params string[] arguments)
    {
        (int status, string said) = await Run(program, arguments);
        Assert.True(status == 0, $"{program} {string.Join(' ', arguments)}: {said}");
    }

    private static async Task<(int Status, string Said)> Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        Task<string> said = process.StandardOutput.ReadToEndAsync(), error = process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        return (process.ExitCode, await said + await error);
    }
}
