using System.Diagnostics;

namespace Samepage.Daemon;

/// <summary>Has whoever reads figures see what programs did before: a look, on the scanner's thread, for all who wait for one.</summary>
/// <remarks>A read that comes while a look is under way waits for the next one, which begins behind it. Anybody may read, as often as he likes: so looks take a fifth of the time at most, and no read waits for longer than
/// <see cref="Bound"/>, whoever keeps the look. Without readers there is none.</remarks>
/// <param name="pump">The scanner's.</param>
/// <param name="look">Looks, and publishes the figures; ends within about <see cref="Bound"/>.</param>
internal sealed class FigureReads(ThreadPump pump, Func<Task> look)
{
    /// <summary>The longest that a read waits: who reads cannot be interrupted.</summary>
    public static readonly TimeSpan Bound = TimeSpan.FromSeconds(10);

    /// <summary>How much of that one program may take.</summary>
    public static readonly TimeSpan Patience = Bound * 0.8;

    private const int PausesToALook = 4;
    private static readonly TimeSpan LeastPause = TimeSpan.FromMilliseconds(1), PollInterval = TimeSpan.FromSeconds(1);
    private readonly Lock _changing = new();
    private TaskCompletionSource? _next;
    private bool _serves;
    private long _scansReadAt, _polledAt;

    /// <summary>Somebody polls the number of scans: it was read twice within a second, the last time within the last.</summary>
    public bool AreScansAwaited => Volatile.Read(ref _polledAt) is not 0 and var polled && Stopwatch.GetElapsedTime(polled) < PollInterval;

    /// <summary>Notes that the number of scans is read. Any thread.</summary>
    public void NoteScansRead()
    {
        long now = Stopwatch.GetTimestamp(), before = Interlocked.Exchange(ref _scansReadAt, now);
        if (before != 0 && Stopwatch.GetElapsedTime(before, now) < PollInterval)
            Volatile.Write(ref _polledAt, now);
    }

    /// <summary>Ends when a look that begins from now on has ended, or that has taken too long. Any thread.</summary>
    public async Task Next()
    {
        Task next;
        bool begins;
        lock (_changing)
        {
            next = (_next ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).Task;
            (begins, _serves) = (!_serves, true);
        }

        if (begins)
            pump.Post(_ => Serve(), null);
        try
        {
            await next.WaitAsync(Bound).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            // What is known is said then.
        }
    }

    /// <summary>Looks until nobody waits. On the scanner's thread, which ends where this fails.</summary>
    private async void Serve()
    {
        for (; ; )
        {
            TaskCompletionSource? asked;
            lock (_changing)
            {
                (asked, _next) = (_next, null);
                _serves = asked is not null;
            }

            if (asked is null)
                return;
            long since = Stopwatch.GetTimestamp();
            await look();
            asked.SetResult();
            TimeSpan pause = PausesToALook * Stopwatch.GetElapsedTime(since);
            await Task.Delay(pause < LeastPause ? LeastPause : pause < PollInterval ? pause : PollInterval);
        }
    }
}
