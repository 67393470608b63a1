namespace Samepage.Simulation.Memory;

/// <summary>All page-table entries of all address spaces in one array, the physical pages and swap slots that they name, and the reverse maps.</summary>
/// <remarks>
/// <para>A <em>place</em> is an entry's number in the array: the slot of its address space times <see cref="Stride"/>, plus its page there. The upper half of
/// an address space is scratch of whoever works on it: the scratch place of a page is <see cref="Window"/> above it, and no program reaches it.</para>
/// <para>Whatever is changed is noted in <see cref="TouchedPlaces"/> and <see cref="TouchedPages"/>, so that a checker need not look at the rest.</para>
/// </remarks>
internal sealed class PageTables(int spaces, int window, int pages, int slots)
{
    private readonly PageEntry[] _entries = NewEntries(spaces * window * 2);

    public int Window => window;

    public int Stride => window * 2;

    public PhysicalMemory Physical { get; } = new(pages);

    public PhysicalMemory Swap { get; } = new(slots);

    public FramePools Pools { get; } = new();

    /// <summary>Places whose entry changed since this was cleared.</summary>
    public List<int> TouchedPlaces { get; } = [];

    /// <summary>Physical pages whose content or use changed since this was cleared.</summary>
    public List<int> TouchedPages { get; } = [];

    public int Places => _entries.Length;

    /// <summary>An entry to look at.</summary>
    public ref readonly PageEntry this[int place] => ref _entries[place];

    /// <summary>An entry to change, which is noted. Its state and target are changed by the operations here alone.</summary>
    public ref PageEntry Change(int place)
    {
        TouchedPlaces.Add(place);
        return ref _entries[place];
    }

    /// <summary>Changes the content of a physical page.</summary>
    public void Store(int page, ulong content)
    {
        TouchedPages.Add(page);
        Physical[page].Content = content;
    }

    /// <summary>Maps a physical page at an empty place.</summary>
    public void MapPage(int place, int page, EntryFlags flags)
    {
        Link(place, EntryState.Present, page);
        _entries[place].Flags |= flags;
        TouchedPages.Add(page);
    }

    /// <summary>Notes a swap slot at an empty place.</summary>
    public void MapSlot(int place, int slot) => Link(place, EntryState.Swapped, slot);

    /// <summary>Maps the zero page at an empty place.</summary>
    public void MapZero(int place) => Change(place).State = EntryState.Zero;

    /// <summary>Empties a place. What was there and has no other use is freed at once (D9).</summary>
    public void Clear(int place)
    {
        ref PageEntry entry = ref Change(place);
        (EntryState state, int target) = (entry.State, entry.Target);
        if (state is EntryState.Present or EntryState.Swapped)
            Unlink(place);
        entry.State = EntryState.None;
        entry.Flags &= ~(EntryFlags.Writable | EntryFlags.Exclusive | EntryFlags.Huge);
        if (state == EntryState.Present)
            ReleaseIfUnused(target);
        else if (state == EntryState.Swapped)
            ReleaseSlotIfUnused(target);
    }

    /// <summary>Moves what is at one place to another, which is empty. Marks that belong to the page go along.</summary>
    public void Move(int from, int to)
    {
        PageEntry entry = _entries[from];
        EntryFlags marks = entry.Flags & (EntryFlags.Exclusive | EntryFlags.Writable);
        if (entry.State is EntryState.Present or EntryState.Swapped)
        {
            Unlink(from);
            Link(to, entry.State, entry.Target);
        }
        else
        {
            Change(to).State = entry.State;
        }

        ref PageEntry left = ref Change(from);
        left.State = EntryState.None;
        left.Flags &= ~(EntryFlags.Writable | EntryFlags.Exclusive | EntryFlags.Huge);
        ref PageEntry moved = ref _entries[to];
        moved.Flags = (moved.Flags & ~(EntryFlags.Exclusive | EntryFlags.Writable)) | marks;
    }

    /// <summary>Moves a physical page elsewhere: every mapping follows, found by the reverse map (F3, F4).</summary>
    public void Migrate(int from, int to)
    {
        ref PhysicalPage old = ref Physical[from], moved = ref Physical[to];
        (moved.Content, moved.Use, moved.Domain, moved.Frame) = (old.Content, old.Use, old.Domain, old.Frame);
        (moved.Head, moved.Mappings, old.Head, old.Mappings) = (old.Head, old.Mappings, -1, 0);
        for (int place = moved.Head; place >= 0; place = _entries[place].Next)
            Change(place).Target = to;
        if (moved.Use == PageUse.Frame)
            Pools[moved.Domain, moved.Frame].Physical = to + 1;
        Physical.Release(from);
        TouchedPages.Add(from);
        TouchedPages.Add(to);
    }

    /// <summary>Every place that maps a physical page, found by the reverse map: children forked later included (F3).</summary>
    public int[] MappingsOf(int page)
    {
        int[] places = new int[Physical[page].Mappings];
        int count = 0;
        for (int place = Physical[page].Head; place >= 0; place = _entries[place].Next)
            places[count++] = place;
        return places;
    }

    /// <summary>Lets go of a pin.</summary>
    public void Unpin(int page)
    {
        Physical[page].Pins--;
        ReleaseIfUnused(page);
    }

    /// <summary>Frees a slot that no entry and no frame names.</summary>
    public void ReleaseSlotIfUnused(int slot)
    {
        ref PhysicalPage held = ref Swap[slot];
        if (held.Mappings > 0 || held.Use == PageUse.Free || (held.Use == PageUse.Frame && Pools[held.Domain, held.Frame].Slot == slot + 1 && Pools[held.Domain, held.Frame].Physical == 0))
            return;
        if (held.Use == PageUse.Frame && Pools[held.Domain, held.Frame].Slot == slot + 1)
            Pools[held.Domain, held.Frame].Slot = 0;
        Swap.Release(slot);
    }

    private static PageEntry[] NewEntries(int count)
    {
        PageEntry[] entries = new PageEntry[count];
        entries.AsSpan().Fill(new PageEntry { Next = -1, Previous = -1 });
        return entries;
    }

    private void ReleaseIfUnused(int page)
    {
        TouchedPages.Add(page);
        ref PhysicalPage held = ref Physical[page];
        if (held is { Use: PageUse.Anonymous, Mappings: 0, Pins: 0 })
            Physical.Release(page);
    }

    private PhysicalMemory Of(EntryState state) => state == EntryState.Present ? Physical : Swap;

    private void Link(int place, EntryState state, int target)
    {
        ref PageEntry entry = ref Change(place);
        if (entry.State != EntryState.None)
            throw new InvalidOperationException($"something is mapped over what is at place {place}");
        ref PhysicalPage page = ref Of(state)[target];
        (entry.State, entry.Target, entry.Next, entry.Previous) = (state, target, page.Head, -1);
        if (page.Head >= 0)
            _entries[page.Head].Previous = place;
        page.Head = place;
        page.Mappings++;
    }

    private void Unlink(int place)
    {
        ref PageEntry entry = ref _entries[place];
        ref PhysicalPage page = ref Of(entry.State)[entry.Target];
        if (entry.Previous >= 0)
            _entries[entry.Previous].Next = entry.Next;
        else
            page.Head = entry.Next;
        if (entry.Next >= 0)
            _entries[entry.Next].Previous = entry.Previous;
        (entry.Next, entry.Previous) = (-1, -1);
        page.Mappings--;
    }
}
