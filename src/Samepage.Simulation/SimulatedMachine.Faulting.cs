using Samepage.Simulation.Memory;

namespace Samepage.Simulation;

/// <summary>What came of a touch.</summary>
internal enum Access
{
    Done,

    /// <summary>The thread waits until an exchange is over; nothing has happened yet.</summary>
    Waits,

    /// <summary>The program may not do that there.</summary>
    Refused,

    /// <summary>There is no memory; nothing has happened.</summary>
    NoMemory,
}

/// <content>Page faults: what the kernel, and the warden for it, do when a program touches a page.</content>
internal sealed partial class SimulatedMachine
{
    /// <summary>Writes a page: the cells of the mask become those of the content. By the program itself, or by the kernel for somebody else.</summary>
    public Access Write(int place, ulong mask, ulong content)
    {
        Access access = FaultIn(place, write: true);
        if (access == Access.Done)
        {
            int page = Tables[place].Target;
            Tables.Store(page, (Tables.Physical[page].Content & ~mask) | (content & mask));
        }

        return access;
    }

    /// <summary>Reads a page.</summary>
    public Access Read(int place, out ulong content)
    {
        Access access = FaultIn(place, write: false);
        content = access == Access.Done && Tables[place].State == EntryState.Present ? Tables.Physical[Tables[place].Target].Content : Content.Zero;
        return access;
    }

    /// <summary>What a read would give now, without doing it.</summary>
    public Access Peek(int place, out ulong content)
    {
        ref readonly PageEntry entry = ref Tables[place];
        content = Content.Zero;
        if (!entry.In(AreaFlags.Readable))
            return Access.Refused;
        if (entry.State == EntryState.Present)
            content = Tables.Physical[entry.Target].Content;
        else if (entry.State == EntryState.Swapped)
            content = Tables.Swap[entry.Target].Content;
        else if (entry is { State: EntryState.None, Backing: not 0 } && ShowsFrame(entry))
            content = ContentOf(PoolOf(OwnerOf(place)), entry.Backing - 1);
        else if (entry.State == EntryState.None && entry.Has(EntryFlags.Missing))
            return Access.Waits;
        return Access.Done;
    }

    /// <summary>The content of a frame, wherever it lies.</summary>
    public ulong ContentOf(int domain, uint frame)
    {
        PoolFrame held = Tables.Pools[domain, frame];
        return held.Physical != 0 ? Tables.Physical[held.Physical - 1].Content : held.Slot != 0 ? Tables.Swap[held.Slot - 1].Content : Content.Zero;
    }

    /// <summary>Sees to it that a page can be read, or written.</summary>
    public Access FaultIn(int place, bool write)
    {
        ref readonly PageEntry entry = ref Tables[place];
        if (!entry.In(AreaFlags.Readable) || (write && !entry.In(AreaFlags.Writable)))
            return Access.Refused;
        if ((write && entry.Has(EntryFlags.Protected)) || (entry.State == EntryState.None && entry.Has(EntryFlags.Missing)))
            return Access.Waits;
        if (entry.State == EntryState.None && entry.Backing != 0 && ShowsFrame(entry) && !MapFrame(place))
            return Access.NoMemory;
        if (entry.State == EntryState.None && !write)
            Tables.MapZero(place);
        if (entry.State == EntryState.Swapped && !(write && IsFrameSlot(entry)) && !SwapIn(place))
            return Access.NoMemory;
        if (!write)
            return Access.Done;
        if (!MakeWritable(place))
            return Access.NoMemory;
        Tables.Change(place).Set(EntryFlags.Tracked, false);
        return Access.Done;
    }

    /// <summary>Brings a page back from swap: a frame as the frame that it is (F2).</summary>
    public bool SwapIn(int place)
    {
        int slot = Tables[place].Target;
        bool exclusive = Tables[place].Has(EntryFlags.Exclusive);
        if (IsFrameSlot(Tables[place]))
        {
            (int domain, uint frame) = (Tables.Swap[slot].Domain, Tables.Swap[slot].Frame);
            if (!Load(domain, frame))
                return false;
            Tables.Clear(place);
            Tables.MapPage(place, Tables.Pools[domain, frame].Physical - 1, EntryFlags.None);
            return true;
        }

        int page = Tables.Physical.Take(PageUse.Anonymous, Tables.Swap[slot].Content);
        if (page < 0)
            return false;
        Tables.Clear(place);
        Tables.MapPage(place, page, exclusive ? EntryFlags.Exclusive : EntryFlags.None);
        return true;
    }

    /// <summary>Maps the frame that the mapping has at a place.</summary>
    /// <returns>False when there is no memory for it.</returns>
    private bool MapFrame(int place)
    {
        SimulatedProcess process = OwnerOf(place);
        uint frame = Tables[place].Backing - 1;
        if (!Load(PoolOf(process), frame))
            return false;
        Tables.MapPage(place, Tables.Pools[PoolOf(process), frame].Physical - 1, Fails(MachineFaults.FrameWritable) ? EntryFlags.Writable : EntryFlags.None);
        process.MergedChanged = true;
        return true;
    }

    private bool IsFrameSlot(in PageEntry entry) => entry.State == EntryState.Swapped && Tables.Swap[entry.Target].Use == PageUse.Frame;

    /// <summary>An empty entry of a mapping of frames was discarded if the mapping is watched; before that it shows what the file holds.</summary>
    private bool ShowsFrame(in PageEntry entry) => !entry.Has(EntryFlags.Missing) && (!entry.Has(EntryFlags.Watched) || Fails(MachineFaults.DiscardShowsFrame));

    /// <summary>Sees to it that a frame lies in memory.</summary>
    private bool Load(int domain, uint frame)
    {
        ref PoolFrame held = ref Tables.Pools[domain, frame];
        if (held.Physical != 0)
            return true;
        int page = Tables.Physical.Take(PageUse.Frame, ContentOf(domain, frame));
        if (page < 0)
            return false;
        (Tables.Physical[page].Domain, Tables.Physical[page].Frame) = (domain, frame);
        Tables.TouchedPages.Add(page);
        (held.Physical, held.Held) = (page + 1, true);
        if (held.Slot != 0)
            Tables.ReleaseSlotIfUnused(held.Slot - 1);
        return true;
    }

    /// <summary>The write fault: a page of one's own where there was none, or where others use it too.</summary>
    private bool MakeWritable(int place)
    {
        ref readonly PageEntry entry = ref Tables[place];
        if (entry.State == EntryState.Present && Fails(MachineFaults.WriteIntoFrame) && Tables.Physical[entry.Target].Use == PageUse.Frame)
            return true;
        if (entry.State == EntryState.Present && Tables.Physical[entry.Target] is { Use: PageUse.Anonymous } page &&
            (entry.Has(EntryFlags.Exclusive) || page is { Mappings: 1, Pins: 0 }))
        {
            Tables.Change(place).Flags |= EntryFlags.Exclusive | EntryFlags.Writable;
            return true;
        }

        ulong content = entry.State switch
        {
            EntryState.Present => Tables.Physical[entry.Target].Content,
            EntryState.Swapped => Tables.Swap[entry.Target].Content,
            _ => Content.Zero,
        };
        int copy = Tables.Physical.Take(PageUse.Anonymous, content);
        if (copy < 0)
            return false;
        if (entry.Backing != 0)
            OwnerOf(place).MergedChanged = true;
        ReleaseHuge(place);
        Tables.Clear(place);
        Tables.MapPage(place, copy, EntryFlags.Exclusive | EntryFlags.Writable);
        return true;
    }

    /// <summary>Splits the huge page that a place is part of, in its own address space.</summary>
    private void ReleaseHuge(int place)
    {
        if (!Tables[place].Has(EntryFlags.Huge))
            return;
        int first = place - place % Tables.Stride % HugePages;
        for (int i = first; i < first + HugePages; i++)
            Tables.Change(i).Set(EntryFlags.Huge, false);
    }
}
