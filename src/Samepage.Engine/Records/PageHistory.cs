namespace Samepage.Engine.Records;

/// <summary>How often a page was merged, or left to the zero page, and written again soon, or was held by somebody when it was to be, or found no room for its frame: it rests longer each time before it is looked at again.</summary>
/// <remarks>
/// <para>A machine that tracks writes needs a page's digest only while the page is unique or planned. At all other times the place of the digest holds this.</para>
/// <para>Merging a page costs tens of microseconds, and its program a fault at the next write. A page that stays merged for less than ten seconds rests for a
/// second before it may be merged again, then for two, four, and so on, up to 512; one that stays merged for a minute is forgiven one step. So what is
/// written every few seconds is left alone after as many merges as its period has doublings of a second, and what is written once a minute is merged
/// most of the time.</para>
/// </remarks>
/// <param name="Level">How often, up to <see cref="LevelMax"/>.</param>
/// <param name="Since">When it was merged, broken or last seen written, in <see cref="TicksPerSecond"/> of the engine's time.</param>
internal readonly record struct PageHistory(int Level, uint Since)
{
    public const int LevelMax = 10;
    public const int TicksPerSecond = 16;
    private const uint Short = 10 * TicksPerSecond, Long = 60 * TicksPerSecond;

    /// <summary>As it lies in the place of a digest.</summary>
    public ulong Bits => ((ulong)Level << 32) | Since;

    /// <summary>The time from <see cref="Since"/> on in which the page is left alone; ticks.</summary>
    public uint Rest => Level == 0 ? 0 : (uint)TicksPerSecond << (Level - 1);

    public static PageHistory Of(ulong bits) => new((int)(bits >> 32), (uint)bits);

    public static uint TickOf(TimeSpan now) => unchecked((uint)(now.Ticks / (TimeSpan.TicksPerSecond / TicksPerSecond)));

    /// <summary>It was written, or discarded.</summary>
    /// <param name="seen">When it was last seen merged, at least.</param>
    /// <param name="now">When that was noticed.</param>
    public PageHistory Broken(uint seen, uint now)
    {
        // The time between is not known to be merged time: it may have been broken at once.
        int lasted = Math.Max(0, unchecked((int)(seen - Since)));
        return new PageHistory(lasted < Short ? Math.Min(Level + 1, LevelMax) : lasted < Long ? Level : Math.Max(0, Level - 1), now);
    }

    /// <summary>Whether the rest is over.</summary>
    public bool HasRested(uint now) => unchecked((int)(now - Since)) >= Rest;
}
