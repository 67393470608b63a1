using Samepage.Engine.Records;

namespace Samepage.EngineTests.Harness;

/// <summary>The counts of a space at one moment, to be compared as a value.</summary>
internal readonly record struct SpaceCountsView(long Tracked, long Merged, long Pending, long Volatile, long Zeroed, long Unique, long Broken)
{
    public SpaceCountsView(SpaceCounts counts)
        : this(counts.Tracked, counts.Merged, counts.Pending, counts.Volatile, counts.Zeroed, counts.Unique, counts.Broken)
    {
    }
}
