using Samepage.Engine;
using Samepage.Linux;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;
using Samepage.Linux.Userfault;

namespace Samepage.Live;

/// <content>Looking at what has changed in a process, and reading its pages.</content>
/// <remarks>What is asked of a process is answered by its attendant. An answer that does not come in time means "as before" to the engine, and the next visit lists everything: what was missed is
/// found then.</remarks>
internal sealed partial class LiveMachine
{
    private const ulong SpanGap = 64UL << 20;
    private PageReader _reader = new();
    private (LiveSpace? Space, Attendants.Job? Job) _reading;
    private bool _wasRead;

    /// <inheritdoc/>
    public bool TryListAreas(SpaceId id, List<Area> areas, out bool changed)
    {
        LiveSpace space = _spaces[id.Value];
        changed = space.HaveAreasChanged = false;
        // Without its executor it has called exec, or is about to end.
        if (PidFd.HasEnded(space.PidFd) || space.Session.HasExecutorEnded)
            return false;
        bool list = space.MustList;
        if (!list && !space.AreasFromMap)
            return true;
        if (!space.AreasAsked.TryAsk(space, Lane.Hold, () => ListAreas(space, list), out List<Area>? listed))
            return true;
        if (listed is null)
            return false;
        (space.MustList, space.AreasFromMap) = (false, false);
        changed = space.HaveAreasChanged = !listed.SequenceEqual(areas);
        areas.Clear();
        areas.AddRange(listed);
        return true;
    }

    /// <inheritdoc/>
    public bool TryCollectWritten(SpaceId id, List<Area> areas, bool everything, List<WrittenRun> written)
    {
        written.Clear();
        LiveSpace space = _spaces[id.Value];
        bool all = everything || space.LostSight, idle = space.IsIdle;
        if (idle && !all && !space.Huge.HasAny)
            return true;
        Area[] asked = [.. areas];
        if (!space.WrittenAsked.TryAsk(space, Lane.Hold, () => new Collected<WrittenRun>(CollectWritten(space, asked, all, idle), all), out Collected<WrittenRun> answer))
        {
            space.LostSight = true;
            return true;
        }

        // An earlier question's answer may be one to less than was asked now.
        space.LostSight = all && !answer.Everything;
        if (answer.Runs is null)
            return false;
        written.AddRange(answer.Runs);
        return true;
    }

    /// <inheritdoc/>
    public bool TryCollectMerged(SpaceId id, List<Area> areas, bool everything, List<MergedRun> merged, out bool unchanged)
    {
        merged.Clear();
        LiveSpace space = _spaces[id.Value];
        bool all = everything || space.MustCollectMerged;
        unchanged = space.IsIdle && !all;
        if (unchanged)
            return true;
        Area[] asked = [.. areas];
        if (!space.MergedAsked.TryAsk(space, Lane.Hold, () => new Collected<MergedRun>(CollectMerged(space, asked), true), out Collected<MergedRun> answer))
        {
            (space.MustCollectMerged, unchanged) = (true, true);
            return true;
        }

        space.MustCollectMerged = false;
        if (answer.Runs is null)
            return false;
        merged.AddRange(answer.Runs);
        return true;
    }

    /// <inheritdoc/>
    public void Read(SpaceId id, PageRun range, Span<byte> content, Span<PageFact> facts)
    {
        FinishReading();
        LetBeRead(id, range);
        LiveSpace space = _spaces[id.Value];
        PageReader reader = _reader;
        byte[] bytes = new byte[content.Length];
        PageFact[] found = new PageFact[facts.Length];
        if (space.TryBegin(Lane.Read, () => reader.Read(space, range, bytes, found)) is { } job)
        {
            if (space.Await(job))
            {
                bytes.CopyTo(content);
                found.CopyTo(facts);
                return;
            }

            NoteUnread(space);
        }

        facts.Fill(PageFact.Unread);
    }

    /// <inheritdoc/>
    public void BeginRead(SpaceId id, PageRun range, Memory<byte> content, Memory<PageFact> facts)
    {
        LetBeRead(id, range);
        LiveSpace space = _spaces[id.Value];
        PageReader reader = _reader;
        _reading = (space, space.TryBegin(Lane.Read, () => reader.Read(space, range, content.Span, facts.Span)));
        _wasRead = false;
    }

    /// <inheritdoc/>
    public bool EndRead()
    {
        FinishReading();
        return _wasRead;
    }

    private void FinishReading()
    {
        (LiveSpace? space, Attendants.Job? job) = _reading;
        _reading = default;
        if (job is null)
            return;
        _wasRead = space!.Await(job);
        if (!_wasRead)
            NoteUnread(space);
    }

    /// <summary>What a late read works with is its own.</summary>
    private void NoteUnread(LiveSpace space)
    {
        _reader = new PageReader();
        space.Obstacle = "it keeps a read of its memory waiting: a page of it is brought by nobody (userfaultfd, a file system of its own), or the lock of its address space is not given; others go on meanwhile";
    }

    /// <summary>Sees to it that no page of a range is moved out, or will be before somebody has read it.</summary>
    /// <remarks>Whoever touches a page that is moved out waits for its executor: for nothing, where the plan could have been waited for. So what was begun ends first, and nothing is begun while
    /// anything is read (<see cref="BeginExecute"/>).</remarks>
    private void LetBeRead(SpaceId id, PageRun range)
    {
        if (MayBeMovedOut(id, range))
            EndExecute();
    }

    /// <summary>Whether a page is in what was begun, or lies between two runs that may be moved out together.</summary>
    private bool MayBeMovedOut(SpaceId id, PageRun range)
    {
        int plan = _begun.FindIndex(plan => plan.Space == id);
        if (plan < 0)
            return false;
        List<PlannedRun> runs = _begun[plan].Runs;
        int at = Ranges.FirstEndingBehind(runs, range.Start.Value);
        return at < runs.Count && (runs[at].Range.Start.Value < range.End || (at > 0 && runs[at].Range.Start.Value - runs[at - 1].Range.End <= Stretches.PagesBetween));
    }

    /// <returns>The areas, and the mergeable ones are tracked; null when the process is gone.</returns>
    private static List<Area>? ListAreas(LiveSpace space, bool anew)
    {
        if (anew && !Refresh(space))
            return null;
        List<Area> listed = [];
        foreach (Segment segment in space.Map.Segments)
        {
            Area area = new(new PageRun(new PageNumber(segment.Start / Page), (long)((segment.End - segment.Start) / Page)), segment.Kind);
            if (area.Kind == AreaKind.Mergeable && listed.Count > 0 && listed[^1].Kind == AreaKind.Mergeable && listed[^1].Range.End == area.Range.Start.Value)
                listed[^1] = new Area(new PageRun(listed[^1].Range.Start, listed[^1].Range.Count + area.Range.Count), AreaKind.Mergeable);
            else
                listed.Add(area);
        }

        for (int i = 0; i < listed.Count; i++)
        {
            if (anew && listed[i].Kind == AreaKind.Mergeable &&
                Userfaultfd.TrackWrites(space.Session.T, listed[i].Range.Start.Value * Page, (ulong)listed[i].Range.Count * Page) is var errno && errno != Errno.None)
            {
                if (errno == Errno.ESRCH)
                    return null;
                listed.RemoveAt(i--); // EBUSY: another userfaultfd has it; EINVAL: it changed just now
            }
        }

        return listed;
    }

    /// <returns>Null when the process is gone.</returns>
    private static List<WrittenRun>? CollectWritten(LiveSpace space, Area[] areas, bool everything, bool idle)
    {
        List<WrittenRun> written = [];
        List<PageRegion> regions = [];
        if (everything)
            return TryListPopulated(space, areas, written) ? written : null;
        foreach ((ulong start, ulong end) in idle ? [] : Spans(areas, AreaKind.Mergeable))
        {
            regions.Clear();
            if (space.Pagemap.CollectWritten(start, end, regions) == Errno.ESRCH)
                return null;
            AddWritten(regions, written);
        }

        space.Huge.Collect(space, written);
        return written;
    }

    /// <summary>Lists what holds something, and leaves the marks of what was written for the next collection. What is in swap counts: nothing announces that
    /// it is back.</summary>
    private static bool TryListPopulated(LiveSpace space, Area[] areas, List<WrittenRun> written)
    {
        List<PageRegion> regions = [];
        space.Huge.Forget(areas);
        foreach (Area area in areas)
        {
            regions.Clear();
            if (area.Kind == AreaKind.Mergeable &&
                space.Pagemap.CollectPopulated(area.Range.Start.Value * Page, area.Range.End * Page, regions) == Errno.ESRCH)
            {
                return false;
            }

            AddWritten(regions, written);
        }

        return true;
    }

    private static void AddWritten(List<PageRegion> regions, List<WrittenRun> written)
    {
        foreach (PageRegion region in regions)
        {
            written.Add(new WrittenRun(new PageRun(new PageNumber(region.Start / Page), (long)((region.End - region.Start) / Page)),
                (region.Categories & Pagemap.ZeroPage) != 0));
        }
    }

    /// <returns>Null when the process is gone.</returns>
    private static List<MergedRun>? CollectMerged(LiveSpace space, Area[] areas)
    {
        List<MergedRun> merged = [];
        List<PageRegion> regions = [];
        int segment = 0;
        foreach ((ulong start, ulong end) in Spans(areas, AreaKind.Merged))
        {
            regions.Clear();
            if (space.Pagemap.CollectFilePages(start, end, regions) == Errno.ESRCH)
                return null;
            foreach (PageRegion region in regions)
                AddMerged(space.Map.Segments, ref segment, region, merged);
        }

        return merged;
    }

    /// <summary>A region of frames may lie over several mappings, each with frames of its own.</summary>
    private static void AddMerged(List<Segment> segments, ref int segment, PageRegion region, List<MergedRun> merged)
    {
        while (segment < segments.Count && segments[segment].End <= region.Start)
            segment++;
        for (int i = segment; i < segments.Count && segments[i].Start < region.End; i++)
        {
            if (segments[i].Kind != AreaKind.Merged)
                continue;
            ulong start = Math.Max(region.Start, segments[i].Start), end = Math.Min(region.End, segments[i].End);
            merged.Add(new MergedRun(new PageRun(new PageNumber(start / Page), (long)((end - start) / Page)), segments[i].FrameAt(start)));
        }
    }

    /// <summary>One system call serves a span with many areas: mappings of other kinds in between are passed over by the kernel.</summary>
    private static IEnumerable<(ulong Start, ulong End)> Spans(Area[] areas, AreaKind kind)
    {
        ulong start = 0, end = 0;
        foreach (Area area in areas)
        {
            if (area.Kind != kind)
                continue;
            if (end != 0 && area.Range.Start.Value * Page - end > SpanGap)
            {
                yield return (start, end);
                end = 0;
            }

            if (end == 0)
                start = area.Range.Start.Value * Page;
            end = area.Range.End * Page;
        }

        if (end != 0)
            yield return (start, end);
    }
}
