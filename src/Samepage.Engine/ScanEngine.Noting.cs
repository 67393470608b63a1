using Samepage.Engine.Records;
using Samepage.Engine.Scan;

namespace Samepage.Engine;

/// <content>What has happened to a space since its last visit.</content>
public sealed partial class ScanEngine
{
    /// <param name="space">The space.</param>
    /// <param name="onlyNew">What is listed may not have been written: a page that has a record is what it was.</param>
    private void NoteWritten(Space space, bool onlyNew)
    {
        foreach (WrittenRun run in _written)
        {
            ulong behind = 0;
            int slab = 0;
            for (ulong page = run.Range.Start.Value; page < run.Range.End; page++)
            {
                if (page >= behind)
                {
                    ulong chunk = page / PageRecords.PagesPerSlab;
                    behind = (chunk + 1) * PageRecords.PagesPerSlab;
                    if ((run.IsZeroPage && !space.Slabs.TryFind(chunk, out _)) || !TryFindOrTake(space, page, out slab))
                    {
                        page = behind - 1;
                        continue;
                    }
                }

                // What has come may have gone again before it was noted: nobody would drop a record outside of the areas.
                if (onlyNew && (!space.TryFindArea(page, out Area area) || area.Kind != AreaKind.Mergeable))
                    continue;
                PageRef record = RefOf(slab, page);
                uint state = _records.State(record);
                // A zeroed page that is only read shows the zero page, and stays what it is.
                if ((run.IsZeroPage && state == PageState.Zeroed) || (onlyNew && state != PageState.None))
                    continue;
                // The attempt that was put off may itself have made it look written. It is tried again, and its twin need not be given back meanwhile.
                if (!run.IsZeroPage && state == PageState.Retry)
                    continue;
                Leave(space, record);
                if (state == PageState.Zeroed)
                    NoteBreak(space, record);
                _records.SetState(record, run.IsZeroPage ? PageState.None : PageState.WrittenNow, space.Counts);
            }
        }
    }

    /// <summary>Merged pages that are no longer mapped to their frame, because a write broke them or the program discarded or unmapped them, and
    /// pages mapped to a frame without a record, because they came by fork (F1) or from the swap (F2).</summary>
    /// <param name="space">The space.</param>
    /// <param name="changed">Its areas have changed: equal numbers do not show that all is as it was.</param>
    private void NoteMerged(Space space, bool changed)
    {
        int at = 0;
        for (int i = 0; i < space.Slabs.Count; i++)
        {
            ulong first = space.Slabs.Chunk(i) * PageRecords.PagesPerSlab, end = first + PageRecords.PagesPerSlab;
            int slab = space.Slabs.Slab(i);
            while (at < _merged.Count && _merged[at].Range.End <= first)
                at++;
            if (_records.Owner(slab).Merged == 0)
                continue;
            long still = 0;
            for (int run = at; run < _merged.Count && _merged[run].Range.Start.Value < end; run++)
                still += (long)(Math.Min(end, _merged[run].Range.End) - Math.Max(first, _merged[run].Range.Start.Value));
            if ((changed || still != _records.Owner(slab).Merged) && !Has(EngineFaults.MissBreaks))
                NoteBroken(space, slab, first, at);
        }

        NoteJoined(space);
    }

    private void NoteBroken(Space space, int slab, ulong first, int run)
    {
        for (int place = 0; place < PageRecords.PagesPerSlab; place++)
        {
            PageRef record = PageRef.At(slab, place);
            uint state = _records.State(record);
            if (!PageState.IsMerged(state))
                continue;
            ulong page = first + (ulong)place;
            while (run < _merged.Count && _merged[run].Range.End <= page)
                run++;
            if (run < _merged.Count && _merged[run].Range.Start.Value <= page && FrameAt(_merged[run], page) == PageState.FrameOf(state))
                continue;
            Leave(space, record);
            // Where there is no mapping of frames any more, what is there now is reported as written, if anything is.
            bool inMapping = space.TryFindArea(page, out Area area) && area.Kind == AreaKind.Merged;
            if (inMapping)
            {
                (space.Breaks, space.Domain.Breaks) = (space.Breaks + 1, space.Domain.Breaks + 1);
                NoteBreak(space, record);
            }

            _records.SetState(record, inMapping ? PageState.Broken : PageState.None, space.Counts);
        }
    }

    private void NoteBreak(Space space, PageRef record)
    {
        if (_machine.TracksWrites)
            _records.Digest(record) = _records.History(record).Broken(space.SeenAt, Tick).Bits;
    }

    private static FrameId FrameAt(in MergedRun run, ulong page) => new(run.FirstFrame.Value + (uint)(page - run.Range.Start.Value));

    /// <summary>Records pages as merged that have no such record. Where a chunk has as many records as pages in frames, all of them have one.</summary>
    private void NoteJoined(Space space)
    {
        ulong chunk = 0;
        for (int run = 0; run < _merged.Count; chunk++)
        {
            // From one mapping to the next it may be millions of chunks.
            chunk = Math.Max(chunk, _merged[run].Range.Start.Value / PageRecords.PagesPerSlab);
            ulong first = chunk * PageRecords.PagesPerSlab, end = first + PageRecords.PagesPerSlab;
            long still = 0;
            int behind = run;
            for (; behind < _merged.Count && _merged[behind].Range.Start.Value < end; behind++)
                still += (long)(Math.Min(end, _merged[behind].Range.End) - Math.Max(first, _merged[behind].Range.Start.Value));
            if (!space.Slabs.TryFind(chunk, out int slab) || _records.Owner(slab).Merged != still)
                NoteJoined(space, run, behind, first, end);
            run = _merged[behind - 1].Range.End > end ? behind - 1 : behind;
        }
    }

    /// <summary>Frames that the engine does not hold are somebody else's.</summary>
    private void NoteJoined(Space space, int run, int behind, ulong first, ulong end)
    {
        for (; run < behind; run++)
        {
            MergedRun joined = _merged[run];
            for (ulong page = Math.Max(first, joined.Range.Start.Value); page < Math.Min(end, joined.Range.End); page++)
            {
                FrameId frame = FrameAt(joined, page);
                if (!space.Domain.Frames.IsHeld(frame))
                    continue;
                if (!TryFindOrTake(space, page, out int slab))
                    break;
                PageRef record = RefOf(slab, page);
                if (PageState.IsMerged(_records.State(record)))
                    continue;
                Leave(space, record);
                space.Domain.Frames.AddUser(frame);
                _records.SetState(record, PageState.InFrame(frame), space.Counts);
                NoteMergedNow(record, default);
            }
        }
    }

    /// <summary>A mapping of frames of which writes have broken half or more is given back: its memory is tracked again, and may be merged again.</summary>
    private void GiveBackBroken(Space space)
    {
        // Where something stood in the way, healthy pages would be given back and merged again at every visit.
        if (space.Visits < space.GiveBackAfter)
            return;
        int at = 0;
        foreach (Area area in space.Areas)
        {
            if (area.Kind != AreaKind.Merged)
                continue;
            while (at < _merged.Count && _merged[at].Range.End <= area.Range.Start.Value)
                at++;
            long still = 0;
            for (int i = at; i < _merged.Count && _merged[i].Range.Start.Value < area.Range.End; i++)
                still += (long)(Math.Min(area.Range.End, _merged[i].Range.End) - Math.Max(area.Range.Start.Value, _merged[i].Range.Start.Value));
            if (still * 2 > area.Range.Count)
                continue;
            // What is more comes at the next visits: a mapping may be as long as its program likes.
            for (ulong page = area.Range.Start.Value; page < area.Range.End && _plans.Count < PlanLimit; page++)
                _plans.Add(space.Id, page, FindRecord(space, page), PlanKind.Unmerge, default);
        }
    }

    /// <summary>Drops the records of pages that are in no area any more (B5), lazily after opting out (A6).</summary>
    private void DropOutside(Space space)
    {
        for (int i = 0; i < space.Slabs.Count; i++)
        {
            int slab = space.Slabs.Slab(i);
            ulong first = space.Slabs.Chunk(i) * PageRecords.PagesPerSlab;
            for (int place = 0; place < PageRecords.PagesPerSlab;)
            {
                if (!space.TryFindArea(first + (ulong)place, out Area area))
                {
                    Drop(space, PageRef.At(slab, place++));
                    continue;
                }

                int behind = (int)Math.Min(PageRecords.PagesPerSlab, area.Range.End - first);
                for (; area.Kind == AreaKind.Mergeable && space.Counts.Broken > 0 && place < behind; place++)
                {
                    if (_records.State(PageRef.At(slab, place)) == PageState.Broken)
                        Drop(space, PageRef.At(slab, place));
                }

                place = behind;
            }
        }

        ReturnEmptySlabs(space);
    }

    /// <summary>Without write tracking: drops the records of pages that are not present any more (B5). What frames and zero pages stand for is not in that list.</summary>
    private void DropUnlisted(Space space)
    {
        int run = 0;
        for (int i = 0; i < space.Slabs.Count; i++)
        {
            int slab = space.Slabs.Slab(i);
            ulong page = space.Slabs.Chunk(i) * PageRecords.PagesPerSlab;
            for (int place = 0; place < PageRecords.PagesPerSlab; place++, page++)
            {
                PageRef record = PageRef.At(slab, place);
                uint state = _records.State(record);
                if (state is PageState.None or PageState.Zeroed or PageState.Broken || PageState.IsMerged(state))
                    continue;
                while (run < space.Present.Count && space.Present[run].Range.End <= page)
                    run++;
                if (run == space.Present.Count || space.Present[run].Range.Start.Value > page || space.Present[run].IsZeroPage)
                    Drop(space, record);
            }
        }
    }
}
