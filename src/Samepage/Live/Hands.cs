using Samepage.Agent.Tracing;

namespace Samepage.Live;

/// <summary>Works on several processes at a time, one thread to each.</summary>
/// <remarks>What is done to one process is all done by one thread, because ptrace(2) belongs to the thread that seized; threads that it could not let go of
/// it looks after while it has nothing else to do. They inherit the priority of the thread that gives them work, which is always the same one.</remarks>
internal sealed class Hands : IDisposable
{
    private const int Most = 3;
    private static readonly TimeSpan LookAfter = TimeSpan.FromMilliseconds(50);
    private readonly object _changed = new();
    private readonly List<Thread> _threads = [];
    private Action<int> _work = static _ => { };
    private int _next, _count, _busy;
    private Exception? _failure;
    private bool _ended;

    /// <summary>Begins pieces of work, of which none may be under way. The caller goes on, on a processor of its own if there are two, and then calls <see cref="End"/>.</summary>
    /// <param name="count">How many pieces.</param>
    /// <param name="work">Does one. What it throws is thrown by <see cref="End"/>.</param>
    public void Begin(int count, Action<int> work)
    {
        Employ(Math.Min(count, Math.Clamp(Environment.ProcessorCount - 1, 1, Most)));
        lock (_changed)
        {
            (_work, _next, _count, _failure) = (work, 0, count, null);
            Monitor.PulseAll(_changed);
        }
    }

    /// <summary>Returns when all that was begun is done. The calling thread does its share.</summary>
    public void End()
    {
        while (TryOne())
            continue;
        lock (_changed)
        {
            while (_busy > 0)
                Monitor.Wait(_changed);
        }

        if (Interlocked.Exchange(ref _failure, null) is { } failure)
            throw new InvalidOperationException("a process could not be worked on", failure);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_changed)
        {
            _ended = true;
            Monitor.PulseAll(_changed);
        }

        foreach (Thread thread in _threads)
            thread.Join();
    }

    private void Employ(int count)
    {
        while (_threads.Count < count)
        {
            Thread thread = new(Run) { Name = $"hand {_threads.Count + 1}", IsBackground = true };
            _threads.Add(thread);
            thread.Start();
        }
    }

    private void Run()
    {
        for (; ; )
        {
            lock (_changed)
            {
                while (!_ended && _next >= _count)
                {
                    if (WorldStop.HasLingering)
                        _ = Monitor.Wait(_changed, LookAfter);
                    else
                        _ = Monitor.Wait(_changed);
                    WorldStop.LookAfterLingering();
                }

                if (_ended)
                    return;
            }

            while (TryOne())
                continue;
        }
    }

    /// <returns>False when nothing is left to begin.</returns>
    private bool TryOne()
    {
        int piece;
        lock (_changed)
        {
            if (_next >= _count)
                return false;
            piece = _next++;
            _busy++;
        }

        try
        {
            _work(piece);
        }
        catch (Exception failed)
        {
            _failure = failed;
        }
        finally
        {
            lock (_changed)
            {
                if (--_busy == 0)
                    Monitor.PulseAll(_changed);
            }
        }

        return true;
    }
}
