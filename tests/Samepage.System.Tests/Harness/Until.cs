using System.Diagnostics;

namespace Samepage.SystemTests.Harness;

/// <summary>Waiting for a condition, never longer than a bound.</summary>
internal static class Until
{
    /// <summary>How long to wait for what takes so many seconds at most where nothing else runs: a machine may be crowded, and no test's outcome depends on that. It bounds what hangs.</summary>
    public static TimeSpan Patience(int seconds) => TimeSpan.FromSeconds(Math.Max(3 * seconds, 240));

    /// <param name="condition">What is waited for.</param>
    /// <param name="seconds">What that takes at most where nothing else runs.</param>
    /// <param name="otherwise">Says where everybody stands when it does not come about.</param>
    public static async Task True(Func<Task<bool>> condition, int seconds, Func<Task<string>> otherwise)
    {
        var clock = Stopwatch.StartNew();
        while (!await condition())
        {
            if (clock.Elapsed > Patience(seconds))
                Assert.Fail($"not within {Patience(seconds).TotalSeconds} s: {await otherwise()}");
            await Task.Delay(25);
        }
    }

    public static Task True(Func<bool> condition, int seconds, Func<string> otherwise) =>
        True(() => Task.FromResult(condition()), seconds, () => Task.FromResult(otherwise()));

    public static Task True(Func<Task<bool>> condition, int seconds, string otherwise) =>
        True(condition, seconds, () => Task.FromResult(otherwise));
}
