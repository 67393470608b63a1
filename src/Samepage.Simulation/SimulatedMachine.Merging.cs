using Samepage.Engine;
using Samepage.Simulation.Memory;

namespace Samepage.Simulation;

/// <content>Merging a run, and leaving zero pages to the kernel's.</content>
internal sealed partial class SimulatedMachine
{
    /// <summary>Merges neighbouring pages into neighbouring frames, or leaves them to the zero page.</summary>
    /// <remarks>Steps, between any two of which the world goes on:
    /// 1. Register the run with MISSING.
    /// 2. Move it to scratch, page by page: who touches it from now on waits. Pages that a device holds are not moved (D2).
    /// 3. Compare what was moved with the frames (D3). Move back what is not equal.
    /// 4. Look whether the mapping is still what it was (D4), and put the mapping of frames in its place.
    /// 5. Fill its entries; watch it.
    /// 6. Wake who waits; drop what is in scratch (D9).
    /// </remarks>
    /// <param name="process">The process.</param>
    /// <param name="place">The first page.</param>
    /// <param name="count">How many.</param>
    /// <param name="frame">The first frame; null for the zero page.</param>
    /// <param name="stop">What kept the page behind those done from being done.</param>
    /// <returns>Pages done from the first on.</returns>
    private int MergePart(SimulatedProcess process, int place, int count, uint? frame, out PageOutcome stop)
    {
        stop = PageOutcome.Gone;
        AreaFlags area = Tables[place].Area;
        for (int i = place; i < place + count; i++)
            Tables.Change(i).Flags |= EntryFlags.Missing;
        int early = Fails(MachineFaults.CompareBeforeProtect) ? CountEqual(process, place, count, frame, ref stop) : -1;
        int moved = process.Alive ? MoveOut(process, place, count, ref stop) : 0;
        int equal = early >= 0 ? Math.Min(early, moved) : CountEqual(process, place + Tables.Window, moved, frame, ref stop);
        if (!Survives(process))
            return 0;
        if (Fails(MachineFaults.WakeTooEarly))
        {
            Finish(place, count);
            Between();
            for (int i = 0; i < count; i++)
                Tables.Change(place + i).Flags |= EntryFlags.Missing;
        }

        int kept = 0;
        while (kept < equal && (Fails(MachineFaults.MappingUnchecked) || IsAsItWas(place + kept, area)))
            kept++;
        if (kept < equal)
        {
            stop = PageOutcome.Gone;
            Races++;
        }

        PutBack(place + kept, moved - kept);
        if (frame is uint first)
            kept = _options.HoldsThreads ? MapThenFill(process, place, kept, first, area, ref stop) : MapFilled(process, place, kept, first, area, ref stop);
        if (!process.Alive)
            return 0;
        if (kept > 0 && frame is not null)
            Merged = (Merged.Runs + 1, Merged.Pages + kept);
        for (int i = 0; i < kept && frame is not null; i++)
        {
            ref PoolFrame joined = ref Tables.Pools[PoolOf(process), frame.Value + (uint)i];
            (joined.Joined, joined.Merges) = (joined.Joined + 1, joined.Merges + 1);
        }

        Finish(place, count);
        for (int i = place + Tables.Window; i < place + Tables.Window + kept; i++)
            DropReplaced(i);
        return kept;
    }

    private int MoveOut(SimulatedProcess process, int place, int count, ref PageOutcome stop)
    {
        for (int i = 0; i < count; i++)
        {
            if (!Survives(process))
                return 0;
            stop = Unmovable(place + i);
            if (stop != PageOutcome.Done)
                return i;
            Tables.Move(place + i, place + i + Tables.Window);
        }

        return count;
    }

    /// <summary>Why a page cannot be moved now. What fork has shared is made its owner's alone by a write fault without a write (E1).</summary>
    private PageOutcome Unmovable(int place)
    {
        ref readonly PageEntry entry = ref Tables[place];
        if (!entry.Has(EntryFlags.Missing) || entry.Has(EntryFlags.Dropped) || entry.State == EntryState.None)
            return PageOutcome.Gone;
        if (entry.State == EntryState.Swapped && !SwapIn(place))
            return PageOutcome.Refused;
        if (entry.State == EntryState.Zero)
            return PageOutcome.Done;
        if (IsPinned(place) && !Fails(MachineFaults.NoPinCheck))
            return PageOutcome.Busy;
        if (entry.Has(EntryFlags.Huge) && SplitsFail)
            return PageOutcome.Busy;
        ReleaseHuge(place);
        return entry.Has(EntryFlags.Exclusive) || MakeWritable(place) ? PageOutcome.Done : PageOutcome.Refused;
    }

    private int CountEqual(SimulatedProcess process, int place, int count, uint? frame, ref PageOutcome stop)
    {
        for (int i = 0; i < count; i++)
        {
            if (!Survives(process))
                return 0;
            if (Fails(frame is null ? MachineFaults.ZeroWithoutLooking : MachineFaults.NoComparison))
                continue;
            if (Tables[place + i].State == EntryState.Swapped && !SwapIn(place + i))
            {
                stop = PageOutcome.Refused;
                return i;
            }

            ulong content = Tables[place + i].State == EntryState.Present ? Tables.Physical[Tables[place + i].Target].Content : Content.Zero;
            if (content != (frame is uint first ? ContentOf(PoolOf(process), first + (uint)i) : Content.Zero))
            {
                stop = PageOutcome.Differs;
                return i;
            }
        }

        return count;
    }

    /// <summary>The mapping is still the one that was looked at, and its program has discarded nothing of it meanwhile.</summary>
    private bool IsAsItWas(int place, AreaFlags area)
    {
        ref readonly PageEntry entry = ref Tables[place];
        return entry.Area == area && entry.Backing == 0 && entry.State == EntryState.None && entry.Has(EntryFlags.Missing) && !entry.Has(EntryFlags.Dropped);
    }

    /// <summary>Moves pages back to where they came from, if that is still there and was not discarded.</summary>
    private void PutBack(int place, int count)
    {
        for (int i = place; i < place + count; i++)
        {
            ref readonly PageEntry entry = ref Tables[i];
            if (entry.State == EntryState.None && entry.Has(EntryFlags.Missing) && !entry.Has(EntryFlags.Dropped) && !Fails(MachineFaults.NothingMovedBack))
                Tables.Move(i + Tables.Window, i);
            else
                Tables.Clear(i + Tables.Window);
        }
    }

    /// <summary>With the threads held: the mapping comes into place empty, is filled, then watched. Who touches it before sees through the file.</summary>
    private int MapThenFill(SimulatedProcess process, int place, int count, uint frame, AreaFlags area, ref PageOutcome stop)
    {
        for (int i = 0; i < count; i++)
            MapFrames(place + i, frame + (uint)i, area);
        for (int i = 0; i < count; i++)
        {
            if (!Survives(process))
                return 0;
            if (Tables[place + i].State == EntryState.None && !MapFrame(place + i))
            {
                stop = PageOutcome.Refused;
                TakeBack(place, count, area);
                return 0;
            }
        }

        if (!Survives(process))
            return 0;
        for (int i = 0; i < count; i++)
            Tables.Change(place + i).Flags |= EntryFlags.Watched;
        process.MergedChanged = true;
        return count;
    }

    /// <summary>With the threads running: the mapping was filled and watched elsewhere, and comes into place in one step.</summary>
    private int MapFilled(SimulatedProcess process, int place, int count, uint frame, AreaFlags area, ref PageOutcome stop)
    {
        int kept = 0;
        while (kept < count && Load(PoolOf(process), frame + (uint)kept))
            kept++;
        if (kept < count)
        {
            stop = PageOutcome.Refused;
            PutBack(place + kept, count - kept);
        }

        for (int i = 0; i < kept; i++)
        {
            if (Tables[place + i].State != EntryState.None)
                Tables.Clear(place + i);
            MapFrames(place + i, frame + (uint)i, area);
            MapFrame(place + i);
            Tables.Change(place + i).Flags |= EntryFlags.Watched;
        }

        return kept;
    }

    private void MapFrames(int place, uint frame, AreaFlags area)
    {
        ref PageEntry entry = ref Tables.Change(place);
        entry.Area = Fails(MachineFaults.ForgetLock) ? area & ~AreaFlags.Locked : area;
        entry.Backing = frame + 1;
        entry.Flags &= ~(EntryFlags.Missing | EntryFlags.Tracked | EntryFlags.Watched);
    }

    /// <summary>A mapping that could not be filled does not stay. What somebody has written through it meanwhile does.</summary>
    private void TakeBack(int place, int count, AreaFlags area)
    {
        for (int i = place; i < place + count; i++)
        {
            bool written = Tables[i].State == EntryState.Present && !IsFrame(Tables[i]);
            if (!written)
                Tables.Clear(i);
            ref PageEntry entry = ref Tables.Change(i);
            (entry.Backing, entry.Area) = (0, area);
            if (written)
                Tables.Clear(i + Tables.Window);
            else
                Tables.Move(i + Tables.Window, i);
        }
    }

    private void DropReplaced(int scratch)
    {
        if (Tables[scratch].State == EntryState.Present && Tables.Physical[Tables[scratch].Target].Pins > 0)
            throw new BrokenInvariantException(Invariant.PinnedPagesStay, $"the page at place {scratch - Tables.Window} is held by a device and was replaced");
        if (!Fails(MachineFaults.KeepReplaced))
            Tables.Clear(scratch);
    }
}
