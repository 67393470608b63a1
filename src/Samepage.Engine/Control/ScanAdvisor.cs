namespace Samepage.Engine.Control;

/// <summary>Chooses how many pages a batch looks at: few enough to keep below a share of the processor, and enough for a pass within a target time.</summary>
/// <remarks>After each pass: the batch that would have made it last as long as the target is the wish, the half way to it is gone, the ceiling on the processor
/// cuts it, and the two bounds hold in the end. A pass over idle memory is short, so the batch shrinks to its least.</remarks>
public sealed class ScanAdvisor
{
    /// <summary>It decides; otherwise the administrator does.</summary>
    public bool IsOn { get; internal set; }

    /// <summary>The share of one processor that scanning may take, percent.</summary>
    public uint ProcessorPercentMax { get; internal set; } = 70;

    /// <summary>The smallest batch, pages.</summary>
    public ulong PagesMin { get; internal set; } = 500;

    /// <summary>The largest batch, pages.</summary>
    public ulong PagesMax { get; internal set; } = 30000;

    /// <summary>How long one pass over everything is to take, seconds; 1 at least.</summary>
    public ulong TargetSeconds { get; internal set; } = 200;

    /// <summary>The smallest batch as <c>pages_to_scan</c> has room for it.</summary>
    internal uint First => (uint)Math.Min(PagesMin, uint.MaxValue);

    /// <summary>The batch for the next pass.</summary>
    /// <param name="pages">The batch of the pass that has ended.</param>
    /// <param name="took">How long that pass took, pauses included.</param>
    /// <param name="processor">Processor time that it took.</param>
    internal uint Next(uint pages, TimeSpan took, TimeSpan processor)
    {
        double wish = pages * took.TotalSeconds / TargetSeconds;
        double next = (Math.Max(pages, 1) + wish) / 2;
        double percent = took > TimeSpan.Zero ? 100 * processor.TotalSeconds / took.TotalSeconds : 0;
        if (percent > ProcessorPercentMax)
            next = Math.Min(next, pages * ProcessorPercentMax / percent);
        return (uint)Math.Min(Math.Max(Math.Min(next, PagesMax), PagesMin), uint.MaxValue);
    }
}
