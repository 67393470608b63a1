using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net.Sockets;

namespace Samepage.SystemTests.Harness;

/// <summary>Asks daemons for their status all the time, one question at a time, and takes down how long each answer took.</summary>
/// <remarks>How long is a figure. Only an answer that does not come in minutes is a fault: then it says where each thread of the daemon stands.</remarks>
internal sealed class StatusWatch
{
    private const int Bound = 180;
    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(50);
    private readonly ConcurrentBag<TimeSpan> _took = [];

    public int Answers => _took.Count;

    public TimeSpan Longest => _took.IsEmpty ? TimeSpan.Zero : _took.Max();

    /// <summary>Answers that took longer than a second.</summary>
    public int Late => _took.Count(took => took > TimeSpan.FromSeconds(1));

    /// <summary>What so many of a hundred answers took at most.</summary>
    public TimeSpan Percentile(int percent) => _took.IsEmpty ? TimeSpan.Zero : _took.Order().ElementAt((_took.Count - 1) * percent / 100);

    /// <summary>Asks a daemon that serves until it is about to end.</summary>
    /// <param name="daemon">The daemon.</param>
    /// <param name="ends">Set before the daemon is ended: it need not answer from then on.</param>
    public async Task Watch(DaemonUnderTest daemon, CancellationToken ends)
    {
        while (!ends.IsCancellationRequested)
        {
            var clock = Stopwatch.StartNew();
            using var bound = CancellationTokenSource.CreateLinkedTokenSource(ends);
            bound.CancelAfter(TimeSpan.FromSeconds(Bound));
            try
            {
                _ = WireStatus.Parse(await daemon.Get("/v1/status", bound.Token));
                _took.Add(clock.Elapsed);
                await Task.Delay(s_pause, ends);
            }
            catch (Exception unanswered) when (unanswered is HttpRequestException or IOException or SocketException or OperationCanceledException or ObjectDisposedException)
            {
                if (!ends.IsCancellationRequested)
                    Assert.Fail($"no answer to /v1/status after {clock.Elapsed}: {unanswered.Message}\n{daemon.Tail}\n{ProcessView.Of(daemon.Pid).Stacks}");
            }
        }
    }
}
