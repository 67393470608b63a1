namespace Samepage.Engine.Control;

/// <summary>Chooses how long a space is let alone whose visits gain nothing though they cost: one whose memory is written faster than it could be worth merging.</summary>
/// <remarks>Visits that gain what they cost follow each other as fast as the scanner goes. Two in a row may gain nothing: what was written is looked up one visit
/// later, and its twin may be in a space that comes after. A visit that costs next to nothing is none of them. From the third on all such spaces together cost a tenth of the time, and each is visited every ten seconds at least.
/// What is merged and written by turns is no gain: only what goes beyond what was merged lately is one.</remarks>
public sealed class VisitPacing
{
    /// <summary>Visits in a row that gain nothing before the space is let alone.</summary>
    private const int Patience = 2;

    /// <summary>Time for looking, as a share of all time.</summary>
    private const int Share = 10;

    /// <summary>The longest rest.</summary>
    public static readonly TimeSpan LongestRest = TimeSpan.FromSeconds(10);

    /// <summary>What a page gained may cost: some times what merging one does, which is ten to twenty microseconds in runs of 16 (README.md, the bench).</summary>
    private static readonly TimeSpan s_worth = TimeSpan.FromMicroseconds(50);

    /// <summary>What a visit may cost without gaining anything: some times what one to an idle space does.</summary>
    private static readonly TimeSpan s_little = TimeSpan.FromMilliseconds(2);

    private int _fruitless;
    private long _peak, _last;

    /// <summary>What the last visit cost, if it was one of several in a row that gained too little; otherwise nothing.</summary>
    public TimeSpan Wasted { get; private set; }

    /// <summary>Notes a visit that has ended.</summary>
    /// <param name="took">How long it took.</param>
    /// <param name="gained">Pages of the space that are saved now.</param>
    public void VisitEnded(TimeSpan took, long gained)
    {
        bool pays = took <= s_little || took <= s_worth * Math.Max(0, gained - _peak);
        _fruitless = pays ? 0 : _fruitless + 1;
        // What was gained long ago and is lost counts again when it comes back, in the end.
        _peak = Math.Max(gained, _peak - (_peak - gained + 15) / 16);
        _last = gained;
        Wasted = _fruitless > Patience ? took : TimeSpan.Zero;
    }

    /// <summary>How long after its end the next visit begins, at the earliest.</summary>
    /// <param name="wastedByAll">The sum of <see cref="Wasted"/> of all spaces.</param>
    /// <param name="gained">Pages of the space that are saved now: more than at the end of its visit, if another found their twins.</param>
    public TimeSpan Rest(TimeSpan wastedByAll, long gained)
    {
        if (Wasted == TimeSpan.Zero || gained > _last)
            return TimeSpan.Zero;
        TimeSpan rest = wastedByAll * (Share - 1);
        return rest < LongestRest ? rest : LongestRest;
    }
}
