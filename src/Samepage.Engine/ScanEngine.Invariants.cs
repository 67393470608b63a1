using Samepage.Engine.Records;
using Samepage.Engine.Scan;

namespace Samepage.Engine;

/// <content>What must hold between two calls.</content>
public sealed partial class ScanEngine
{
    /// <summary>Recounts everything: records, slabs, frames, indexes, slots. Costs as much as there are records; for tests and simulations.</summary>
    /// <exception cref="EngineInvariantException">Something does not hold.</exception>
    internal void CheckInvariants()
    {
        Require(!_isBusy && _plans.Count == 0 && _flight is null && _buffered == 0 && _writing is null && _leaving.Count == 0, "rest", "work is left behind by a call");
        CheckSlots();
        Dictionary<(int Domain, uint Frame), long> users = [];
        Dictionary<int, long> inUnstable = [];
        int slabs = 0;
        foreach (Space space in _spaces.Values)
        {
            slabs += space.Slabs.Count;
            SpaceCounts recounted = new();
            for (int i = 0; i < space.Slabs.Count; i++)
                CheckSlab(space, i, recounted, users, inUnstable);
            Require(recounted.Equals(space.Counts), "G10 counters", $"space {space.Id.Value} has {recounted}, and is counted as {space.Counts}");
        }

        Require(slabs == _records.SlabsUsed, "slabs", $"spaces have {slabs}, {_records.SlabsUsed} are in use");
        foreach (Domain domain in _domains.Values)
        {
            long expected = inUnstable.GetValueOrDefault(domain.Id.Value);
            Require(domain.Unstable.Count == expected, "unstable index", $"domain {domain.Id.Value} has {expected} unique pages, and {domain.Unstable.Count} in the index");
            domain.Unstable.Check();
            domain.Frames.Check(frame => users.GetValueOrDefault((domain.Id.Value, frame)));
        }
    }

    private void CheckSlots()
    {
        int slots = 0;
        bool cursor = _slots.Cursor is null;
        for (Space? space = _slots.First; space is not null; space = space.Next)
        {
            slots++;
            cursor |= space == _slots.Cursor;
            Require(space.Next is null || space.Next.Previous == space, "slots", $"the neighbours of space {space.Id.Value} disagree");
            Require(_spaces.TryGetValue(space.Id.Value, out Space? known) && known == space, "slots", $"space {space.Id.Value} is not known");
        }

        Require(slots == _slots.Count && slots == _spaces.Count, "slots", $"{slots} in the list, counted as {_slots.Count}, {_spaces.Count} spaces");
        Require(cursor, "slots", "the cursor is at a slot that is not in the list");
    }

    private void CheckSlab(Space space, int index, SpaceCounts recounted, Dictionary<(int, uint), long> users, Dictionary<int, long> inUnstable)
    {
        int slab = space.Slabs.Slab(index);
        ref PageRecords.SlabOwner owner = ref _records.Owner(slab);
        Require(index == 0 || space.Slabs.Chunk(index - 1) < space.Slabs.Chunk(index), "slabs", $"the slabs of space {space.Id.Value} do not rise");
        Require(owner.Space == space.Id && owner.Chunk == space.Slabs.Chunk(index), "slabs", $"slab {slab} of space {space.Id.Value} is another's");
        PageRecords.SlabOwner counted = default;
        for (int place = 0; place < PageRecords.PagesPerSlab; place++)
        {
            PageRef record = PageRef.At(slab, place);
            uint state = _records.State(record);
            counted.Count(state, +1);
            recounted.Count(state, +1);
            Require(state == PageState.None || PageState.HasDigest(state) || !_machine.TracksWrites || _records.History(record).Level is >= 0 and <= PageHistory.LevelMax,
                "histories", $"page {place} of slab {slab}, in state {state}, has been broken {_records.History(record).Level} times");
            Require(state != PageState.Resting || unchecked((int)(_records.History(record).Since + _records.History(record).Rest - space.RestsUntil)) >= 0,
                "histories", $"page {place} of slab {slab} rests until before the first one of its space");
            Require(state != PageState.Planned, "rest", $"page {place} of slab {slab} is in a plan that nobody carries out");
            if (PageState.IsMerged(state))
            {
                FrameId frame = PageState.FrameOf(state);
                Require(space.Domain.Frames.IsHeld(frame), "frame users", $"page {place} of slab {slab} is in frame {frame.Value}, which is free");
                users[(space.Domain.Id.Value, frame.Value)] = users.GetValueOrDefault((space.Domain.Id.Value, frame.Value)) + 1;
            }
            else if (PageState.IsUnique(state))
            {
                CheckUnique(space, record, state, inUnstable);
            }
        }

        Require((counted.Tracked, counted.Merged, counted.Pending, counted.Resting) == (owner.Tracked, owner.Merged, owner.Pending, owner.Resting), "G10 counters", $"slab {slab} is miscounted");
    }

    private void CheckUnique(Space space, PageRef record, uint state, Dictionary<int, long> inUnstable)
    {
        int age = _machine.TracksWrites ? 0 : PageState.AgeOf(state, FullScans);
        Require(age <= 1, "C7 age", $"a page of space {space.Id.Value} was put into the unstable index {age} scans ago");
        if (age > 0)
            return;
        Span<uint> found = stackalloc uint[CollisionsMax];
        found = found[..space.Domain.Unstable.Find(_records.Digest(record), found)];
        Require(found.Contains(record.Value) || found.Length == CollisionsMax, "unstable index", $"a unique page of space {space.Id.Value} is not found by its digest");
        inUnstable[space.Domain.Id.Value] = inUnstable.GetValueOrDefault(space.Domain.Id.Value) + 1;
    }

    private static void Require(bool holds, string invariant, string message)
    {
        if (!holds)
            throw new EngineInvariantException(invariant, message);
    }
}
