using System.Collections.Concurrent;
using Samepage.Linux;

namespace Samepage.Daemon;

/// <summary>Lets asynchronous methods of one thread go on between the pieces of its other work.</summary>
/// <remarks>While it is the thread's <see cref="SynchronizationContext"/>, whoever awaits something there goes on there, when <see cref="Serve"/> is called. So what waits for one program is written
/// as one method, and keeps nobody.</remarks>
internal sealed class ThreadPump : SynchronizationContext, IDisposable
{
    private readonly ConcurrentQueue<(SendOrPostCallback Work, object? State)> _posted = [];
    private readonly EventSignal _signal = new();
    private static readonly TimeSpan LookAgain = TimeSpan.FromMilliseconds(50);

    /// <inheritdoc/>
    public override void Post(SendOrPostCallback d, object? state)
    {
        _posted.Enqueue((d, state));
        Wake();
    }

    /// <summary>Ends the wait of who serves. Any thread.</summary>
    public void Wake() => _signal.Set();

    /// <summary>Does what has been posted, and waits at most so long for the first. The thread whose pump it is.</summary>
    public void Serve(TimeSpan wait)
    {
        if (wait > TimeSpan.Zero && _posted.IsEmpty)
            _signal.Wait(wait);
        // Cleared before the queue is looked at: what comes later sets it again.
        if (!_posted.IsEmpty || wait > TimeSpan.Zero)
            _signal.Clear();
        while (_posted.TryDequeue(out (SendOrPostCallback Work, object? State) next))
            next.Work(next.State);
    }

    /// <summary>Runs an asynchronous method on the calling thread to its end.</summary>
    /// <returns>What it returns.</returns>
    public static T Run<T>(Func<Task<T>> method)
    {
        // Not disposed: what nobody waits for may post to it later.
        ThreadPump pump = new();
        SynchronizationContext? before = Current;
        SetSynchronizationContext(pump);
        try
        {
            Task<T> task = method();
            while (!task.IsCompleted)
                pump.Serve(LookAgain);
            return task.GetAwaiter().GetResult();
        }
        finally
        {
            SetSynchronizationContext(before);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _signal.Dispose();
}
