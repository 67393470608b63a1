using System.Diagnostics;

namespace Samepage.SystemTests.Harness;

/// <summary>Waiting for a condition, never longer than a bound.</summary>
internal static class Until
{
    public static async Task True(Func<Task<bool>> condition, int seconds, Func<Task<string>> otherwise)
    {
        var clock = Stopwatch.StartNew();
        while (!await condition())
        {
            if (clock.Elapsed.TotalSeconds > seconds)
                Assert.Fail($"not within {seconds} s: {await otherwise()}");
            await Task.Delay(25);
        }
    }

    public static Task True(Func<bool> condition, int seconds, Func<string> otherwise) =>
        True(() => Task.FromResult(condition()), seconds, () => Task.FromResult(otherwise()));

    public static Task True(Func<Task<bool>> condition, int seconds, string otherwise) =>
        True(condition, seconds, () => Task.FromResult(otherwise));
}
