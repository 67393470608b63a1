namespace Samepage.Daemon;

/// <summary>The daemon in the foreground.</summary>
internal static class DaemonHost
{
    public static Task<int> RunAsync(CancellationToken cancellation)
    {
        Console.Error.WriteLine("samepage: this build has no daemon");
        return Task.FromResult(1);
    }
}
