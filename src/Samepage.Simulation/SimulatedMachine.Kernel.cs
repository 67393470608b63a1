using Samepage.Simulation.Memory;

namespace Samepage.Simulation;

/// <content>What the kernel and devices do on their own: swap, migration, huge pages, pins, memory taken offline.</content>
internal sealed partial class SimulatedMachine
{
    /// <summary>Writes a physical page out to swap and unmaps it everywhere, found by the reverse map (F3).</summary>
    /// <returns>False when it is held, locked, or there is no swap.</returns>
    public bool SwapOut(int page)
    {
        PhysicalPage old = Tables.Physical[page];
        if (old.Use == PageUse.Free || old.Pins > 0 || (old.Mappings == 0 && old.Use == PageUse.Anonymous))
            return false;
        int[] places = Tables.MappingsOf(page);
        if (Array.Exists(places, place => Tables[place].In(AreaFlags.Locked)))
            return false;
        int slot = old.Use == PageUse.Frame && Tables.Pools[old.Domain, old.Frame].Slot != 0
            ? Tables.Pools[old.Domain, old.Frame].Slot - 1
            : Tables.Swap.Take(old.Use, old.Content);
        if (slot < 0)
            return false;
        (Tables.Swap[slot].Domain, Tables.Swap[slot].Frame) = (old.Domain, old.Frame);
        if (old.Use == PageUse.Frame)
            Tables.Pools[old.Domain, old.Frame].Slot = slot + 1;
        foreach (int place in places)
        {
            bool exclusive = Tables[place].Has(EntryFlags.Exclusive);
            ReleaseHuge(place);
            Tables.Clear(place);
            Tables.MapSlot(place, slot);
            Tables.Change(place).Set(EntryFlags.Exclusive, exclusive);
        }

        if (old.Use == PageUse.Frame)
        {
            Tables.Pools[old.Domain, old.Frame].Physical = 0;
            Tables.TouchedPages.Add(page);
            Tables.Physical.Release(page);
        }

        return true;
    }

    /// <summary>Moves a physical page elsewhere (F4).</summary>
    /// <returns>False when it is held, or there is no memory.</returns>
    public bool Migrate(int page)
    {
        if (Tables.Physical[page] is { Use: PageUse.Free } or { Pins: > 0 })
            return false;
        int to = Tables.Physical.Take(PageUse.Anonymous, Content.Zero);
        if (to >= 0)
            Tables.Migrate(page, to);
        return to >= 0;
    }

    /// <summary>Takes physical pages out of service: what lies there is migrated. If something cannot be, all of it stays (F5).</summary>
    public bool TakeOffline(int first, int count)
    {
        for (int page = first; page < first + count; page++)
        {
            if (Tables.Physical[page] is { Use: PageUse.Free, Offline: false })
                Tables.Physical.Retire(page);
            else
                Tables.Physical[page].Offline = true;
        }

        for (int page = first; page < first + count; page++)
        {
            if (Tables.Physical[page].Use != PageUse.Free && !Migrate(page))
            {
                BringOnline(first, count);
                return false;
            }
        }

        return true;
    }

    /// <summary>Puts physical pages back into service.</summary>
    public void BringOnline(int first, int count)
    {
        for (int page = first; page < first + count; page++)
        {
            if (Tables.Physical[page] is { Use: PageUse.Free, Offline: true })
                Tables.Physical.Restore(page);
            Tables.Physical[page].Offline = false;
        }
    }

    /// <summary>Moves a frame to another number of its pool: its content and every mapping of it (F4).</summary>
    public void MoveFrame(int domain, uint from, uint to)
    {
        PoolFrame held = Tables.Pools[domain, from];
        (Tables.Pools[domain, to], Tables.Pools[domain, from]) = (held, default);
        if (held.Physical != 0)
            Tables.Physical[held.Physical - 1].Frame = to;
        if (held.Slot != 0)
            Tables.Swap[held.Slot - 1].Frame = to;
        foreach (SimulatedProcess process in Living.Where(process => PoolOf(process) == domain))
        {
            int first = PlaceOf(process, 0);
            for (int place = first; place < first + Tables.Window; place++)
            {
                if (Tables[place].Backing == from + 1)
                    Tables.Change(place).Backing = to + 1;
            }
        }
    }

    /// <summary>Makes a transparent huge page of eight neighbours, where nothing stands in the way.</summary>
    public bool Collapse(int place)
    {
        int first = place - place % Tables.Stride % HugePages;
        AreaFlags area = Tables[first].Area;
        for (int i = first; i < first + HugePages; i++)
        {
            PageEntry entry = Tables[i];
            if (entry is not { State: EntryState.Present, Backing: 0 } || entry.Area != area || !entry.Has(EntryFlags.Exclusive) ||
                (entry.Flags & (EntryFlags.Tracked | EntryFlags.Missing | EntryFlags.Protected)) != 0 || Tables.Physical[entry.Target].Pins > 0)
            {
                return false;
            }
        }

        for (int i = first; i < first + HugePages; i++)
            Tables.Change(i).Set(EntryFlags.Huge, true);
        return true;
    }

    /// <summary>A device, or a buffer registered for I/O, takes hold of a page: it may write it at any time, past every page table.</summary>
    /// <returns>The physical page, or -1 when it cannot be had now.</returns>
    public int Pin(int place)
    {
        if (FaultIn(place, write: true) != Access.Done)
            return -1;
        int page = Tables[place].Target;
        Tables.Physical[page].Pins++;
        Tables.TouchedPages.Add(page);
        return page;
    }

    /// <summary>Whether a device holds a page: of a huge page, any part counts for the whole.</summary>
    public bool IsPinned(int place)
    {
        int first = Tables[place].Has(EntryFlags.Huge) ? place - place % Tables.Stride % HugePages : place;
        int count = first == place && !Tables[place].Has(EntryFlags.Huge) ? 1 : HugePages;
        for (int i = first; i < first + count; i++)
        {
            if (Tables[i].State == EntryState.Present && Tables.Physical[Tables[i].Target].Pins > 0)
                return true;
        }

        return false;
    }
}
