using System.Diagnostics;

namespace Samepage.Bench;

/// <summary>Waits for a condition, with a bound.</summary>
internal static class Waiting
{
    /// <summary>How long all the merging may take before it counts as not happening: far more than either side ever needs.</summary>
    public static readonly TimeSpan MergeBound = TimeSpan.FromMinutes(3);

    /// <returns>Whether the condition came true within the bound.</returns>
    public static bool Until(Func<bool> condition, TimeSpan bound, int pollMs, CancellationToken cancel)
    {
        long start = Stopwatch.GetTimestamp();
        while (!condition())
        {
            cancel.ThrowIfCancellationRequested();
            if (Stopwatch.GetElapsedTime(start) > bound)
                return false;
            Thread.Sleep(pollMs);
        }
        return true;
    }
}
