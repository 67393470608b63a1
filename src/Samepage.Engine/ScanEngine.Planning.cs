using System.IO.Hashing;
using Samepage.Engine.Records;
using Samepage.Engine.Scan;

namespace Samepage.Engine;

/// <content>Looking pages up, and settling what came of the plans.</content>
public sealed partial class ScanEngine
{
    private void LookUpUnchanged(Space space)
    {
        foreach ((ulong chunk, int slab) in space.Slabs)
        {
            if (_records.Owner(slab).Pending == 0)
                continue;
            ulong first = chunk * PageRecords.PagesPerSlab;
            for (int place = 0; place < PageRecords.PagesPerSlab;)
            {
                if (!IsCandidate(slab, place))
                {
                    place++;
                    continue;
                }

                int count = 1;
                while (count < PagesPerRead && place + count < PageRecords.PagesPerSlab && IsCandidate(slab, place + count))
                    count++;
                LookUp(space, new PageRun(new PageNumber(first + (ulong)place), count), slab, place);
                place += count;
            }

            if (_plans.Count >= PlanLimit)
                CarryOut();
        }
    }

    private bool IsCandidate(int slab, int place) => _records.State(PageRef.At(slab, place)) is PageState.Written or PageState.Retry;

    private void LookUp(Space space, PageRun range, int slab, int place)
    {
        int size = _machine.PageSize;
        int count = (int)range.Count;
        _machine.Read(space.Id, range, _content.AsSpan(0, count * size), _facts.AsSpan(0, count));
        PagesScanned += count;
        for (int i = 0; i < count; i++)
        {
            PageRef record = PageRef.At(slab, place + i);
            if (_facts[i] != PageFact.Own)
            {
                _records.SetState(record, _facts[i] == PageFact.Absent ? PageState.None : PageState.SharedAlready, space.Counts);
                continue;
            }

            ReadOnlySpan<byte> page = _content.AsSpan(i * size, size);
            Propose(space, range.Start.Value + (ulong)i, record, XxHash3.HashToUInt64(page), page);
        }
    }

    private void Propose(Space space, ulong page, PageRef record, ulong digest, ReadOnlySpan<byte> content)
    {
        _records.Digest(record) = digest;
        Domain domain = space.Domain;
        if (digest == _zeroDigest && !content.ContainsAnyExcept((byte)0))
        {
            _plans.Add(space.Id, page, record, PlanKind.MakeZero, default);
            _records.SetState(record, PageState.Planned, space.Counts);
        }
        else if (domain.Frames.TryFind(digest, out FrameId frame))
        {
            _plans.Add(space.Id, page, record, PlanKind.Merge, frame);
            _records.SetState(record, PageState.Planned, space.Counts);
        }
        else if (domain.Unstable.TryFind(digest, out uint reference))
        {
            PageRef twin = new(reference);
            Space other = _spaces[_records.Owner(twin.Slab).Space.Value];
            ulong otherPage = _records.Owner(twin.Slab).Chunk * PageRecords.PagesPerSlab + (ulong)twin.Place;
            frame = domain.Frames.Add(digest);
            domain.Unstable.Remove(digest, reference);
            Buffer(domain, frame, content);
            _newFrames.Add(new NewFrame(domain, frame, space, page, record, other, otherPage, twin));
            _plans.Add(other.Id, otherPage, twin, PlanKind.Merge, frame);
            _plans.Add(space.Id, page, record, PlanKind.Merge, frame);
            _records.SetState(twin, PageState.Planned, other.Counts);
            _records.SetState(record, PageState.Planned, space.Counts);
        }
        else
        {
            domain.Unstable.Add(digest, record.Value);
            _records.SetState(record, PageState.Unique, space.Counts);
        }
    }

    /// <summary>Frames are written some dozens at a time. The buffer holds neighbours of one domain, and is written before any plan is carried out.</summary>
    private void Buffer(Domain domain, FrameId frame, ReadOnlySpan<byte> content)
    {
        if (_buffered > 0 && (frame.Value != _firstBuffered.Value + (uint)_buffered || _buffered == FramesPerWrite || _bufferedDomain != domain.Id))
            WriteBuffered();
        if (_buffered == 0)
            (_firstBuffered, _bufferedDomain) = (frame, domain.Id);
        content.CopyTo(_frameContent.AsSpan(_buffered++ * _machine.PageSize));
    }

    private void WriteBuffered()
    {
        // Frames that could not be written hold zeros: no page compares equal to them. Nobody else is to try; their pages try again later (H2).
        if (_buffered > 0 && !_machine.TryWriteFrames(_bufferedDomain, _firstBuffered, _frameContent.AsSpan(0, _buffered * _machine.PageSize)))
        {
            for (uint i = 0; i < _buffered; i++)
            {
                _domains[_bufferedDomain].Frames.Forget(new FrameId(_firstBuffered.Value + i));
                _unwritten.Add((_bufferedDomain, new FrameId(_firstBuffered.Value + i)));
            }
        }

        _buffered = 0;
    }

    private void CarryOut()
    {
        WriteBuffered();
        while (_plans.Count > 0)
        {
            foreach (int number in _plans.Spaces())
            {
                Plans.Entry[] entries = _plans.Take(number, out List<PlannedRun> runs);
                PageOutcome[] outcomes = new PageOutcome[entries.Length];
                Space space = _spaces[number];
                _machine.Execute(space.Id, runs, outcomes);
                for (int i = 0; i < entries.Length; i++)
                    Settle(space, entries[i], outcomes[i]);
            }

            GiveUpLonelyFrames();
        }

        _unwritten.Clear();
    }

    private void Settle(Space space, Plans.Entry entry, PageOutcome outcome)
    {
        if (outcome == PageOutcome.Done)
        {
            switch (entry.Kind)
            {
                case PlanKind.Merge:
                    space.Domain.Frames.AddUser(entry.Frame);
                    _records.SetState(entry.Record, PageState.FirstFrame + entry.Frame.Value, space.Counts);
                    space.QuietVisits = 0;
                    break;
                case PlanKind.MakeZero:
                    _records.SetState(entry.Record, PageState.Zeroed, space.Counts);
                    space.QuietVisits = 0;
                    break;
                default:
                    Leave(space, entry.Record, _records.State(entry.Record));
                    _records.SetState(entry.Record, PageState.WrittenNow, space.Counts);
                    break;
            }

            return;
        }

        // A page that was to be unmerged and could not be stays merged; it is noticed if that ever changes.
        if (entry.Kind == PlanKind.Unmerge)
            return;
        space.Deferred |= outcome == PageOutcome.Deferred;
        _records.SetState(entry.Record, outcome switch
        {
            PageOutcome.Differs => _unwritten.Contains((space.Domain.Id, entry.Frame)) ? PageState.Retry : PageState.Odd,
            PageOutcome.Gone => PageState.None,
            _ => PageState.Retry,
        }, space.Counts);
    }

    /// <summary>C10: a new frame that only one of its two pages could be merged into gives that page back, unless the other is only put off.</summary>
    private void GiveUpLonelyFrames()
    {
        foreach (NewFrame made in _newFrames)
        {
            if (made.Domain.Frames.UsersOf(made.Frame) != 1)
                continue;
            uint merged = PageState.FirstFrame + made.Frame.Value;
            PageRef left = _records.State(made.Record) == merged ? made.Twin : made.Record;
            // The other is only put off: it finds the frame again.
            if (_records.State(left) == PageState.Retry && !_unwritten.Contains((made.Domain.Id, made.Frame)))
                continue;
            // Nobody is to join it while it goes, or the page that is given back would be the first to.
            made.Domain.Frames.Forget(made.Frame);
            if (_records.State(made.Record) == merged)
                _plans.Add(made.Space.Id, made.Page, made.Record, PlanKind.Unmerge, made.Frame);
            else if (_records.State(made.Twin) == merged)
                _plans.Add(made.Other.Id, made.OtherPage, made.Twin, PlanKind.Unmerge, made.Frame);
        }

        _newFrames.Clear();
    }
}
