namespace Samepage.Engine.Control;

/// <summary>Keeps the processor time that a scanner takes below a share of one processor, by rests between its pieces of work.</summary>
/// <remarks>Time accrues at the share, and what was used is taken off it. What is saved while there is little to do is worth <see cref="Burst"/> at most; what was
/// used too much is rested off before the next piece of work, but for <see cref="LongestRest"/> at a time, so that work whose every piece is dear goes on all the
/// same. Whoever has clocks reads them. One thread.</remarks>
public sealed class ProcessorBudget
{
    /// <summary>The longest rest that is asked for at a time.</summary>
    public static readonly TimeSpan LongestRest = TimeSpan.FromSeconds(60);

    /// <summary>The processor time that may be saved.</summary>
    public static readonly TimeSpan Burst = TimeSpan.FromMilliseconds(50);

    private TimeSpan? _now;
    private TimeSpan _used, _balance;

    /// <summary>The share, percent of one processor; 0 for no limit. Several processors may be more than 100.</summary>
    public uint Percent
    {
        get;
        set
        {
            if (value != field)
                (field, _balance) = (value, TimeSpan.Zero);
        }
    }

    /// <summary>How long to rest before the next piece of work. May be asked at any time, while it rests too.</summary>
    /// <param name="now">The time, counted from whenever the caller likes.</param>
    /// <param name="used">Processor time used so far, counted the same way. Neither goes back.</param>
    public TimeSpan Rest(TimeSpan now, TimeSpan used)
    {
        double share = Percent / 100.0;
        if (_now is { } before && share > 0)
        {
            _balance += (now - before) * share - (used - _used);
            _balance = TimeSpan.FromTicks(Math.Clamp(_balance.Ticks, (long)(-share * LongestRest.Ticks), Burst.Ticks));
        }

        (_now, _used) = (now, used);
        return share > 0 && _balance < TimeSpan.Zero ? -_balance / share : TimeSpan.Zero;
    }
}
