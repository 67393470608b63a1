using System.Diagnostics;

namespace Samepage.Agent.Tracing;

/// <summary>How long a program is left alone after attempts to hold its threads that were given up once some had been interrupted: twice as long each time, and not longer than a second.</summary>
/// <remarks>An attempt that is given up when its threads were only looked at disturbs nobody, and does not count. One thread at a time.</remarks>
public sealed class HoldBackoff
{
    private static readonly TimeSpan Least = TimeSpan.FromMilliseconds(10), Most = TimeSpan.FromSeconds(1);
    private TimeSpan _pause;
    private long _since, _givenUp;

    /// <summary>No attempt should be made now.</summary>
    public bool IsOn => _pause > TimeSpan.Zero && Stopwatch.GetElapsedTime(_since) < _pause;

    /// <summary>To be called after each attempt.</summary>
    /// <param name="outcome">What came of it.</param>
    /// <param name="givenUp">Attempts given up so far: see <see cref="WorldStop.GivenUp"/>.</param>
    public void Note(HoldOutcome outcome, long givenUp)
    {
        if (outcome == HoldOutcome.Held)
            _pause = TimeSpan.Zero;
        else if (givenUp > _givenUp)
            (_pause, _since) = (TimeSpan.FromTicks(Math.Clamp(2 * _pause.Ticks, Least.Ticks, Most.Ticks)), Stopwatch.GetTimestamp());
        _givenUp = givenUp;
    }
}
