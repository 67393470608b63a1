namespace Samepage.Engine.Records;

/// <summary>A page anywhere, as 32 bits: its slab and its place there.</summary>
internal readonly record struct PageRef(uint Value)
{
    public int Slab => (int)(Value / PageRecords.PagesPerSlab);

    public int Place => (int)(Value % PageRecords.PagesPerSlab);

    public static PageRef At(int slab, int place) => new((uint)slab * PageRecords.PagesPerSlab + (uint)place);
}

/// <summary>What the engine knows of a page. Values from <see cref="FirstFrame"/> on name the frame that it is mapped to.</summary>
internal static class PageState
{
    public const uint None = 0;

    /// <summary>Written in the pass before; if not again in this one, it is looked up.</summary>
    public const uint Written = 1;

    /// <summary>Written in this pass.</summary>
    public const uint WrittenNow = 2;

    /// <summary>Unchanged for a while and like no other: in the unstable index.</summary>
    public const uint Unique = 3;

    /// <summary>Physically shared already; left alone until it is written.</summary>
    public const uint SharedAlready = 4;

    /// <summary>Could not be merged this time; looked up again in the next pass.</summary>
    public const uint Retry = 5;

    /// <summary>Cannot be merged for its content; left alone until it is written.</summary>
    public const uint Odd = 6;

    /// <summary>Given back to the kernel's zero page.</summary>
    public const uint Zeroed = 7;

    /// <summary>In a plan that is not carried out yet.</summary>
    public const uint Planned = 8;

    /// <summary>Was merged, and a write broke it: private memory inside a mapping of frames.</summary>
    public const uint Broken = 9;

    public const uint FirstFrame = 16;

    public static bool IsMerged(uint state) => state >= FirstFrame;

    /// <summary>Looked at again in the next pass.</summary>
    public static bool IsPending(uint state) => state is Written or WrittenNow or Retry;
}

/// <summary>The records of all pages: columns in native memory, handed out in slabs of 512 neighbouring pages (2 MiB).</summary>
/// <remarks><code>
///   digest  u64   XxHash3 of the content; valid while Unique, Planned or merged
///   state   u32   a PageState, or the frame plus FirstFrame
/// </code>12 bytes a page; an entry of the unstable index costs 5 bytes at a load between 0.43 and 0.86, so a page never costs more than
/// 24 bytes as long as its slab is fairly full. A slab exists only where a page was seen.</remarks>
internal sealed class PageRecords : IDisposable
{
    public const int PagesPerSlab = 512;

    private readonly NativeColumn<ulong> _digests = new();
    private readonly NativeColumn<uint> _states = new();
    private readonly Stack<int> _free = [];
    private SlabOwner[] _owners = new SlabOwner[16];
    private int _slabs;

    /// <summary>Bytes held by all columns.</summary>
    public long Bytes => _digests.Bytes + _states.Bytes + (long)_owners.Length * 40;

    public ref ulong Digest(PageRef page) => ref _digests[page.Value];

    public uint State(PageRef page) => _states[page.Value];

    public ref SlabOwner Owner(int slab) => ref _owners[slab];

    /// <summary>Changes a page's state and the counts of its slab and its space with it: the counts are exact at every moment (G10).</summary>
    public void SetState(PageRef page, uint state, SpaceCounts counts)
    {
        ref uint old = ref _states[page.Value];
        if (old == state)
            return;
        ref SlabOwner owner = ref _owners[page.Slab];
        Count(ref owner, counts, old, -1);
        Count(ref owner, counts, state, +1);
        old = state;
    }

    /// <summary>Takes a slab; all its pages are <see cref="PageState.None"/>.</summary>
    public int Take(SpaceId space, ulong chunk)
    {
        int slab = _free.Count > 0 ? _free.Pop() : _slabs++;
        long pages = (long)_slabs * PagesPerSlab;
        if (pages > _digests.Capacity)
        {
            long capacity = Math.Max(pages, _digests.Capacity + _digests.Capacity / 32);
            capacity = (capacity + PagesPerSlab - 1) / PagesPerSlab * PagesPerSlab;
            _digests.Grow(capacity);
            _states.Grow(capacity);
        }

        if (slab >= _owners.Length)
            Array.Resize(ref _owners, _owners.Length * 2);
        _owners[slab] = new SlabOwner { Space = space, Chunk = chunk };
        return slab;
    }

    /// <summary>Gives a slab back; all its pages must be <see cref="PageState.None"/>.</summary>
    public void Return(int slab)
    {
        if (_owners[slab].Tracked != 0)
            throw new InvalidOperationException($"slab {slab} is returned with {_owners[slab].Tracked} records in it");
        _free.Push(slab);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _digests.Dispose();
        _states.Dispose();
    }

    private static void Count(ref SlabOwner owner, SpaceCounts counts, uint state, int by)
    {
        if (state == PageState.None)
            return;
        owner.Tracked += by;
        counts.Tracked += by;
        if (PageState.IsMerged(state))
        {
            owner.Merged += by;
            counts.Merged += by;
        }
        else if (PageState.IsPending(state))
        {
            owner.Pending += by;
            counts.Pending += by;
            if (state != PageState.Retry)
                counts.Volatile += by;
        }
        else if (state == PageState.SharedAlready)
        {
            counts.SharedAlready += by;
        }
        else if (state == PageState.Zeroed)
        {
            counts.Zeroed += by;
        }
        else if (state == PageState.Broken)
        {
            counts.Broken += by;
        }
        else if (state == PageState.Unique)
        {
            counts.Unique += by;
        }
    }

    /// <summary>Whose a slab is, and how many of its pages are in which state.</summary>
    internal struct SlabOwner
    {
        public SpaceId Space;
        public ulong Chunk;
        public int Tracked, Merged, Pending;
    }
}

/// <summary>How many pages of a space are in which state.</summary>
public sealed class SpaceCounts
{
    /// <summary>Pages that have a record.</summary>
    public long Tracked { get; internal set; }

    /// <summary>Pages mapped to a frame.</summary>
    public long Merged { get; internal set; }

    /// <summary>Pages to be looked at in the next pass.</summary>
    public long Pending { get; internal set; }

    /// <summary>Of those, pages that were written lately.</summary>
    public long Volatile { get; internal set; }

    /// <summary>Pages given back to the kernel's zero page.</summary>
    public long Zeroed { get; internal set; }

    /// <summary>Pages that another process maps too, after fork.</summary>
    public long SharedAlready { get; internal set; }

    /// <summary>Pages like no other, in the unstable index.</summary>
    public long Unique { get; internal set; }

    /// <summary>Pages that were merged once and are private memory inside a mapping of frames now.</summary>
    public long Broken { get; internal set; }
}
