using System.Collections.Concurrent;
using System.Diagnostics;
using Samepage.Api;
using Samepage.Linux;
using Samepage.Linux.Processes;

namespace Samepage.Daemon;

/// <summary>The scanner's thread: passes over all processes, and the requests that come in between. Everything that touches a target runs here.</summary>
/// <remarks>Requests are served between two visits. <see cref="Status"/> is the figures of the last moment between visits, and can be read by any thread.</remarks>
internal sealed class ScannerService(ILogger<ScannerService> logger, Guardian guardian, IHostApplicationLifetime lifetime) : IDisposable
{
    private static readonly TimeSpan BusyPause = TimeSpan.FromMilliseconds(50), IdlePause = TimeSpan.FromSeconds(1);
    private readonly ConcurrentQueue<Action<Coordinator>> _requests = [];
    private readonly EventSignal _asked = new();
    private readonly TaskCompletionSource<bool> _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private volatile StatusReport? _status;
    private volatile bool _stopping;

    /// <summary>The latest figures; null before the thread runs.</summary>
    public StatusReport? Status => _status;

    /// <summary>Starts the thread.</summary>
    public void Start() => new Thread(Run) { Name = "scanner", IsBackground = false }.Start();

    /// <summary>Runs a request on the scanner's thread.</summary>
    public Task<T> Ask<T>(Func<Coordinator, T> request)
    {
        TaskCompletionSource<T> answer = new(TaskCreationOptions.RunContinuationsAsynchronously);
        Put(coordinator =>
        {
            try
            {
                answer.SetResult(request(coordinator));
            }
            catch (Exception failed)
            {
                logger.LogError(failed, "a request failed");
                answer.SetException(failed);
            }
        });
        return answer.Task;
    }

    /// <summary>Gives everybody back, then ends the thread.</summary>
    /// <returns>Whether everybody was given back.</returns>
    public Task<bool> StopAsync()
    {
        _stopping = true;
        _asked.Set();
        return _ended.Task;
    }

    /// <inheritdoc/>
    public void Dispose() => _asked.Dispose();

    private void Put(Action<Coordinator> request)
    {
        _requests.Enqueue(request);
        _asked.Set();
    }

    private void Run()
    {
        try
        {
            Scheduling.BeNice(5);
            using Coordinator coordinator = new(logger, new AgentRecords(DaemonHost.RunDirectory)) { CompanionBytes = guardian.ResidentBytes };
            _status = coordinator.Report();
            while (!_stopping)
                Pass(coordinator);
            bool all = true;
            foreach (int pid in coordinator.Pids())
            {
                if (coordinator.Detach(pid) is not { Done: false } left)
                    continue;
                logger.LogError("process {Pid} is left as it is, and given back later by the guardian: {Reason}", pid, left.Reason);
                all = false;
            }

            _ended.SetResult(all);
        }
        catch (Exception failed)
        {
            // The guardian gives everybody back when this process ends: better than going on with a state that nobody understands.
            logger.LogCritical(failed, "the scanner failed; the daemon ends, and its guardian gives every process back");
            _ended.SetException(failed);
            Environment.ExitCode = 1;
            lifetime.StopApplication();
        }
    }

    private void Pass(Coordinator coordinator)
    {
        long start = Stopwatch.GetTimestamp();
        foreach (int pid in coordinator.Pids())
        {
            Serve(coordinator, TimeSpan.Zero);
            if (_stopping)
                return;
            if (coordinator.Visit(pid))
                _status = coordinator.Report();
        }

        coordinator.EndPass();
        _status = coordinator.Report();
        TimeSpan pause = coordinator.IsBusy ? BusyPause : IdlePause;
        do
        {
            TimeSpan left = pause - Stopwatch.GetElapsedTime(start);
            Serve(coordinator, left > TimeSpan.Zero ? left : TimeSpan.Zero);
            if (coordinator.IsBusy && pause != BusyPause)
                pause = BusyPause;
        }
        while (!_stopping && Stopwatch.GetElapsedTime(start) < pause);
    }

    /// <summary>Serves what waits, and waits at most so long for the first.</summary>
    private void Serve(Coordinator coordinator, TimeSpan wait)
    {
        if (wait > TimeSpan.Zero && _requests.IsEmpty)
            _asked.Wait(wait);
        // Cleared before the queue is looked at: what comes later sets it again.
        if (!_requests.IsEmpty || wait > TimeSpan.Zero)
            _asked.Clear();
        while (_requests.TryDequeue(out Action<Coordinator>? request))
        {
            request(coordinator);
            _status = coordinator.Report();
        }
    }
}
