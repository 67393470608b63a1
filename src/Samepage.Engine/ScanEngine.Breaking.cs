using Samepage.Engine.Records;
using Samepage.Engine.Scan;

namespace Samepage.Engine;

/// <summary>What came of breaking merges.</summary>
public enum BreakOutcome
{
    /// <summary>No page is merged any more.</summary>
    Done,

    /// <summary>There was no memory for all; what was broken stays so, and asking again goes on.</summary>
    NoMemory,

    /// <summary>The machine could not go on at this moment; what was broken stays so, and asking again goes on.</summary>
    Interrupted,

    /// <summary>The space is gone.</summary>
    Gone,
}

/// <content>Giving pages their own copies.</content>
public sealed partial class ScanEngine
{
    /// <summary>How often a page that is held at the moment is tried before that is reported.</summary>
    private const int BreakRounds = 8;

    /// <summary>Gives the pages of a range their own copies, now (A5). The range may stop being mergeable when it is done; the records
    /// are cleaned up by the next visit (A6).</summary>
    /// <param name="id">The space.</param>
    /// <param name="range">Pages outside of mappings of frames are left alone (E2).</param>
    public BreakOutcome BreakRange(SpaceId id, PageRun range)
    {
        if (!_spaces.TryGetValue(id.Value, out Space? space))
            return BreakOutcome.Gone;
        Begin();
        try
        {
            return Break(space, range);
        }
        finally
        {
            End();
        }
    }

    /// <summary>Gives every page of every space its own copy, forgets all records, keeps the slots, and begins to count scans anew (E3).
    /// The caller stops scanning before. On a failure it stops and says so, and asking again goes on.</summary>
    /// <remarks>Frames are freed when the machine has said often enough that nobody maps them: <see cref="SweepFrames"/>.</remarks>
    public BreakOutcome UnmergeAll()
    {
        Begin();
        try
        {
            for (Space? space = _slots.First; space is not null; space = space.Next)
            {
                BreakOutcome outcome = Break(space, new PageRun(new PageNumber(0), long.MaxValue));
                if (outcome is not (BreakOutcome.Done or BreakOutcome.Gone))
                    return outcome;
                DropRecords(space);
                space.Present.Clear();
                (space.InVisit, space.ListsEverything) = (false, true);
            }

            foreach (Domain domain in _domains.Values)
                domain.Unstable.Clear();
            FullScans = 0;
            _slots.EndPass();
            return BreakOutcome.Done;
        }
        finally
        {
            End();
        }
    }

    /// <summary>Frees the frames that have been without a user for long enough; what <see cref="EndPass"/> does, for a scanner that is stopped.</summary>
    public void SweepFrames()
    {
        Begin();
        try
        {
            foreach (Domain domain in _domains.Values.ToArray())
                domain.Frames.Sweep(_machine);
        }
        finally
        {
            End();
        }
    }

    private BreakOutcome Break(Space space, PageRun range)
    {
        if (space.IsLeaving || !TryListAreas(space) || space.IsLeaving)
            return BreakOutcome.Gone;
        foreach (Area area in space.Areas.ToArray())
        {
            if (area.Kind != AreaKind.Merged)
                continue;
            ulong end = Math.Min(area.Range.End, range.End);
            for (ulong first = Math.Max(area.Range.Start.Value, range.Start.Value); first < end; first += PlanLimit)
            {
                PageOutcome failure = Break(space, first, Math.Min(end, first + PlanLimit));
                if (space.IsLeaving)
                    return BreakOutcome.Gone;
                if (failure != PageOutcome.Done)
                    return failure == PageOutcome.Refused ? BreakOutcome.NoMemory : BreakOutcome.Interrupted;
            }
        }

        return BreakOutcome.Done;
    }

    /// <summary>Breaks some pages, those that are held at the moment over and over (E1).</summary>
    private PageOutcome Break(Space space, ulong first, ulong end)
    {
        for (ulong page = first; page < end; page++)
            _plans.Add(space.Id, page, FindRecord(space, page), PlanKind.Unmerge, default);
        List<Plans.Entry> busy = [];
        PageOutcome failure = End(Begin([space]), busy);
        for (int round = 1; failure == PageOutcome.Busy && round < BreakRounds; round++)
        {
            foreach (Plans.Entry entry in busy)
                _plans.Add(space.Id, entry.Page, entry.Record, PlanKind.Unmerge, default);
            busy.Clear();
            failure = End(Begin([space]), busy);
        }

        return failure;
    }
}
