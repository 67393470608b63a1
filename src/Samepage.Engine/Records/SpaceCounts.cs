namespace Samepage.Engine.Records;

/// <summary>How many pages of a space are in which state.</summary>
public sealed class SpaceCounts
{
    /// <summary>Pages that have a record.</summary>
    public long Tracked { get; internal set; }

    /// <summary>Pages mapped to a frame.</summary>
    public long Merged { get; internal set; }

    /// <summary>Pages to be looked at in the next pass.</summary>
    public long Pending { get; internal set; }

    /// <summary>Pages that were written lately: those of the pending ones that were, and those at rest.</summary>
    public long Volatile { get; internal set; }

    /// <summary>Pages that were merged and written again and again, and are left alone for a while.</summary>
    public long Resting { get; internal set; }

    /// <summary>Pages given back to the kernel's zero page.</summary>
    public long Zeroed { get; internal set; }

    /// <summary>Pages that another process maps too, after fork.</summary>
    public long SharedAlready { get; internal set; }

    /// <summary>Pages like no other, in the unstable index.</summary>
    public long Unique { get; internal set; }

    /// <summary>Pages that were merged once and are private memory inside a mapping of frames now.</summary>
    public long Broken { get; internal set; }

    /// <summary>Pages that were not there when they were looked at: swapped out, or discarded.</summary>
    public long Absent { get; internal set; }

    /// <summary>Counts a page of a state in, or out.</summary>
    internal void Count(uint state, int by)
    {
        if (state == PageState.None)
            return;
        Tracked += by;
        if (PageState.IsMerged(state))
        {
            Merged += by;
        }
        else if (PageState.IsUnique(state))
        {
            Unique += by;
        }
        else if (PageState.IsPending(state))
        {
            Pending += by;
            if (state is PageState.Written or PageState.WrittenNow)
                Volatile += by;
        }
        else if (state == PageState.Resting)
        {
            Volatile += by;
            Resting += by;
        }
        else if (state == PageState.SharedAlready)
        {
            SharedAlready += by;
        }
        else if (state == PageState.Zeroed)
        {
            Zeroed += by;
        }
        else if (state == PageState.Broken)
        {
            Broken += by;
        }
        else if (state == PageState.Absent)
        {
            Absent += by;
        }
    }

    internal bool Equals(SpaceCounts other) =>
        (Tracked, Merged, Pending, Volatile, Resting, Zeroed, SharedAlready, Unique, Broken, Absent) ==
        (other.Tracked, other.Merged, other.Pending, other.Volatile, other.Resting, other.Zeroed, other.SharedAlready, other.Unique, other.Broken, other.Absent);

    /// <inheritdoc/>
    public override string ToString() =>
        $"{Tracked} tracked, {Merged} merged, {Pending} pending, {Volatile} volatile, {Resting} resting, {Zeroed} zeroed, {SharedAlready} shared already, {Unique} unique, {Broken} broken, {Absent} absent";
}
