using System.IO.Hashing;
using Samepage.Engine.Records;
using Samepage.Engine.Scan;

namespace Samepage.Engine;

/// <summary>Decides what to merge. Pure: all that it knows of the world comes through <see cref="IMachine"/>, and it has no clock.</summary>
/// <remarks>
/// <para>A visit to a space:</para>
/// <list type="number">
/// <item>List its areas; drop the records of pages that are in none (B5).</item>
/// <item>Collect what was written since the last visit. A page written then and not now is unchanged for a while (C4); only such pages are read.
/// A pass over idle pages therefore reads nothing. On a machine without write tracking all present pages are collected, read, and compared with
/// the checksum of the last scan.</item>
/// <item>Notice merges that a write or a discard has broken, and such that came by fork (F1).</item>
/// <item>Read the pages, digest them, look each up: among the frames first (C3), then among the unique pages (C5). A digest only
/// proposes; the machine compares the bytes when nobody can change them (D3).</item>
/// <item>Carry the plans out, and settle the records by their outcomes: frames that got one user only are given up again (C10).</item>
/// </list>
/// <para>A visit can be made in one go (<see cref="Visit(SpaceId)"/>) or in parts, and <see cref="Scan"/> makes the parts for all slots, in batches (B2).</para>
/// <para>One thread. Every decision depends on the calls made and their answers alone.</para>
/// </remarks>
public sealed partial class ScanEngine : IDisposable
{
    private const int PagesBetween = 16;
    private const int PlanLimit = 16384;
    private const int FramesPerWrite = 64;

    private readonly IMachine _machine;
    private readonly EngineOptions _options;
    private readonly PageRecords _records;
    private readonly Dictionary<DomainId, Domain> _domains = [];
    private readonly Dictionary<int, Space> _spaces = [];
    private readonly Slots _slots = new();
    private readonly List<Space> _leaving = [];
    private bool _isBusy;

    /// <param name="machine">The machine to work on.</param>
    public ScanEngine(IMachine machine)
        : this(machine, new EngineOptions())
    {
    }

    /// <param name="machine">The machine to work on.</param>
    /// <param name="options">How.</param>
    public ScanEngine(IMachine machine, EngineOptions options)
    {
        (_machine, _options) = (machine, options);
        Budget = new MemoryBudget(options.MetadataBytesMax);
        _records = new PageRecords(Budget) { DropsWithoutCounting = Has(EngineFaults.DropWithoutCounting) };
        _batches = [new Batch(machine.PageSize, options.PagesPerRead), new Batch(machine.PageSize, options.PagesPerRead)];
        _other = new byte[machine.PageSize];
        _frameContents = [new byte[FramesPerWrite * machine.PageSize], new byte[FramesPerWrite * machine.PageSize]];
        _zeroDigest = DigestOf(_other);
    }

    /// <summary>Pages read and looked up.</summary>
    public long PagesScanned { get; private set; }

    /// <summary>Passes over all spaces completed (B3).</summary>
    public long FullScans { get; private set; }

    /// <summary>There is a slot to scan (A4). While there is none, nothing need be called, and <see cref="Add"/> is what changes it.</summary>
    public bool HasWork => _slots.Count > 0;

    /// <summary>Bytes of records and indexes.</summary>
    public long MetadataBytes => _records.Bytes + _domains.Values.Sum(domain => domain.Bytes) + _spaces.Values.Sum(space => space.Slabs.Bytes);

    /// <summary>The most pages that may share one frame; a content of more has several. 2 at least.</summary>
    /// <exception cref="InvalidOperationException">It is changed while a page is merged.</exception>
    public int MaxPageSharing
    {
        get;
        set
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(value, 2);
            if (_isBusy || (value != field && _domains.Values.Any(domain => domain.Frames.Users > 0)))
                throw new InvalidOperationException("how many pages may share a frame is changed while none does");
            field = value;
            foreach (Domain domain in _domains.Values)
                domain.Frames.SharersMax = value;
        }
    } = int.MaxValue;

    /// <summary>Pages of zeros are left to the kernel's zero page; otherwise zeros are a content like any other. Those left to it already stay so.</summary>
    public bool UsesZeroPage { get; set; } = true;

    /// <summary>What was merged and written again and again is left alone for a while. Without, every written page is looked up as soon as it has not been
    /// written for a pass. It takes write tracking, and a caller who keeps <see cref="Now"/>.</summary>
    public bool SmartScan { get; set; }

    /// <summary>The time, counted from whenever the caller likes; it never goes back. Rests are measured by it, to a sixteenth of a second.</summary>
    public TimeSpan Now { get; set; }

    /// <summary>Pages that were left alone, each time one was (G9).</summary>
    public long PagesSkipped { get; private set; }

    private uint Tick => PageHistory.TickOf(Now);

    /// <summary>What the engine's native memory is counted against.</summary>
    internal MemoryBudget Budget { get; }

    /// <summary>Takes a space in: it gets a slot just behind the cursor, so that a process that has just started is not scanned before it settles (A3).</summary>
    /// <remarks>May be called while the machine answers a call.</remarks>
    /// <returns>False when there is no memory for a slot (H2).</returns>
    /// <exception cref="ArgumentException">It is taken in already.</exception>
    public bool Add(SpaceId space, DomainId domain)
    {
        if (_spaces.ContainsKey(space.Value))
            throw new ArgumentException($"space {space.Value} is taken in already");
        if (!Budget.TryTake(Space.Bytes))
            return false;
        if (Has(EngineFaults.OneDomain) && _domains.Count > 0)
            domain = _domains.Keys.First();
        Space added = new(space, DomainOf(domain));
        _spaces.Add(space.Value, added);
        if (Has(EngineFaults.SlotBeforeCursor))
            _slots.AddBeforeCursor(added);
        else
            _slots.Add(added);
        return true;
    }

    /// <summary>Forgets a space: it has ended, or its pages have been given their own copies. Its records go, and the frames lose its pages (B7).</summary>
    /// <remarks>May be called while the machine answers a call, for any space; then it goes as soon as the engine's call ends, and the machine is asked nothing
    /// about it any more. A space that is not known is forgotten already.</remarks>
    public void Remove(SpaceId id)
    {
        if (!_spaces.TryGetValue(id.Value, out Space? space) || space.IsLeaving)
            return;
        space.IsLeaving = true;
        _leaving.Add(space);
        if (!_isBusy)
            LetGo();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Domain domain in _domains.Values)
            domain.Dispose();
        _records.Dispose();
    }

    private bool Has(EngineFaults fault) => (_options.Faults & fault) != 0;

    private ulong DigestOf(ReadOnlySpan<byte> page) => XxHash3.HashToUInt64(page) & _options.DigestMask;

    /// <summary>Begins a call in which the machine is asked.</summary>
    private void Begin()
    {
        if (_isBusy)
            throw new InvalidOperationException("the machine may only add and remove spaces while it answers");
        _isBusy = true;
    }

    /// <summary>Ends a call: what was removed meanwhile goes now.</summary>
    private void End()
    {
        _isBusy = false;
        LetGo();
    }

    private void LetGo()
    {
        foreach (Space space in _leaving)
        {
            DropRecords(space);
            _slots.Remove(space);
            _spaces.Remove(space.Id.Value);
            Budget.Return(Space.Bytes);
        }

        _leaving.Clear();
    }

    /// <summary>Takes a page out of whatever index or frame it is in, before its state changes (C3).</summary>
    private void Leave(Space space, PageRef record)
    {
        uint state = _records.State(record);
        if (PageState.IsUnique(state))
            LeaveUnstable(space, record, state);
        if (_machine.TracksWrites && (state == PageState.None || PageState.HasDigest(state)))
            _records.Digest(record) = default(PageHistory).Bits;
        if (PageState.IsMerged(state))
            space.Domain.Frames.RemoveUser(PageState.FrameOf(state));
    }

    /// <summary>C7: with checksums the index is emptied at every full scan. A page put in before the last emptying must not be taken out: it is not in.</summary>
    private void LeaveUnstable(Space space, PageRef record, uint state)
    {
        int age = _machine.TracksWrites ? 0 : PageState.AgeOf(state, FullScans);
        if (age > 1)
            throw new EngineInvariantException("C7 age", $"a page of space {space.Id.Value} was put into the unstable index {age} scans ago");
        if ((age == 1 && !Has(EngineFaults.UnlinkOldPages)) || Has(EngineFaults.KeepUnstablePages))
            return;
        if (!space.Domain.Unstable.Remove(_records.Digest(record), record.Value))
            throw new EngineInvariantException("C7 unlinking", $"a unique page of space {space.Id.Value} is not in the unstable index");
    }

    private void Drop(Space space, PageRef record)
    {
        if (_records.State(record) == PageState.None)
            return;
        Leave(space, record);
        _records.SetState(record, PageState.None, space.Counts);
    }

    private void DropRecords(Space space)
    {
        space.Slabs.Keep((_, slab) =>
        {
            ReturnSlab(space, slab);
            return false;
        });
    }

    private void ReturnSlab(Space space, int slab)
    {
        for (int place = 0; _records.Owner(slab).Tracked > 0 && place < PageRecords.PagesPerSlab; place++)
            Drop(space, PageRef.At(slab, place));
        _records.Return(slab);
    }

    private static PageRef RefOf(int slab, ulong page) => PageRef.At(slab, (int)(page % PageRecords.PagesPerSlab));

    /// <summary>The record of a page, if its slab exists.</summary>
    private static PageRef FindRecord(Space space, ulong page) =>
        space.Slabs.TryFind(page / PageRecords.PagesPerSlab, out int slab) ? RefOf(slab, page) : PageRef.None;

    /// <summary>The slab of a page, made where there is none.</summary>
    /// <returns>False when there is no memory: the page is passed over, and all are collected next time (H2).</returns>
    private bool TryFindOrTake(Space space, ulong page, out int slab)
    {
        ulong chunk = page / PageRecords.PagesPerSlab;
        if (space.Slabs.TryFind(chunk, out slab))
            return true;
        if (!_records.TryTake(space.Id, chunk, out slab))
        {
            space.ListsEverything = true;
            return false;
        }

        space.Slabs.Add(chunk, slab);
        return true;
    }
}
