using System.Collections.Concurrent;

namespace Samepage.Live;

/// <summary>A thread that reads pages and writes frames while the scanner's looks pages up.</summary>
/// <remarks>What is begun is done in that order. All calls are the scanner's thread's; the aide's has its priority, because that makes it.</remarks>
internal sealed class Aide : IDisposable
{
    private readonly BlockingCollection<Task> _work = [];
    private Thread? _thread;

    /// <summary>Begins a piece of work; does it at once where there is one processor only.</summary>
    public Task Begin(Action work) => Add(new Task(work));

    /// <inheritdoc cref="Begin(Action)"/>
    public Task<T> Begin<T>(Func<T> work) => Add(new Task<T>(work));

    /// <inheritdoc/>
    public void Dispose()
    {
        _work.CompleteAdding();
        _thread?.Join();
        _work.Dispose();
    }

    private T Add<T>(T task)
        where T : Task
    {
        if (Environment.ProcessorCount == 1)
        {
            task.RunSynchronously(TaskScheduler.Default);
            return task;
        }

        if (_thread is null)
        {
            _thread = new Thread(Run) { Name = "aide", IsBackground = true };
            _thread.Start();
        }

        _work.Add(task);
        return task;
    }

    private void Run()
    {
        foreach (Task task in _work.GetConsumingEnumerable())
            task.RunSynchronously(TaskScheduler.Default);
    }
}
