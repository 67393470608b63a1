using Samepage.Engine.Frames;
using Samepage.Engine.Records;
using Samepage.Engine.Scan;

namespace Samepage.Engine;

/// <content>Reading pages, and looking them up.</content>
public sealed partial class ScanEngine
{
    /// <summary>Contents of one digest that are looked through: whoever crafts more of them finds that they are not merged.</summary>
    private const int CollisionsMax = 16;

    /// <summary>Digests that are remembered to have lied; then all are forgotten, and found out anew.</summary>
    private const int SuspectsMax = 4096;

    private readonly Plans _plans = new();

    /// <summary>Digests of contents that were not what they were thought to be: written meanwhile, or of other contents too.</summary>
    private readonly HashSet<ulong> _suspects = [];
    private readonly List<NewFrame> _newFrames = [];
    private readonly HashSet<(DomainId Domain, FrameId Frame)> _unwritten = [];
    private readonly Batch[] _batches;
    private readonly byte[] _other;
    private readonly byte[][] _frameContents;
    private readonly ulong _zeroDigest;
    private FrameId _firstBuffered;
    private int _flightPages;
    private int _buffered;
    private DomainId _bufferedDomain;
    private int _frameBuffer;
    private (DomainId Domain, FrameId First, int Count)? _writing;

    /// <summary>Reads and looks up from the place where the visit stopped.</summary>
    /// <returns>True at the end of the space.</returns>
    private bool LookUp(Space space, ref long pages)
    {
        _flightPages = Math.Max(1, _options.PagesPerFlight / 16);
        return _machine.TracksWrites ? LookUpUnchanged(space, ref pages) : LookUpPresent(space, ref pages);
    }

    /// <summary>While some pages are looked up, the next are read.</summary>
    private bool LookUpUnchanged(Space space, ref long pages)
    {
        Candidates candidates = new(_records, space, _options.PagesPerRead);
        int at = 0;
        bool reads = TryBeginRead(space, ref candidates, pages, _batches[0]);
        while (reads)
        {
            EndRead(ref _batches[at]);
            Batch batch = _batches[at], next = _batches[1 - at];
            reads = TryBeginRead(space, ref candidates, pages - batch.Range.Count, next);
            space.NextPage = batch.Range.End;
            if (!LookUp(space, batch, ref pages))
            {
                if (reads)
                    EndRead(ref _batches[1 - at]);
                return false;
            }

            // Not all that was read need have been looked at: then more may be.
            reads = reads || TryBeginRead(space, ref candidates, pages, next);
            at = 1 - at;
        }

        return candidates.AreThrough;
    }

    private bool TryBeginRead(Space space, ref Candidates candidates, long pages, Batch batch)
    {
        if (!candidates.TryNext(pages, out batch.Range, out batch.Slab))
            return false;
        BeginRead(space, batch);
        return true;
    }

    private void BeginRead(Space space, Batch batch)
    {
        int count = (int)batch.Range.Count;
        _machine.BeginRead(space.Id, batch.Range, batch.Content.AsMemory(0, count * _machine.PageSize), batch.Facts.AsMemory(0, count));
    }

    /// <summary>Waits for what was begun to be read. Where it was not read in time its buffers stay the machine's, and there are others in their place.</summary>
    private void EndRead(ref Batch batch)
    {
        if (_machine.EndRead())
            return;
        batch = new Batch(_machine.PageSize, _options.PagesPerRead) { Range = batch.Range, Slab = batch.Slab };
        batch.Facts.AsSpan().Fill(PageFact.Unread);
    }

    /// <summary>On a machine without write tracking every page that was present when the visit began is looked at.</summary>
    private bool LookUpPresent(Space space, ref long pages)
    {
        for (int i = Ranges.FirstEndingBehind(space.Present, space.NextPage); i < space.Present.Count; i++)
        {
            (PageRun range, bool isZero) = space.Present[i];
            while (!isZero && space.NextPage < range.End)
            {
                ulong page = Math.Max(space.NextPage, range.Start.Value), behind = (page / PageRecords.PagesPerSlab + 1) * PageRecords.PagesPerSlab;
                int count = (int)Math.Min(Math.Min(pages, _options.PagesPerRead), (long)(Math.Min(range.End, behind) - page));
                if (count == 0)
                    return false;
                bool hasRoom = TryFindOrTake(space, page, out int slab);
                space.NextPage = hasRoom ? page + (ulong)count : behind;
                if (!hasRoom)
                    continue;
                Batch batch = _batches[0];
                (batch.Range, batch.Slab) = (new PageRun(new PageNumber(page), count), slab);
                BeginRead(space, batch);
                EndRead(ref _batches[0]);
                if (!LookUp(space, _batches[0], ref pages))
                    return false;
            }
        }

        return true;
    }

    /// <summary>What a page is that is not there. Without write tracking it is listed as soon as it is there again, and needs no record.</summary>
    private uint Gone => _machine.TracksWrites ? PageState.Absent : PageState.None;

    /// <returns>False when the visit must stop: the space is leaving.</returns>
    private bool LookUp(Space space, Batch batch, ref long pages)
    {
        int size = _machine.PageSize;
        for (int i = 0; i < batch.Range.Count && !space.IsLeaving; i++)
        {
            ulong page = batch.Range.Start.Value + (ulong)i;
            PageRef record = RefOf(batch.Slab, page);
            // It may lie between two candidates only; since it was read it may have become the twin of another, or what was planned for it been carried out.
            uint state = _records.State(record);
            if (state == PageState.Planned || (_machine.TracksWrites && !PageState.IsCandidate(state)))
                continue;
            PagesScanned++;
            pages--;
            if (batch.Facts[i] == PageFact.Own || (batch.Facts[i] == PageFact.SharedAlready && Has(EngineFaults.MergeShared)))
            {
                Decide(space, page, record, batch.Content.AsSpan(i * size, size));
                continue;
            }

            SetAside(space, record, batch.Facts[i]);
        }

        if (_plans.Count >= _flightPages)
        {
            BeginCarryOut();
            _flightPages = Math.Min(2 * _flightPages, _options.PagesPerFlight);
        }

        return !space.IsLeaving;
    }

    /// <summary>A page that is not its owner's alone, or not there, is in no index: it is looked at again now and then, as nothing announces that it is once more. One that could not be read is
    /// looked at in the next visit.</summary>
    private void SetAside(Space space, PageRef record, PageFact fact)
    {
        Leave(space, record);
        _records.SetState(record, fact switch
        {
            PageFact.Absent => Gone,
            PageFact.Unread => _machine.TracksWrites ? PageState.Retry : PageState.None,
            _ => PageState.SharedAlready,
        }, space.Counts);
    }

    /// <summary>What becomes of one page: it leaves whatever it was in, then the frames are asked, then its past, then the unique pages.</summary>
    private void Decide(Space space, ulong page, PageRef record, ReadOnlySpan<byte> content)
    {
        uint before = _records.State(record);
        Leave(space, record);
        PageHistory history = _machine.TracksWrites ? _records.History(record) : default;
        ulong digest = DigestOf(content);
        bool unchanged = _machine.TracksWrites || (PageState.HasChecksum(before) && _records.Digest(record) == digest) || Has(EngineFaults.IgnoreChecksum);
        _records.Digest(record) = digest;
        uint after;
        // Every present page is read anyway, or a digest has been found to lie: then bytes are compared before anything is planned.
        bool compares = !_machine.TracksWrites || _suspects.Contains(digest);
        if (UsesZeroPage && digest == _zeroDigest && !content.ContainsAnyExcept((byte)0))
            after = Plan(space, page, record, PlanKind.MakeZero, default, compared: true, history);
        else if (TryFindFrame(space.Domain, digest, content, compares, out FrameId frame))
            after = Plan(space, page, record, PlanKind.Merge, frame, compares, history);
        else if (!unchanged)
            after = PageState.Written;
        else if (TryFindTwin(space.Domain, digest, content, compares, out PageRef twin))
            after = PlanTwins(space, page, record, twin, content, compares, history);
        else
            after = TryMakeUnique(space, record, digest, compares) ? PageState.UniqueSince(FullScans) : PageState.Retry;
        _records.SetState(record, after, space.Counts);
        if (_machine.TracksWrites && !PageState.HasDigest(after))
            _records.Digest(record) = history.Bits;
        if (_machine.TracksWrites || !PageState.IsUnique(after) || !PageState.IsUnique(before))
            space.News++;
    }

    private uint Plan(Space space, ulong page, PageRef record, PlanKind kind, FrameId frame, bool compared, PageHistory history)
    {
        if (kind == PlanKind.Merge)
            space.Domain.Frames.Promise(frame);
        _plans.Add(space.Id, page, record, kind, frame, compared, history);
        return PageState.Planned;
    }

    private bool TryFindFrame(Domain domain, ulong digest, ReadOnlySpan<byte> content, bool compares, out FrameId frame)
    {
        frame = default;
        if (Has(EngineFaults.SkipStableSearch))
            return false;
        if (!compares)
            return domain.Frames.TryFind(digest, out frame);
        Span<uint> found = stackalloc uint[CollisionsMax];
        found = found[..domain.Frames.Find(digest, found)];
        if (found.Length > 0)
            WriteBuffered();
        foreach (uint candidate in found)
        {
            frame = new FrameId(candidate);
            if (_machine.TryReadFrame(domain.Id, frame, _other) && content.SequenceEqual(_other))
                return true;
        }

        return false;
    }

    /// <summary>Finds a unique page that has the same content, or had it when it was read.</summary>
    private bool TryFindTwin(Domain domain, ulong digest, ReadOnlySpan<byte> content, bool compares, out PageRef twin)
    {
        if (!compares)
        {
            bool any = domain.Unstable.TryFind(digest, out uint reference);
            twin = new PageRef(reference);
            return any;
        }

        Span<uint> found = stackalloc uint[CollisionsMax];
        Span<PageFact> fact = stackalloc PageFact[1];
        foreach (uint candidate in found[..domain.Unstable.Find(digest, found)])
        {
            twin = new PageRef(candidate);
            Space other = SpaceOf(twin, out ulong page);
            if (other.IsLeaving)
                continue;
            _machine.Read(other.Id, new PageRun(new PageNumber(page), 1), _other, fact);
            // Were it left unique, the page that asks would become so too, and neither would ever be looked at again.
            if (fact[0] != PageFact.Own)
                SetAside(other, twin, fact[0]);
            else if (content.SequenceEqual(_other))
                return true;
        }

        twin = PageRef.None;
        return false;
    }

    private Space SpaceOf(PageRef record, out ulong page)
    {
        PageRecords.SlabOwner owner = _records.Owner(record.Slab);
        page = owner.Chunk * PageRecords.PagesPerSlab + (ulong)record.Place;
        return _spaces[owner.Space.Value];
    }

    /// <summary>C8: both pages leave the unstable side for a new frame in one step. C9: where there is no memory for its node there is no frame.</summary>
    private uint PlanTwins(Space space, ulong page, PageRef record, PageRef twin, ReadOnlySpan<byte> content, bool compared, PageHistory history)
    {
        Domain domain = space.Domain;
        ulong digest = _records.Digest(record);
        if (!domain.Frames.TryAdd(digest, out FrameId frame))
            return PageState.Retry;
        Space other = SpaceOf(twin, out ulong otherPage);
        Leave(other, twin);
        _records.Digest(twin) = digest;
        Buffer(domain, frame, content);
        _newFrames.Add(new NewFrame(domain, frame, space.Id, page, other.Id, otherPage, long.MinValue / 2));
        _records.SetState(twin, Plan(other, otherPage, twin, PlanKind.Merge, frame, compared, default), other.Counts);
        return Plan(space, page, record, PlanKind.Merge, frame, compared, history);
    }

    private bool TryMakeUnique(Space space, PageRef record, ulong digest, bool compared)
    {
        // Nobody would look behind so many of one digest.
        if (compared)
        {
            Span<uint> found = stackalloc uint[CollisionsMax];
            if (space.Domain.Unstable.Find(digest, found) == CollisionsMax)
                return false;
        }

        return space.Domain.Unstable.TryAdd(Has(EngineFaults.WrongDigest) ? digest ^ (1UL << 63) : digest, record.Value);
    }

    /// <summary>Frames are written some dozens at a time, while others are looked up. A buffer holds neighbours of one domain, and is written before any plan is carried out.</summary>
    private void Buffer(Domain domain, FrameId frame, ReadOnlySpan<byte> content)
    {
        if (_buffered > 0 && (frame.Value != _firstBuffered.Value + (uint)_buffered || _buffered == FramesPerWrite || _bufferedDomain != domain.Id))
            BeginWriting();
        if (_buffered == 0)
            (_firstBuffered, _bufferedDomain) = (frame, domain.Id);
        content.CopyTo(_frameContents[_frameBuffer].AsSpan(_buffered++ * _machine.PageSize));
    }

    /// <summary>Has the machine write the buffer that is filled, and goes on with the other.</summary>
    private void BeginWriting()
    {
        EndWriting();
        if (_buffered == 0)
            return;
        _writing = (_bufferedDomain, _firstBuffered, _buffered);
        _machine.BeginWriteFrames(_bufferedDomain, _firstBuffered, _frameContents[_frameBuffer].AsMemory(0, _buffered * _machine.PageSize));
        (_frameBuffer, _buffered) = (1 - _frameBuffer, 0);
    }

    private void EndWriting()
    {
        if (_writing is not (DomainId domain, FrameId first, int count))
            return;
        _writing = null;
        if (_machine.EndWriteFrames())
            return;
        // Nobody is to find frames that could not be written, nor to map them: see DropUnwritten.
        for (uint i = 0; i < count; i++)
        {
            _domains[domain].Frames.Hide(new FrameId(first.Value + i));
            _unwritten.Add((domain, new FrameId(first.Value + i)));
        }
    }

    private void WriteBuffered()
    {
        BeginWriting();
        EndWriting();
    }

    /// <summary>A frame that has not got two users yet, with the two pages that it was made for, and the scan in which its only page was last to be given back.</summary>
    private readonly record struct NewFrame(Domain Domain, FrameId Frame, SpaceId Space, ulong Page, SpaceId Other, ulong OtherPage, long TriedIn);

    /// <summary>Neighbouring pages that are read at once.</summary>
    private sealed class Batch(int pageSize, int pages)
    {
        public PageRun Range;
        public int Slab;
        public readonly byte[] Content = new byte[pages * pageSize];
        public readonly PageFact[] Facts = new PageFact[pages];
    }

    /// <summary>Finds the pages of a space that are to be looked up, from the place on where its visit stopped.</summary>
    private struct Candidates(PageRecords records, Space space, int pagesPerRead)
    {
        private int _at = space.Slabs.LowerBound(space.NextPage / PageRecords.PagesPerSlab);
        private ulong _next = space.NextPage;

        /// <summary>There are no more.</summary>
        public readonly bool AreThrough => _at == space.Slabs.Count;

        /// <param name="most">Pages at most.</param>
        /// <param name="range">Pages of one slab, from the first candidate to the last. What lies between two that are near each other is read with them: that costs less than another call.</param>
        /// <param name="slab">Their slab.</param>
        /// <returns>False when there are no more, or none is wanted.</returns>
        public bool TryNext(long most, out PageRun range, out int slab)
        {
            (range, slab) = (default, 0);
            for (; _at < space.Slabs.Count; _at++)
            {
                slab = space.Slabs.Slab(_at);
                if (records.Owner(slab).Pending == 0)
                    continue;
                ulong first = space.Slabs.Chunk(_at) * PageRecords.PagesPerSlab;
                int place = (int)(Math.Max(_next, first) - first);
                while (place < PageRecords.PagesPerSlab && !IsCandidate(slab, place))
                    place++;
                if (place == PageRecords.PagesPerSlab)
                    continue;
                if (most <= 0)
                    return false;
                int count = 1, end = (int)Math.Min(PageRecords.PagesPerSlab, place + Math.Min(most, pagesPerRead));
                for (int next = place + 1; next < end && next - (place + count) <= PagesBetween; next++)
                {
                    if (IsCandidate(slab, next))
                        count = next - place + 1;
                }

                range = new PageRun(new PageNumber(first + (ulong)place), count);
                _next = range.End;
                return true;
            }

            return false;
        }

        private readonly bool IsCandidate(int slab, int place) => PageState.IsCandidate(records.State(PageRef.At(slab, place)));
    }
}
