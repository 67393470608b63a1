namespace Samepage.SystemTests.Harness;

/// <summary>A daemon for all tests of a class. One that a test has brought down is noticed there, and replaced for the next test.</summary>
public sealed class SharedDaemon : IAsyncLifetime
{
    internal DaemonUnderTest? Daemon { get; set; }

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public async ValueTask DisposeAsync()
    {
        if (Daemon is not null)
            await Daemon.DisposeAsync();
    }
}

/// <summary>A class of tests that share a daemon.</summary>
public abstract class OnOneDaemon(SharedDaemon shared) : IClassFixture<SharedDaemon>, IAsyncLifetime
{
    internal DaemonUnderTest Daemon => shared.Daemon ?? throw new InvalidOperationException("no daemon");

    public async ValueTask InitializeAsync()
    {
        Needs.Root();
        if (shared.Daemon is { HasExited: true } dead)
        {
            await dead.DisposeAsync();
            shared.Daemon = null;
        }

        shared.Daemon ??= await DaemonUnderTest.Start();
    }

    public ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        if (shared.Daemon is { HasExited: true } dead)
            Assert.Fail($"the daemon did not survive this test: {dead.Tail}");
        return ValueTask.CompletedTask;
    }
}
