using System.IO.Hashing;
using Samepage.Engine.Records;
using Samepage.Engine.Scan;

namespace Samepage.Engine;

/// <summary>Figures of one space, exact at rest.</summary>
/// <param name="Counts">Pages by state.</param>
/// <param name="Settled">Nothing more can be merged in it now.</param>
/// <param name="Visits">Visits since it was taken in.</param>
public readonly record struct SpaceFigures(SpaceCounts Counts, bool Settled, long Visits);

/// <summary>Figures of one trust domain.</summary>
/// <param name="Frames">Frames in use.</param>
/// <param name="Users">Pages mapped to them.</param>
/// <param name="FramesHeld">Frames that hold memory: besides those in use, those about to be freed.</param>
public readonly record struct DomainFigures(long Frames, long Users, long FramesHeld);

/// <summary>Decides what to merge. Pure: all that it knows of the world comes through <see cref="IMachine"/>, and it has no clock.</summary>
/// <remarks>
/// <para>A visit to a space:</para>
/// <list type="number">
/// <item>List its areas; drop the records of pages that are in none (B5).</item>
/// <item>Collect what was written since the last visit. A page written then and not now is unchanged for a while (C4); only such pages are read.
/// A pass over idle pages therefore reads nothing.</item>
/// <item>Notice merges that a write or a discard has broken.</item>
/// <item>Read the unchanged pages, digest them, look each up: among the frames first (C3), then among the unique pages (C5). A digest only
/// proposes; the machine compares the bytes when nobody can change them (D3).</item>
/// <item>Carry the plans out, and settle the records by their outcomes: frames that got one user only are given up again (C10).</item>
/// </list>
/// <para>One thread. Every decision depends on the calls made and their answers alone.</para>
/// </remarks>
public sealed partial class ScanEngine : IDisposable
{
    private const int PagesPerRead = 256;
    private const int PlanLimit = 16384;
    private const int FramesPerWrite = 64;
    private const int QuietVisitsToSettle = 2;
    private const int QuietLookUps = 64;
    private const int DeferredVisitsToSettle = 20;
    private const int VisitsBetweenSecondLooks = 16;

    private readonly IMachine _machine;
    private readonly PageRecords _records = new();
    private readonly Dictionary<DomainId, Domain> _domains = [];
    private readonly Dictionary<int, Space> _spaces = [];
    private readonly Plans _plans = new();
    private readonly List<WrittenRun> _written = [];
    private readonly List<PageRun> _merged = [];
    private readonly List<NewFrame> _newFrames = [];
    private readonly HashSet<(DomainId Domain, FrameId Frame)> _unwritten = [];
    private readonly byte[] _content;
    private readonly PageFact[] _facts = new PageFact[PagesPerRead];
    private readonly byte[] _frameContent;
    private readonly ulong _zeroDigest;
    private FrameId _firstBuffered;
    private int _buffered;
    private DomainId _bufferedDomain;

    /// <param name="machine">The machine to work on.</param>
    public ScanEngine(IMachine machine)
    {
        _machine = machine;
        _content = new byte[PagesPerRead * machine.PageSize];
        _frameContent = new byte[FramesPerWrite * machine.PageSize];
        _zeroDigest = XxHash3.HashToUInt64(_content.AsSpan(0, machine.PageSize));
    }

    /// <summary>Pages read and looked up.</summary>
    public long PagesScanned { get; private set; }

    /// <summary>Passes over all spaces completed (B3).</summary>
    public long FullScans { get; private set; }

    /// <summary>Bytes of records and indexes.</summary>
    public long MetadataBytes => _records.Bytes + _domains.Values.Sum(domain => domain.Bytes);

    /// <summary>Takes a space in.</summary>
    public void Add(SpaceId space, DomainId domain)
    {
        if (!_domains.TryGetValue(domain, out Domain? known))
            _domains.Add(domain, known = new Domain(domain, _records));
        _spaces.Add(space.Value, new Space(space, known));
    }

    /// <summary>Forgets a space: it has ended, or its pages have been given their own copies. Its records go, and the frames lose its pages.</summary>
    public void Remove(SpaceId id)
    {
        if (!_spaces.Remove(id.Value, out Space? space))
            return;
        _plans.Drop(id);
        foreach (ulong chunk in space.Slabs.Keys.ToArray())
            ReturnSlab(space, chunk);
    }

    /// <summary>Figures of a space.</summary>
    public SpaceFigures FiguresOf(SpaceId id)
    {
        Space space = _spaces[id.Value];
        return new SpaceFigures(space.Counts, space.QuietVisits >= QuietVisitsToSettle, space.Visits);
    }

    /// <summary>Figures of a domain.</summary>
    public DomainFigures FiguresOf(DomainId id) =>
        _domains.TryGetValue(id, out Domain? domain) ? new DomainFigures(domain.Frames.InUse, domain.Frames.Users, domain.Frames.Held) : default;

    /// <summary>Visits one space.</summary>
    /// <returns>False when the space is gone, or must be left: the caller removes it.</returns>
    public bool Visit(SpaceId id)
    {
        Space space = _spaces[id.Value];
        space.Visits++;
        space.QuietVisits++;
        if (space.Counts.SharedAlready > 0 && space.Visits % VisitsBetweenSecondLooks == 0)
            LookAgainAtShared(space);
        if (!_machine.TryListAreas(id, space.Areas, out bool changed))
            return false;
        if (changed)
            DropOutside(space);
        if (!_machine.TryCollectWritten(id, space.Areas, _written) || !_machine.TryCollectMerged(id, space.Areas, _merged, out bool unchanged))
            return false;
        NoteWritten(space);
        if (!unchanged)
        {
            NoteBroken(space);
            GiveBackBroken(space);
        }

        long before = PagesScanned;
        LookUpUnchanged(space);
        CarryOut();
        // What was looked up for the first time may yet be found by others: quiet is a visit that looked at next to nothing.
        if (PagesScanned - before > Math.Max(QuietLookUps, space.Counts.Tracked / 64))
            space.QuietVisits = 0;
        AgeWritten(space);
        space.DeferredVisits = space.Deferred ? space.DeferredVisits + 1 : 0;
        if (space.Deferred && space.DeferredVisits < DeferredVisitsToSettle)
            space.QuietVisits = 0;
        space.Deferred = false;
        return true;
    }

    /// <summary>Ends a pass over all spaces: frames that nobody uses any more are freed.</summary>
    public void EndPass()
    {
        FullScans++;
        foreach (Domain domain in _domains.Values)
            domain.Frames.Sweep(_machine);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Domain domain in _domains.Values)
            domain.Dispose();
        _records.Dispose();
    }

    /// <summary>A page that fork shared becomes its owner's alone when the child ends, and nothing announces that: look again now and then.</summary>
    private void LookAgainAtShared(Space space)
    {
        foreach (int slab in space.Slabs.Values)
        {
            for (int place = 0; place < PageRecords.PagesPerSlab; place++)
            {
                PageRef record = PageRef.At(slab, place);
                if (_records.State(record) == PageState.SharedAlready)
                    _records.SetState(record, PageState.Retry, space.Counts);
            }
        }
    }

    private void NoteWritten(Space space)
    {
        foreach (WrittenRun run in _written)
        {
            ulong behind = 0;
            int slab = 0;
            for (ulong page = run.Range.Start.Value; page < run.Range.End; page++)
            {
                if (page >= behind)
                {
                    ulong chunk = page / PageRecords.PagesPerSlab;
                    behind = (chunk + 1) * PageRecords.PagesPerSlab;
                    if (run.IsZeroPage && !space.Slabs.ContainsKey(chunk))
                    {
                        page = behind - 1;
                        continue;
                    }

                    slab = FindOrTake(space, page).Slab;
                }

                PageRef record = RefOf(slab, page);
                uint state = _records.State(record);
                // A zeroed page that is only read shows the zero page, and stays what it is.
                if (run.IsZeroPage && state == PageState.Zeroed)
                    continue;
                Leave(space, record, state);
                _records.SetState(record, run.IsZeroPage ? PageState.None : PageState.WrittenNow, space.Counts);
            }
        }
    }

    /// <summary>Merged pages that are no longer mapped to their frame: a write broke them, or the program discarded or unmapped them.</summary>
    private void NoteBroken(Space space)
    {
        int at = 0;
        foreach ((ulong chunk, int slab) in space.Slabs)
        {
            if (_records.Owner(slab).Merged == 0)
                continue;
            ulong first = chunk * PageRecords.PagesPerSlab, end = first + PageRecords.PagesPerSlab;
            while (at < _merged.Count && _merged[at].End <= first)
                at++;
            long still = 0;
            for (int i = at; i < _merged.Count && _merged[i].Start.Value < end; i++)
                still += (long)(Math.Min(end, _merged[i].End) - Math.Max(first, _merged[i].Start.Value));
            if (still >= _records.Owner(slab).Merged)
                continue;
            int run = at;
            for (int place = 0; place < PageRecords.PagesPerSlab; place++)
            {
                PageRef record = PageRef.At(slab, place);
                uint state = _records.State(record);
                if (!PageState.IsMerged(state))
                    continue;
                ulong page = first + (ulong)place;
                while (run < _merged.Count && _merged[run].End <= page)
                    run++;
                if (run < _merged.Count && _merged[run].Start.Value <= page)
                    continue;
                Leave(space, record, state);
                // Where there is no mapping of frames any more, what is there now is reported as written, if anything is.
                bool inMapping = space.TryFindArea(page, out Area area) && area.Kind == AreaKind.Merged;
                _records.SetState(record, inMapping ? PageState.Broken : PageState.None, space.Counts);
            }
        }
    }

    /// <summary>A mapping of frames of which writes have broken half or more is given back: its memory is tracked again, and may be merged again.</summary>
    private void GiveBackBroken(Space space)
    {
        int at = 0;
        foreach (Area area in space.Areas)
        {
            if (area.Kind != AreaKind.Merged)
                continue;
            while (at < _merged.Count && _merged[at].End <= area.Range.Start.Value)
                at++;
            long still = 0;
            for (int i = at; i < _merged.Count && _merged[i].Start.Value < area.Range.End; i++)
                still += (long)(Math.Min(area.Range.End, _merged[i].End) - Math.Max(area.Range.Start.Value, _merged[i].Start.Value));
            if (still * 2 > area.Range.Count || (_plans.Count > 0 && _plans.Count + area.Range.Count > PlanLimit))
                continue;
            for (ulong page = area.Range.Start.Value; page < area.Range.End; page++)
                _plans.Add(space.Id, page, FindOrTake(space, page), PlanKind.Unmerge, default);
        }
    }

    private void AgeWritten(Space space)
    {
        foreach (int slab in space.Slabs.Values)
        {
            if (_records.Owner(slab).Pending == 0)
                continue;
            for (int place = 0; place < PageRecords.PagesPerSlab; place++)
            {
                PageRef record = PageRef.At(slab, place);
                if (_records.State(record) == PageState.WrittenNow)
                    _records.SetState(record, PageState.Written, space.Counts);
            }
        }
    }

    /// <summary>Takes a page out of whatever index or frame it is in, before its state changes.</summary>
    private void Leave(Space space, PageRef record, uint state)
    {
        if (state == PageState.Unique)
            space.Domain.Unstable.Remove(_records.Digest(record), record.Value);
        else if (PageState.IsMerged(state))
            space.Domain.Frames.RemoveUser(new FrameId(state - PageState.FirstFrame));
    }

    private void DropOutside(Space space)
    {
        foreach ((ulong chunk, int slab) in space.Slabs.ToArray())
        {
            ulong first = chunk * PageRecords.PagesPerSlab;
            for (int place = 0; place < PageRecords.PagesPerSlab;)
            {
                if (space.TryFindArea(first + (ulong)place, out Area area))
                {
                    int behind = (int)Math.Min(PageRecords.PagesPerSlab, area.Range.End - first);
                    for (; area.Kind == AreaKind.Mergeable && space.Counts.Broken > 0 && place < behind; place++)
                    {
                        if (_records.State(PageRef.At(slab, place)) == PageState.Broken)
                            _records.SetState(PageRef.At(slab, place), PageState.None, space.Counts);
                    }

                    place = behind;
                    continue;
                }

                PageRef record = PageRef.At(slab, place++);
                Leave(space, record, _records.State(record));
                _records.SetState(record, PageState.None, space.Counts);
            }

            if (_records.Owner(slab).Tracked == 0)
                ReturnSlab(space, chunk);
        }
    }

    private void ReturnSlab(Space space, ulong chunk)
    {
        space.Slabs.Remove(chunk, out int slab);
        for (int place = 0; place < PageRecords.PagesPerSlab; place++)
        {
            PageRef record = PageRef.At(slab, place);
            Leave(space, record, _records.State(record));
            _records.SetState(record, PageState.None, space.Counts);
        }

        _records.Return(slab);
    }

    private static PageRef RefOf(int slab, ulong page) => PageRef.At(slab, (int)(page % PageRecords.PagesPerSlab));

    private PageRef FindOrTake(Space space, ulong page)
    {
        ulong chunk = page / PageRecords.PagesPerSlab;
        if (!space.Slabs.TryGetValue(chunk, out int slab))
            space.Slabs.Add(chunk, slab = _records.Take(space.Id, chunk));
        return RefOf(slab, page);
    }

    /// <summary>A frame that came into being in this round, with the two pages that it was made for.</summary>
    private readonly record struct NewFrame(
        Domain Domain, FrameId Frame, Space Space, ulong Page, PageRef Record, Space Other, ulong OtherPage, PageRef Twin);
}
