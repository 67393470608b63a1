using System.Collections.Concurrent;
using Samepage.Daemon;

namespace Samepage.LinuxTests;

/// <summary>Asynchronous methods of one thread go on one step at a time.</summary>
internal sealed class StepByStep : SynchronizationContext
{
    private readonly BlockingCollection<(SendOrPostCallback Work, object? State)> _posted = [];

    /// <summary>Those of the calling thread, from here on.</summary>
    public static StepByStep Here()
    {
        StepByStep steps = new();
        SetSynchronizationContext(steps);
        return steps;
    }

    /// <summary>One visit of a process, to its end.</summary>
    public static void Pass(Coordinator coordinator, int pid)
    {
        VisitProgress progress;
        do
        {
            long pages = 1 << 20;
            progress = coordinator.Visit(pid, ref pages);
        }
        while (progress == VisitProgress.Unfinished);
        _ = coordinator.EndPass(isScan: true);
    }

    public override void Post(SendOrPostCallback d, object? state) => _posted.Add((d, state));

    public T Run<T>(Task<T> task, Action? before = null)
    {
        while (!task.IsCompleted)
        {
            Assert.True(_posted.TryTake(out (SendOrPostCallback Work, object? State) next, TimeSpan.FromMinutes(2)), "nothing came forward");
            before?.Invoke();
            next.Work(next.State);
        }

        return task.GetAwaiter().GetResult();
    }
}
