using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace Samepage.Daemon;

/// <summary>Tells the service manager how things stand, sd_notify(3), and that the scanner is alive, as often as it wants to hear it.</summary>
/// <remarks>Alive means that the scanner's thread has answered: a daemon whose API is there but whose scanner is stuck is not.</remarks>
internal sealed class ServiceManager : IDisposable
{
    private readonly Socket _socket = new(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
    private readonly CancellationTokenSource _ended = new();
    private readonly UnixDomainSocketEndPoint _where;

    private ServiceManager(UnixDomainSocketEndPoint where) => _where = where;

    /// <summary>What we write to standard error goes to its journal, systemd.exec(5).</summary>
    public static bool HasJournal => Environment.GetEnvironmentVariable("JOURNAL_STREAM") is { } stream &&
        new FileInfo("/proc/self/fd/2").LinkTarget == $"socket:[{stream[(stream.IndexOf(':', StringComparison.Ordinal) + 1)..]}]";

    /// <summary>The manager that has started this process; null when none has that wants to be told.</summary>
    public static ServiceManager? Find()
    {
        string? path = Environment.GetEnvironmentVariable("NOTIFY_SOCKET");
        // Not for the programs that we start.
        Environment.SetEnvironmentVariable("NOTIFY_SOCKET", null);
        if (path is not ['/' or '@', _, ..])
            return null;
        return new ServiceManager(new UnixDomainSocketEndPoint(path[0] == '@' ? "\0" + path[1..] : path));
    }

    /// <summary>Says that the daemon serves, and from now on that it is alive, if that is wanted.</summary>
    /// <param name="scanner">Whose answer it takes.</param>
    public void Ready(ScannerService scanner)
    {
        Say("READY=1");
        if (WatchdogInterval() is { } interval)
            _ = WatchAsync(scanner, interval / 2);
    }

    /// <summary>Says that the daemon is about to end.</summary>
    public void Stopping()
    {
        _ended.Cancel();
        Say("STOPPING=1");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _ended.Cancel();
        _ended.Dispose();
        _socket.Dispose();
    }

    private async Task WatchAsync(ScannerService scanner, TimeSpan interval)
    {
        try
        {
            using PeriodicTimer timer = new(interval);
            do
            {
                await scanner.Ask(static _ => true).WaitAsync(_ended.Token);
                Say("WATCHDOG=1");
            }
            while (await timer.WaitForNextTickAsync(_ended.Token));
        }
        catch (OperationCanceledException)
        {
            // The daemon ends; nobody waits for a sign of life any more.
        }
    }

    /// <summary>How often a sign of life is wanted at least, sd_watchdog_enabled(3); null when none is.</summary>
    private static TimeSpan? WatchdogInterval()
    {
        string? pid = Environment.GetEnvironmentVariable("WATCHDOG_PID");
        if (pid is { Length: > 0 } && pid != Environment.ProcessId.ToString(CultureInfo.InvariantCulture))
            return null;
        return long.TryParse(Environment.GetEnvironmentVariable("WATCHDOG_USEC"), NumberStyles.None, CultureInfo.InvariantCulture, out long microseconds) && microseconds > 0
            ? TimeSpan.FromMicroseconds(microseconds)
            : null;
    }

    private void Say(string state)
    {
        try
        {
            _ = _socket.SendTo(Encoding.UTF8.GetBytes(state), _where);
        }
        catch (SocketException)
        {
            // A manager that has gone is not told; our work goes on.
        }
    }
}
