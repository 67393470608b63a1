namespace Samepage.Engine.Records;

/// <summary>A page anywhere, as 32 bits: its slab and its place there.</summary>
internal readonly record struct PageRef(uint Value)
{
    /// <summary>No page: it has no record.</summary>
    public static readonly PageRef None = new(uint.MaxValue);

    public int Slab => (int)(Value / PageRecords.PagesPerSlab);

    public int Place => (int)(Value % PageRecords.PagesPerSlab);

    public static PageRef At(int slab, int place) => new((uint)slab * PageRecords.PagesPerSlab + (uint)place);
}

/// <summary>The records of all pages: columns in native memory, handed out in slabs of 512 neighbouring pages (2 MiB).</summary>
/// <remarks><code>
///   digest  u64   XxHash3 of the content while unique or planned, and, on a machine without write tracking, always, as the checksum of the last scan;
///                 otherwise a PageHistory
///   state   u32   a PageState, or the frame plus FirstFrame
///   owner   32 bytes a slab
/// </code>12 bytes a page; an entry of the unstable index costs 5.8 to 10 bytes, a frame with its entry at most 22, and has two pages at least:
/// a page never costs more than 24 bytes as long as its slab is fairly full. A slab exists only where a page was seen.</remarks>
internal sealed class PageRecords(MemoryBudget budget) : IDisposable
{
    public const int PagesPerSlab = 512;
    private const int SlabsMax = (int)((1L << 32) / PagesPerSlab) - 1;

    private readonly NativeColumn<ulong> _digests = new(budget);
    private readonly NativeColumn<uint> _states = new(budget);
    private readonly NativeColumn<SlabOwner> _owners = new(budget);
    private int _slabs;

    /// <summary>The slabs given back, as a chain through <see cref="SlabOwner.NextFree"/>; 0 is its end, so slabs are named by their number plus one.</summary>
    private int _firstFree;

    /// <summary>Slabs in use.</summary>
    public int SlabsUsed { get; private set; }

    /// <summary>Bytes held by all columns.</summary>
    public long Bytes => _digests.Bytes + _states.Bytes + _owners.Bytes;

    /// <summary>A deliberate fault: records are dropped without being counted off.</summary>
    public bool DropsWithoutCounting { get; init; }

    public ref ulong Digest(PageRef page) => ref _digests[page.Value];

    /// <summary>On a machine that tracks writes, while the state has no digest.</summary>
    public PageHistory History(PageRef page) => PageHistory.Of(_digests[page.Value]);

    public uint State(PageRef page) => _states[page.Value];

    /// <summary>The states of a slab's pages.</summary>
    public ReadOnlySpan<uint> StatesOf(int slab) => _states.Slice((long)slab * PagesPerSlab, PagesPerSlab);

    public ref SlabOwner Owner(int slab) => ref _owners[slab];

    /// <summary>Changes a page's state and the counts of its slab and its space with it: the counts are exact at every moment (G10).</summary>
    public void SetState(PageRef page, uint state, SpaceCounts counts)
    {
        ref uint old = ref _states[page.Value];
        if (old == state)
            return;
        ref SlabOwner owner = ref _owners[page.Slab];
        owner.Count(old, -1);
        owner.Count(state, +1);
        if (!DropsWithoutCounting || state != PageState.None)
            counts.Count(old, -1);
        counts.Count(state, +1);
        old = state;
    }

    /// <summary>Takes a slab; all its pages are <see cref="PageState.None"/>.</summary>
    /// <returns>False when there is no memory.</returns>
    public bool TryTake(SpaceId space, ulong chunk, out int slab)
    {
        slab = _firstFree > 0 ? _firstFree - 1 : _slabs;
        if (slab == _slabs)
        {
            if (slab == SlabsMax || !TryMakeRoom(slab + 1L))
                return false;
            _slabs++;
        }
        else
        {
            _firstFree = _owners[slab].NextFree;
        }

        _owners[slab] = new SlabOwner { Space = space, Chunk = chunk };
        SlabsUsed++;
        return true;
    }

    /// <summary>Gives a slab back; all its pages must be <see cref="PageState.None"/>.</summary>
    public void Return(int slab)
    {
        if (_owners[slab].Tracked != 0)
            throw new EngineInvariantException("slabs", $"slab {slab} is returned with {_owners[slab].Tracked} records in it");
        _owners[slab] = new SlabOwner { NextFree = _firstFree };
        _firstFree = slab + 1;
        SlabsUsed--;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _digests.Dispose();
        _states.Dispose();
        _owners.Dispose();
    }

    private bool TryMakeRoom(long slabs)
    {
        long room = slabs * PagesPerSlab <= _digests.Capacity ? _digests.Capacity / PagesPerSlab : Math.Max(slabs, slabs + slabs / 64);
        return (_digests.TryGrow(room * PagesPerSlab) || _digests.TryGrow(slabs * PagesPerSlab))
            && (_states.TryGrow(room * PagesPerSlab) || _states.TryGrow(slabs * PagesPerSlab))
            && (_owners.TryGrow(room) || _owners.TryGrow(slabs));
    }

    /// <summary>Whose a slab is, and how many of its pages are in which state.</summary>
    internal struct SlabOwner
    {
        public SpaceId Space;

        /// <summary>While it is free.</summary>
        public int NextFree;
        public ulong Chunk;
        public int Tracked, Merged, Pending, Resting;

        public void Count(uint state, int by)
        {
            if (state == PageState.None)
                return;
            Tracked += by;
            if (PageState.IsMerged(state))
                Merged += by;
            else if (PageState.IsPending(state))
                Pending += by;
            else if (state == PageState.Resting)
                Resting += by;
        }
    }
}
