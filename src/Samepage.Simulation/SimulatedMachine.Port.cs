using Samepage.Engine;
using Samepage.Simulation.Memory;

namespace Samepage.Simulation;

/// <content>What the engine may ask about spaces and frames.</content>
internal sealed partial class SimulatedMachine
{
    private (DomainId Domain, FrameId First, ReadOnlyMemory<byte> Content) _writing;
    private bool _written;

    private static readonly (AreaFlags Flag, AreaTraits Trait)[] Traits =
    [
        (AreaFlags.Readable, AreaTraits.Readable), (AreaFlags.Writable, AreaTraits.Writable), (AreaFlags.Executable, AreaTraits.Executable),
        (AreaFlags.Shared, AreaTraits.Shared), (AreaFlags.Device, AreaTraits.Device), (AreaFlags.HugeTlb, AreaTraits.HugeTlb),
        (AreaFlags.NoFork, AreaTraits.DontCopy), (AreaFlags.WipeOnFork, AreaTraits.WipeOnFork), (AreaFlags.NoExpand, AreaTraits.DontExpand),
        (AreaFlags.Advised, AreaTraits.Advised),
    ];

    /// <inheritdoc/>
    public bool TryListAreas(SpaceId space, List<Area> areas, out bool changed)
    {
        Between();
        Listed(space);
        changed = false;
        if (!IsThere(space, out SimulatedProcess process))
            return false;
        List<Area> listed = [];
        for (int page = 0; page < Tables.Window;)
        {
            PageEntry first = Tables[PlaceOf(process, page)];
            int count = 1;
            while (page + count < Tables.Window && Continues(first, Tables[PlaceOf(process, page + count)], count))
                count++;
            if (KindOf(process, first) is { } kind)
                listed.Add(new Area(new PageRun(new PageNumber(process.FirstPage + (ulong)page), count), kind));
            page += count;
        }

        changed = !listed.SequenceEqual(areas);
        areas.Clear();
        areas.AddRange(listed);
        return true;
    }

    /// <inheritdoc/>
    public bool TryCollectWritten(SpaceId space, List<Area> areas, bool everything, List<WrittenRun> written)
    {
        Between();
        written.Clear();
        if (!IsThere(space, out SimulatedProcess process))
            return false;
        List<int> places = [.. PlacesOf(process, areas, AreaKind.Mergeable).Where(place => IsThere(place) && (everything || !TracksWrites || !Tables[place].Has(EntryFlags.Tracked)))];
        foreach (int place in places)
            Append(written, process.FirstPage + (ulong)(place - PlaceOf(process, 0)), Tables[place].State == EntryState.Zero);
        // What is in swap now is not listed: it is when it comes back, because it is tracked no more.
        foreach (int place in PlacesOf(process, areas, AreaKind.Mergeable))
        {
            if (everything && Tables[place].State == EntryState.Swapped)
                Tables.Change(place).Set(EntryFlags.Tracked, false);
        }

        if (Fails(MachineFaults.CollectThenProtect))
        {
            Between();
            places = [.. PlacesOf(process, areas, AreaKind.Mergeable).Where(IsThere)];
        }

        foreach (int place in places)
            Tables.Change(place).Set(EntryFlags.Tracked, true);
        return process.Alive;
    }

    /// <inheritdoc/>
    public bool TryCollectMerged(SpaceId space, List<Area> areas, bool everything, List<MergedRun> merged, out bool unchanged)
    {
        Between();
        merged.Clear();
        unchanged = false;
        if (!IsThere(space, out SimulatedProcess process))
            return false;
        Area[] looked = [.. areas.Where(area => area.Kind == AreaKind.Merged)];
        unchanged = !process.MergedChanged && !everything && looked.AsSpan().SequenceEqual(process.MergedAreas);
        (process.MergedChanged, process.MergedAreas) = (false, looked);
        if (unchanged)
            return true;
        foreach (int place in PlacesOf(process, areas, AreaKind.Merged))
        {
            if (!IsFrame(Tables[place]))
                continue;
            ulong page = process.FirstPage + (ulong)(place - PlaceOf(process, 0));
            uint frame = Tables[place].Backing - 1;
            if (merged.Count > 0 && merged[^1].Range.End == page && merged[^1].FirstFrame.Value + (uint)merged[^1].Range.Count == frame)
                merged[^1] = merged[^1] with { Range = merged[^1].Range with { Count = merged[^1].Range.Count + 1 } };
            else
                merged.Add(new MergedRun(new PageRun(new PageNumber(page), 1), new FrameId(frame)));
        }

        return true;
    }

    /// <inheritdoc/>
    public void Read(SpaceId space, PageRun range, Span<byte> content, Span<PageFact> facts)
    {
        _ = TryExecuteNext();
        facts.Clear();
        for (int i = 0; i < (int)range.Count; i++)
        {
            Between();
            if (!IsThere(space, out SimulatedProcess process))
                return;
            // Nobody waits for a program that does not let itself be read.
            if (process.Stopped && _options.Lags)
            {
                facts[i] = PageFact.Unread;
                continue;
            }

            PageEntry entry = Tables[PlaceOf(process, range.Start.Value + (ulong)i)];
            if (entry is not { State: EntryState.Present, Backing: 0 } || !entry.In(AreaFlags.Readable))
                continue;
            PhysicalPage page = Tables.Physical[entry.Target];
            facts[i] = page.Mappings == 1 ? PageFact.Own : PageFact.SharedAlready;
            Content.Expand(page.Content, content.Slice(i * PageSize, PageSize));
        }
    }

    /// <inheritdoc/>
    public void BeginWriteFrames(DomainId domain, FrameId first, ReadOnlyMemory<byte> content)
    {
        _writing = (domain, first, content);
        if (!_options.Lags)
            _written = TryWriteFrames();
    }

    /// <inheritdoc/>
    public bool EndWriteFrames() => _options.Lags ? TryWriteFrames() : _written;

    private bool TryWriteFrames()
    {
        (DomainId domain, FrameId first, ReadOnlyMemory<byte> memory) = _writing;
        ReadOnlySpan<byte> content = memory.Span;
        Between();
        int pool = Fails(MachineFaults.OnePoolForAll) ? 0 : domain.Value;
        for (int i = 0; i < content.Length / PageSize; i++)
        {
            uint frame = first.Value + (uint)i;
            if (!IsNowhereMapped(pool, frame))
                throw new BrokenInvariantException(Invariant.FramesAreFreedUnmapped, $"frame {frame} of domain {pool} is written while it is mapped");
            ulong value = Content.Contract(content.Slice(i * PageSize, PageSize));
            Free(pool, frame);
            int page = Tables.Physical.Take(PageUse.Frame, value);
            if (page < 0)
            {
                for (int k = 0; k < i; k++)
                    Free(pool, first.Value + (uint)k);
                return false;
            }

            (Tables.Physical[page].Domain, Tables.Physical[page].Frame) = (pool, frame);
            Tables.Pools[pool, frame] = new PoolFrame { Held = true, Physical = page + 1, Written = value };
            Tables.TouchedPages.Add(page);
        }

        return true;
    }

    /// <inheritdoc/>
    public bool TryReadFrame(DomainId domain, FrameId frame, Span<byte> content)
    {
        Between();
        Content.Expand(ContentOf(domain.Value, frame.Value), content);
        return true;
    }

    /// <inheritdoc/>
    public void FindUnmapped(DomainId domain, FrameId first, Span<bool> unmapped)
    {
        for (int i = 0; i < unmapped.Length; i++)
            unmapped[i] = Fails(MachineFaults.UnmappedAlways) || IsNowhereMapped(domain.Value, first.Value + (uint)i);
    }

    /// <inheritdoc/>
    public void FreeFrames(DomainId domain, FrameId first, int count)
    {
        int pool = Fails(MachineFaults.OnePoolForAll) ? 0 : domain.Value;
        for (uint i = 0; i < count; i++)
        {
            if (!IsNowhereMapped(pool, first.Value + i))
                throw new BrokenInvariantException(Invariant.FramesAreFreedUnmapped, $"frame {first.Value + i} of domain {pool} is freed while it is mapped");
            Free(pool, first.Value + i);
        }
    }

    /// <summary>Whether an entry of a mapping of frames is still its frame, in memory or in swap.</summary>
    public bool IsFrame(in PageEntry entry) =>
        (entry.State == EntryState.Present && Tables.Physical[entry.Target].Use == PageUse.Frame) || IsFrameSlot(entry);

    /// <summary>Whether any page of a process lies in a mapping of frames.</summary>
    public bool MapsFrames(SimulatedProcess process)
    {
        int first = PlaceOf(process, 0);
        for (int place = first; place < first + Tables.Window; place++)
        {
            if (Tables[place].Backing != 0)
                return true;
        }

        return false;
    }

    /// <summary>What an entry's area may be to the engine; null when it must be left alone (A2).</summary>
    public AreaKind? KindOf(SimulatedProcess process, in PageEntry entry)
    {
        if (entry.Backing != 0)
            return AreaKind.Merged;
        if (!entry.In(AreaFlags.Mapped) || (process.ByAdvice && !entry.In(AreaFlags.Advised)))
            return null;
        return Fails(MachineFaults.EverythingMergeable) || AreaEligibility.IsMergeable(TraitsOf(entry.Area)) ? AreaKind.Mergeable : null;
    }

    /// <summary>An area as the rule of eligibility sees it. Locks are left out: what carries plans out here takes them over (D7).</summary>
    private static AreaTraits TraitsOf(AreaFlags area)
    {
        AreaTraits traits = AreaTraits.None;
        foreach ((AreaFlags flag, AreaTraits trait) in Traits)
            traits |= (area & flag) != 0 ? trait : AreaTraits.None;
        return traits;
    }

    private bool IsNowhereMapped(int domain, uint frame)
    {
        PoolFrame held = Tables.Pools[domain, frame];
        return (held.Physical == 0 || Tables.Physical[held.Physical - 1].Mappings == 0) && (held.Slot == 0 || Tables.Swap[held.Slot - 1].Mappings == 0);
    }

    private void Free(int domain, uint frame)
    {
        PoolFrame held = Tables.Pools[domain, frame];
        Tables.Pools[domain, frame] = default;
        if (held.Physical != 0)
        {
            Tables.TouchedPages.Add(held.Physical - 1);
            Tables.Physical.Release(held.Physical - 1);
        }

        if (held.Slot != 0)
            Tables.Swap.Release(held.Slot - 1);
    }

    private bool IsThere(SpaceId space, out SimulatedProcess process)
    {
        bool found = _spaces.TryGetValue(space.Value, out process!);
        Working = process;
        return found && process.Alive;
    }

    private static bool Continues(in PageEntry first, in PageEntry next, int distance) =>
        next.Area == first.Area && next.Backing == (first.Backing == 0 ? 0 : first.Backing + (uint)distance);

    private bool IsThere(int place) => Tables[place] is { Backing: 0, State: EntryState.Present or EntryState.Zero };

    private IEnumerable<int> PlacesOf(SimulatedProcess process, List<Area> areas, AreaKind kind)
    {
        foreach (Area area in areas)
        {
            for (int i = 0; area.Kind == kind && i < (int)area.Range.Count; i++)
                yield return PlaceOf(process, area.Range.Start.Value + (ulong)i);
        }
    }

    private static void Append(List<WrittenRun> written, ulong page, bool zero)
    {
        if (written.Count > 0 && written[^1].Range.End == page && written[^1].IsZeroPage == zero)
            written[^1] = written[^1] with { Range = written[^1].Range with { Count = written[^1].Range.Count + 1 } };
        else
            written.Add(new WrittenRun(new PageRun(new PageNumber(page), 1), zero));
    }
}
