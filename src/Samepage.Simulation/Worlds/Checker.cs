using Samepage.Simulation.Memory;

namespace Samepage.Simulation.Worlds;

/// <summary>Holds the machine against what its programs know.</summary>
/// <remarks>After each step it looks at what the step touched: at the places, and at every mapping of the physical pages. That is enough, because what a
/// program reads depends on its own entry and on the page that this names. Now and then, and at the end, all is recounted, lest something was not noted.</remarks>
internal sealed class Checker(SimulatedMachine machine, Programs programs)
{
    /// <summary>Code is not among them: it may be merged while it cannot be written, and become writable then.</summary>
    private const AreaFlags NeverMerged = AreaFlags.Shared | AreaFlags.Device | AreaFlags.HugeTlb | AreaFlags.NoExpand;
    private readonly PageTables _tables = machine.Tables;

    /// <summary>Looks at what was touched since it last looked.</summary>
    public void LookAtTouched()
    {
        foreach (int place in _tables.TouchedPlaces)
            LookAt(place);
        foreach (int page in _tables.TouchedPages)
            LookAtPage(page);
        _tables.TouchedPlaces.Clear();
        _tables.TouchedPages.Clear();
    }

    /// <summary>Recounts all.</summary>
    /// <param name="atRest">The engine is not in the middle of anything.</param>
    public void Recount(bool atRest)
    {
        int[] mappings = new int[_tables.Physical.Count], slots = new int[_tables.Swap.Count];
        for (int place = 0; place < _tables.Places; place++)
        {
            ref readonly PageEntry entry = ref _tables[place];
            if (entry.State == EntryState.Present)
                mappings[entry.Target]++;
            else if (entry.State == EntryState.Swapped)
                slots[entry.Target]++;
            LookAt(place);
            if (atRest && ((IsScratch(place) && entry.State != EntryState.None) || entry.Has(EntryFlags.Missing | EntryFlags.Protected)))
                throw Broken(Invariant.NobodyWaits, place, "an exchange left something half done");
        }

        RecountPages(_tables.Physical, mappings, (page, held) => held.Pins > 0 || (held.Use == PageUse.Frame && _tables.Pools[held.Domain, held.Frame].Physical == page + 1));
        RecountPages(_tables.Swap, slots, (slot, held) => held.Use == PageUse.Frame && _tables.Pools[held.Domain, held.Frame].Slot == slot + 1);
        for (int page = 0; page < _tables.Physical.Count; page++)
            LookAtPage(page);
    }

    /// <summary>Throws when somebody waits although the engine has come back.</summary>
    public void NobodyWaits()
    {
        if (programs.Waiting > 0)
            throw new BrokenInvariantException(Invariant.NobodyWaits, $"{programs.Waiting} writes wait, and nothing is under way that would wake them");
    }

    private static BrokenInvariantException Broken(Invariant invariant, int place, string details) => new(invariant, $"place {place}: {details}");

    private bool IsScratch(int place) => place % _tables.Stride >= _tables.Window;

    private void LookAt(int place)
    {
        SimulatedProcess? process = machine[place / _tables.Stride];
        if (process is not { Alive: true } || IsScratch(place))
            return;
        ref readonly PageEntry entry = ref _tables[place];
        if (entry.Area != programs.Area(place))
            throw Broken(Invariant.AreasStayAsAsked, place, $"it is {entry.Area}, and its program asked for {programs.Area(place)}");
        if (entry.Backing != 0 && entry.In(NeverMerged))
            throw Broken(Invariant.OnlyEligibleIsMerged, place, $"a page that is {entry.Area} shows frame {entry.Backing - 1}");
        if (entry.State == EntryState.Present && _tables.Physical[entry.Target] is { Use: PageUse.Frame } frame)
        {
            if (frame.Domain != process.Domain)
                throw Broken(Invariant.DomainsAreApart, place, $"a process of domain {process.Domain} maps frame {frame.Frame} of domain {frame.Domain}");
            if (entry.Has(EntryFlags.Writable))
                throw Broken(Invariant.FramesNeverChange, place, $"frame {frame.Frame} can be written through it");
        }

        if (machine.Peek(place, out ulong content) == Access.Done && content != programs.Content(place))
            throw Broken(Invariant.EachReadsWhatItWrote, place, $"it reads {content:x16} instead of {programs.Content(place):x16}");
    }

    private void LookAtPage(int page)
    {
        PhysicalPage held = _tables.Physical[page];
        if (held.Use == PageUse.Frame && held.Content != _tables.Pools[held.Domain, held.Frame].Written)
            throw new BrokenInvariantException(Invariant.FramesNeverChange, $"frame {held.Frame} of domain {held.Domain} was made with {_tables.Pools[held.Domain, held.Frame].Written:x16} and holds {held.Content:x16}");
        int count = 0;
        for (int place = held.Head; place >= 0; place = _tables[place].Next)
        {
            if (_tables[place].State != EntryState.Present || _tables[place].Target != page || ++count > held.Mappings)
                throw Broken(Invariant.ReverseMapIsComplete, place, $"the reverse map of physical page {page} names it");
            LookAt(place);
        }

        if (count != held.Mappings)
            throw new BrokenInvariantException(Invariant.ReverseMapIsComplete, $"physical page {page} is mapped {held.Mappings} times, and its reverse map names {count}");
    }

    private static void RecountPages(PhysicalMemory memory, int[] mappings, Func<int, PhysicalPage, bool> isHeld)
    {
        int free = 0;
        for (int page = 0; page < memory.Count; page++)
        {
            PhysicalPage held = memory[page];
            if (held.Mappings != mappings[page])
                throw new BrokenInvariantException(Invariant.ReverseMapIsComplete, $"page {page} says {held.Mappings} mappings, and {mappings[page]} entries name it");
            bool used = held.Mappings > 0 || isHeld(page, held);
            if (used != (held.Use != PageUse.Free))
                throw new BrokenInvariantException(Invariant.MemoryIsConserved, $"page {page} is {held.Use}, with {held.Mappings} mappings and {held.Pins} pins");
            free += held is { Use: PageUse.Free, Offline: false } ? 1 : 0;
        }

        if (free != memory.FreeCount)
            throw new BrokenInvariantException(Invariant.MemoryIsConserved, $"{free} pages are in nobody's use, and {memory.FreeCount} are to be had");
    }
}
