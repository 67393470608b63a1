using Samepage.Simulation.Memory;

namespace Samepage.Simulation;

/// <content>The system calls by which programs change their address spaces.</content>
internal sealed partial class SimulatedMachine
{
    /// <summary>mmap(2) of one page: whatever was there is gone.</summary>
    public void Map(int place, AreaFlags area)
    {
        Unmap(place);
        Tables.Change(place).Area = area;
    }

    /// <summary>munmap(2).</summary>
    public void Unmap(int place)
    {
        Discard(place);
        ref PageEntry entry = ref Tables.Change(place);
        (entry.Area, entry.Backing, entry.Flags) = (AreaFlags.None, 0, EntryFlags.None);
    }

    /// <summary>madvise(2) MADV_DONTNEED: the page reads as zeros from now on.</summary>
    public void Discard(int place)
    {
        ref readonly PageEntry entry = ref Tables[place];
        bool exchanged = entry.Has(EntryFlags.Missing | EntryFlags.Protected) && !Fails(MachineFaults.DiscardUndone);
        if (entry.Backing != 0)
            OwnerOf(place).MergedChanged = true;
        ReleaseHuge(place);
        Tables.Clear(place);
        ref PageEntry changed = ref Tables.Change(place);
        changed.Set(EntryFlags.Tracked, false);
        changed.Set(EntryFlags.Dropped, exchanged);
    }

    /// <summary>mprotect(2), mlock(2), madvise(2): changes what an area is.</summary>
    /// <returns>False when the page cannot be brought into memory to be locked; nothing has changed then.</returns>
    public bool Become(int place, AreaFlags area)
    {
        bool locks = (area & AreaFlags.Locked) != 0 && !Tables[place].In(AreaFlags.Locked);
        if (locks && FaultIn(place, write: (area & AreaFlags.Writable) != 0) is not Access.Done)
            return false;
        Tables.Change(place).Area = area;
        if ((area & AreaFlags.Writable) == 0)
            Tables.Change(place).Set(EntryFlags.Writable, false);
        return true;
    }

    /// <summary>mremap(2): moves a page and its area to another place of the same address space. The tracking of writes does not go along, the watch over
    /// frames does: only that one asks for the event.</summary>
    public void Remap(int from, int to)
    {
        Unmap(to);
        ReleaseHuge(from);
        OwnerOf(from).MergedChanged = true;
        PageEntry entry = Tables[from];
        ref PageEntry moved = ref Tables.Change(to);
        (moved.Area, moved.Backing, moved.Flags) = (entry.Area, entry.Backing, entry.Flags & EntryFlags.Watched);
        Tables.Move(from, to);
        ref PageEntry left = ref Tables.Change(from);
        (left.Area, left.Backing, left.Flags) = (AreaFlags.None, 0, EntryFlags.None);
    }

    /// <summary>fork(2). The child shares every page until one of the two writes; pages that a device holds are copied at once.</summary>
    /// <returns>Null when there is no slot or no memory.</returns>
    public SimulatedProcess? Fork(SimulatedProcess parent)
    {
        SimulatedProcess? child = Start(parent.Domain);
        if (child is null)
            return null;
        for (int page = 0; page < Tables.Window; page++)
        {
            if (!ForkPage(PlaceOf(parent, page), PlaceOf(child, page)))
            {
                End(child);
                return null;
            }
        }

        return child;
    }

    private bool ForkPage(int from, int to)
    {
        ref readonly PageEntry entry = ref Tables[from];
        if (!entry.In(AreaFlags.Mapped) || entry.In(AreaFlags.NoFork))
            return true;
        ref PageEntry child = ref Tables.Change(to);
        child.Area = entry.Area & ~AreaFlags.Locked;
        if (entry.In(AreaFlags.WipeOnFork))
            return true;
        child.Backing = entry.Backing;
        child.Flags = Fails(MachineFaults.ChildUnwatched) ? EntryFlags.None : entry.Flags & EntryFlags.Watched;
        switch (entry.State)
        {
            case EntryState.Present when Tables.Physical[entry.Target].Pins > 0:
                return Copy(Tables.Physical[entry.Target].Content, to);
            case EntryState.Present:
                if (IsFrame(entry))
                    Tables.Pools[Tables.Physical[entry.Target].Domain, Tables.Physical[entry.Target].Frame].Joined++;
                ref PageEntry parent = ref Tables.Change(from);
                parent.Flags &= ~(EntryFlags.Exclusive | EntryFlags.Writable);
                Tables.MapPage(to, entry.Target, entry.Flags & EntryFlags.Huge);
                return true;
            case EntryState.Swapped:
                Tables.Change(from).Set(EntryFlags.Exclusive, false);
                Tables.MapSlot(to, entry.Target);
                return true;
            case EntryState.Zero:
                Tables.MapZero(to);
                return true;
            default:
                return FillHole(from, to);
        }
    }

    /// <summary>A page that is out for an exchange at the moment of a fork leaves a hole in the child. The event of the fork comes before the child
    /// runs, and the hole is filled with what is known to belong there.</summary>
    private bool FillHole(int from, int to)
    {
        int scratch = from + Tables.Window;
        if (!Tables[from].Has(EntryFlags.Missing) || Tables[from].Has(EntryFlags.Dropped) || Fails(MachineFaults.MissChildsHole))
            return true;
        return Tables[scratch].State switch
        {
            EntryState.Present => Copy(Tables.Physical[Tables[scratch].Target].Content, to),
            EntryState.Swapped => Copy(Tables.Swap[Tables[scratch].Target].Content, to),
            _ => true,
        };
    }

    private bool Copy(ulong content, int to)
    {
        int page = Tables.Physical.Take(PageUse.Anonymous, content);
        if (page >= 0)
            Tables.MapPage(to, page, EntryFlags.Exclusive);
        return page >= 0;
    }
}
