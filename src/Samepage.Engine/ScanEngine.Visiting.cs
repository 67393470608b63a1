using Samepage.Engine.Records;
using Samepage.Engine.Scan;

namespace Samepage.Engine;

/// <summary>How far a visit came.</summary>
public enum VisitOutcome
{
    /// <summary>It has come to the end of the space.</summary>
    Ended,

    /// <summary>It goes on where it stopped.</summary>
    Unfinished,

    /// <summary>The space is gone, or must be left: the caller removes it.</summary>
    Gone,
}

/// <content>A visit, step by step.</content>
public sealed partial class ScanEngine
{
    private const int QuietLookUps = 64;
    private const int DeferredVisitsToSettle = 20;
    private const int VisitsBetweenSecondLooks = 16;

    private const uint LongestRest = (uint)PageHistory.TicksPerSecond << (PageHistory.LevelMax - 1);

    private readonly List<Area> _before = [];
    private readonly List<WrittenRun> _written = [];
    private readonly List<MergedRun> _merged = [];

    /// <summary>Visits one space, or goes on with its visit, to the end.</summary>
    /// <returns>False when the space is gone, or must be left: the caller removes it.</returns>
    public bool Visit(SpaceId id)
    {
        long pages = long.MaxValue;
        return Visit(id, ref pages) != VisitOutcome.Gone;
    }

    /// <summary>Visits one space, or goes on with its visit, for so many pages (B2). On a machine without write tracking every space must be
    /// visited once between two calls of <see cref="EndPass"/>.</summary>
    /// <param name="id">The space.</param>
    /// <param name="pages">Pages that may be read and looked up; less those that were, afterwards.</param>
    public VisitOutcome Visit(SpaceId id, ref long pages)
    {
        Begin();
        try
        {
            return GoOn(_spaces[id.Value], ref pages);
        }
        finally
        {
            End();
        }
    }

    /// <summary>Ends a pass over all spaces: frames that nobody uses any more are freed, and the unstable side is emptied where writes are not tracked (B3, C7, C11).</summary>
    public void EndPass()
    {
        Begin();
        try
        {
            EndThePass();
        }
        finally
        {
            End();
        }
    }

    private void EndThePass()
    {
        FullScans++;
        Domain[] domains = [.. _domains.Values];
        foreach (Domain domain in domains)
        {
            if (!_machine.TracksWrites)
                domain.Unstable.Clear();
            domain.Frames.Sweep(_machine);
        }
    }

    private VisitOutcome GoOn(Space space, ref long pages)
    {
        if (space.IsLeaving || (!space.InVisit && !TryBeginVisit(space)))
            return VisitOutcome.Gone;
        bool ended = Has(EngineFaults.ForgetPlace) ? LookUpFromStart(space, ref pages) : LookUp(space, ref pages);
        CarryOut();
        if (space.IsLeaving)
            return VisitOutcome.Gone;
        if (!ended)
            return VisitOutcome.Unfinished;
        EndVisit(space);
        return VisitOutcome.Ended;
    }

    private bool LookUpFromStart(Space space, ref long pages)
    {
        space.NextPage = 0;
        return LookUp(space, ref pages);
    }

    private bool TryBeginVisit(Space space)
    {
        space.Visits++;
        space.QuietVisits++;
        if (space.Counts.SharedAlready + space.Counts.Absent > 0 && _machine.TracksWrites && space.Visits % VisitsBetweenSecondLooks == 0)
            LookAgain(space);
        if (space.Counts.Resting > 0 && (!SmartScan || unchecked((int)(Tick - space.RestsUntil)) >= 0) && !Has(EngineFaults.RestForEver))
            EndRests(space);
        if (!TryListAreas(space) || space.IsLeaving)
            return false;
        bool changed = space.AreasChanged, everything = space.ListsEverything;
        if (changed && !Has(EngineFaults.KeepPassedRecords))
            DropOutside(space);
        (space.AreasChanged, space.ListsEverything) = (false, false);
        List<WrittenRun> written = _machine.TracksWrites ? _written : space.Present;
        if (!_machine.TryCollectWritten(space.Id, space.Areas, everything, written) || space.IsLeaving)
            return false;
        if (!_machine.TryCollectMerged(space.Id, space.Areas, everything || changed, _merged, out bool unchanged) || space.IsLeaving)
            return false;
        if (_machine.TracksWrites)
            NoteWritten(space, onlyNew: false);
        else if (!Has(EngineFaults.KeepPassedRecords))
            DropUnlisted(space);
        if (!unchanged)
            NoteMerged(space, changed);
        if (space.Grown.Count > 0 && !TryNoteGrown(space))
            return false;
        // Last, for it plans: a visit that is given up leaves no plan behind.
        if (!unchanged)
            GiveBackBroken(space);
        (space.InVisit, space.NextPage, space.News, space.SeenAt) = (true, 0, 0, Tick);
        return true;
    }

    /// <summary>Lists the areas, and notes what the next visit has to do about it: where they have changed there may be records outside of them, and
    /// where one has come back that could not be merged for a while, its pages may never be written again.</summary>
    private bool TryListAreas(Space space)
    {
        _before.Clear();
        _before.AddRange(space.Areas);
        if (!_machine.TryListAreas(space.Id, space.Areas, out bool changed))
            return false;
        space.AreasChanged |= changed;
        if (changed && _before.Count > 0 && _machine.TracksWrites)
            Areas.AddGrowth(_before, space.Areas, space.Grown);
        return true;
    }

    /// <summary>Notes the pages of areas that have come, or come back, as written.</summary>
    private bool TryNoteGrown(Space space)
    {
        if (!_machine.TryCollectWritten(space.Id, space.Grown, everything: true, _written) || space.IsLeaving)
            return false;
        space.Grown.Clear();
        NoteWritten(space, onlyNew: true);
        return true;
    }

    private void EndVisit(Space space)
    {
        space.InVisit = false;
        space.Present.Clear();
        // What was looked up for the first time may yet be found by others: quiet is a visit that looked at next to nothing, and behind which no more is merged
        // than behind the two before. (A page that is written and merged again by turns gains nothing.)
        long gained = space.Counts.Merged + space.Counts.Zeroed;
        if (space.News > Math.Max(QuietLookUps, space.Counts.Tracked / 64) || gained > Math.Max(space.GainedBefore, space.GainedLast))
            space.QuietVisits = 0;
        (space.GainedBefore, space.GainedLast) = (space.GainedLast, gained);
        AgeWritten(space);
        space.DeferredVisits = space.Deferred ? space.DeferredVisits + 1 : 0;
        if (space.Deferred && space.DeferredVisits < DeferredVisitsToSettle)
            space.QuietVisits = 0;
        space.Deferred = false;
    }

    /// <summary>A page that fork shared becomes its owner's alone when the child ends, one that was swapped out comes back, and nothing announces that: look again now and then.</summary>
    private void LookAgain(Space space)
    {
        for (int i = 0; i < space.Slabs.Count; i++)
        {
            int slab = space.Slabs.Slab(i);
            for (int place = 0; place < PageRecords.PagesPerSlab; place++)
            {
                PageRef record = PageRef.At(slab, place);
                if (_records.State(record) is PageState.SharedAlready or PageState.Absent)
                    _records.SetState(record, PageState.Retry, space.Counts);
            }
        }
    }

    /// <summary>Pages whose rest is over are looked at again, unless they are found to be written.</summary>
    private void EndRests(Space space)
    {
        uint now = Tick, next = now + LongestRest;
        for (int i = 0; i < space.Slabs.Count; i++)
        {
            int slab = space.Slabs.Slab(i);
            for (int place = 0; _records.Owner(slab).Resting > 0 && place < PageRecords.PagesPerSlab; place++)
            {
                PageRef record = PageRef.At(slab, place);
                if (_records.State(record) != PageState.Resting)
                    continue;
                PageHistory history = _records.History(record);
                if (!SmartScan || history.HasRested(now))
                    _records.SetState(record, PageState.Written, space.Counts);
                else if (unchecked((int)(history.Since + history.Rest - next)) < 0)
                    next = history.Since + history.Rest;
            }
        }

        space.RestsUntil = next;
    }

    /// <summary>What was written in this visit is looked at in the next, or rests first, and slabs without a record go.</summary>
    private void AgeWritten(Space space)
    {
        bool empty = false;
        for (int i = 0; i < space.Slabs.Count; i++)
        {
            int slab = space.Slabs.Slab(i);
            empty |= _records.Owner(slab).Tracked == 0;
            if (_records.Owner(slab).Pending == 0 || !_machine.TracksWrites)
                continue;
            for (int place = 0; place < PageRecords.PagesPerSlab; place++)
            {
                PageRef record = PageRef.At(slab, place);
                if (_records.State(record) == PageState.WrittenNow)
                    _records.SetState(record, SmartScan && _records.History(record).Level > 0 ? BeginRest(space, record) : PageState.Written, space.Counts);
            }
        }

        if (empty)
            ReturnEmptySlabs(space);
    }

    private uint BeginRest(Space space, PageRef record)
    {
        PageHistory history = _records.History(record) with { Since = Tick };
        _records.Digest(record) = history.Bits;
        uint end = history.Since + history.Rest;
        if (space.Counts.Resting == 0 || unchecked((int)(end - space.RestsUntil)) < 0)
            space.RestsUntil = end;
        PagesSkipped++;
        return PageState.Resting;
    }

    private uint RestLonger(Space space, PageRef record)
    {
        PageHistory history = _records.History(record);
        _records.Digest(record) = (history with { Level = Math.Min(history.Level + 1, PageHistory.LevelMax) }).Bits;
        return BeginRest(space, record);
    }

    private void ReturnEmptySlabs(Space space)
    {
        space.Slabs.Keep((_, slab) =>
        {
            if (_records.Owner(slab).Tracked > 0)
                return true;
            ReturnSlab(space, slab);
            return false;
        });
    }
}
