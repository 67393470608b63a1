using System.Runtime.InteropServices;
using Samepage.Agent;
using Samepage.Engine;
using Samepage.Linux;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>Carries one plan out in one process: cuts it at the mappings' borders, keeps within the limit of mappings, tries the rest of a run
/// again behind a page that could not be done, and says what became of each page.</summary>
internal sealed class PlanExecution(LiveSpace space, int mappingLimit)
{
    private const ulong Page = 4096;
    private readonly List<AgentOperation> _operations = [];
    private bool? _mayBeHeld;
    private readonly List<int> _firstOutcomes = [];
    private readonly List<(ulong Start, ulong End, ulong Offset)> _merged = [];

    /// <summary>Something was unmerged: the mappings must be read again.</summary>
    public bool Unmerged { get; private set; }

    public void Run(List<PlannedRun> plan, Span<PageOutcome> outcomes)
    {
        int outcome = 0, segment = 0;
        foreach (PlannedRun run in plan)
        {
            Cut(run, outcome, outcomes, ref segment);
            outcome += (int)run.Range.Count;
        }

        KeepWithinLimit(outcomes);
        // Runs are put into stretches once. What is left then lies between mappings of frames, or next to what could not be moved.
        Stretches stretches = new(space.Map.Segments);
        for (bool once = Stretches.AreWorthIt; _operations.Count > 0; once = false)
        {
            int tried = once
                ? stretches.TakeOutcomes(space.Run(stretches.Bracket(_operations)), _operations)
                : space.Run(CollectionsMarshal.AsSpan(_operations));
            for (int i = tried; i < _operations.Count; i++)
                outcomes.Slice(_firstOutcomes[i], Pages(_operations[i])).Fill(PageOutcome.Deferred);
            Settle(tried, outcomes);
        }

        _merged.Sort();
        space.Footprint.NoteMerged(_merged, space.Map.Segments);
        space.Map.NoteMerged(_merged);
    }

    private bool MayBeHeld => _mayBeHeld ??= HeldPages.MayBeIn(space);

    private static int Pages(in AgentOperation operation) => (int)(operation.Length / Page);

    private void Cut(PlannedRun run, int outcome, Span<PageOutcome> outcomes, ref int segment)
    {
        List<Segment> segments = space.Map.Segments;
        AreaKind kind = run.Kind == PlanKind.Unmerge ? AreaKind.Merged : AreaKind.Mergeable;
        ulong first = run.Range.Start.Value * Page, end = run.Range.End * Page;
        while (segment < segments.Count && segments[segment].End <= first)
            segment++;
        for (int i = segment; i < segments.Count && segments[i].Start < end; i++)
        {
            if (segments[i].Kind != kind)
                continue;
            ulong stop = Math.Min(end, segments[i].End);
            for (ulong at = Math.Max(first, segments[i].Start); at < stop;)
            {
                ulong length = Math.Min(AgentSession.MaxRunBytes, stop - at);
                int place = outcome + (int)((at - first) / Page);
                at += length;
                AgentOperation operation = new()
                {
                    Kind = run.Kind switch { PlanKind.Merge => OperationKind.Merge, PlanKind.MakeZero => OperationKind.Zero, _ => OperationKind.Unmerge },
                    Flags = segments[i].Advice,
                    Address = at - length,
                    Length = length,
                    FrameOffset = run.FirstFrame.Value * Page + (at - length - first),
                };
                if (kind == AreaKind.Merged && segments[i].IsFixed)
                {
                    outcomes.Slice(place, (int)(length / Page)).Fill(PageOutcome.Busy);
                    continue;
                }

                // A device may be writing into what is private already, and a copy would miss that: it keeps its place.
                if (kind == AreaKind.Merged && MayBeHeld)
                    operation.Flags |= OperationFlags.Ask;

                _firstOutcomes.Add(place);
                _operations.Add(operation);
            }
        }
    }

    /// <summary>Where mappings are short they are spent where they save most: on the longest runs. Zero pages and unmerging need none.</summary>
    private void KeepWithinLimit(Span<PageOutcome> outcomes)
    {
        int allowed = (mappingLimit - space.Map.MappingCount) / 2;
        int wanted = _operations.Count(operation => operation.Kind == OperationKind.Merge);
        if (wanted <= allowed)
            return;
        space.Obstacle = $"vm.max_map_count: {space.Map.MappingCount} mappings, and a reserve is left to the program";
        HashSet<int> kept = [.. Enumerable.Range(0, _operations.Count).OrderByDescending(i => _operations[i].Kind == OperationKind.Merge ? _operations[i].Length : ulong.MaxValue)
            .Take(_operations.Count - wanted + Math.Max(allowed, 0))];
        int to = 0;
        for (int i = 0; i < _operations.Count; i++)
        {
            if (kept.Contains(i))
                (_operations[to], _firstOutcomes[to++]) = (_operations[i], _firstOutcomes[i]);
            else
                outcomes.Slice(_firstOutcomes[i], Pages(_operations[i])).Fill(PageOutcome.Refused);
        }

        _operations.RemoveRange(to, _operations.Count - to);
        _firstOutcomes.RemoveRange(to, _firstOutcomes.Count - to);
    }

    /// <summary>The kernel does not move what lies in the operation's area: it is not tried again as long as that looks the same.</summary>
    private void LeaveAlone(in AgentOperation operation)
    {
        ulong address = operation.Address;
        Segment area = space.Map.Segments.Find(segment => segment.Start <= address && address < segment.End);
        if (area.Flags.Length == 0)
            return;
        space.Map.Refused.Add(area, (Errno)operation.Error);
        space.MustList = true;
    }

    /// <summary>Pages that are held with the one that could not be done: those of its large folio, if it is in one.</summary>
    private int HeldTogether(in AgentOperation operation, int done)
    {
        LargeFolios folios = new(FrameFlags.Here);
        ulong first = operation.Address + (ulong)done * Page;
        return (int)Math.Max(1, (folios.EndOf(space.Pagemap, first, operation.Address + operation.Length) - first) / Page);
    }

    /// <summary>Notes what became of the operations tried; what lies behind a page that could not be done becomes the next round.</summary>
    private void Settle(int tried, Span<PageOutcome> outcomes)
    {
        int to = 0;
        for (int i = 0; i < tried; i++)
        {
            AgentOperation operation = _operations[i];
            int first = _firstOutcomes[i], pages = Pages(operation), done = (int)Math.Min(operation.Done / Page, (ulong)pages);
            outcomes.Slice(first, done).Clear(); // PageOutcome.Done
            if (operation.Kind != OperationKind.Unmerge)
                space.Huge.NoteSplit(operation.Address, operation.Length);
            if (operation.Kind == OperationKind.Unmerge && done > 0)
                space.Footprint.NoteGiven(operation.Address, operation.Address + (ulong)done * Page);
            Unmerged |= operation.Kind == OperationKind.Unmerge;
            if (operation.Kind == OperationKind.Merge && done > 0)
                _merged.Add((operation.Address, operation.Address + (ulong)done * Page, operation.FrameOffset));
            if (done == pages)
                continue;
            PageOutcome outcome = (Errno)operation.Error switch
            {
                Errno.EILSEQ => PageOutcome.Differs,
                MoveSieve.Held => PageOutcome.Held,
                Errno.EBUSY or Errno.EAGAIN or Errno.EEXIST or Errno.ESTALE => PageOutcome.Busy,
                Errno.ENOMEM => PageOutcome.Refused,
                _ => PageOutcome.Gone,
            };
            // A refusal that is not about this one page is about all that follow.
            bool forWhatItIs = (Errno)operation.Error is Errno.EINVAL or Errno.EOPNOTSUPP or Errno.EACCES or Errno.EPERM && done == 0;
            bool wholly = outcome == PageOutcome.Refused || forWhatItIs || (Errno)operation.Error == Errno.ESTALE;
            if (forWhatItIs && operation.Kind != OperationKind.Unmerge)
                LeaveAlone(operation);
            int alike = wholly ? pages - done : outcome == PageOutcome.Held ? HeldTogether(operation, done) : 1;
            outcomes.Slice(first + done, alike).Fill(outcome);
            int behind = done + alike;
            if (wholly || behind >= pages || (operation.Kind == OperationKind.Unmerge && operation.Error != 0))
                continue;
            ulong skipped = (ulong)(operation.Kind == OperationKind.Unmerge ? done : behind) * Page;
            _operations[to] = operation with { Address = operation.Address + skipped, Length = operation.Length - skipped, FrameOffset = operation.FrameOffset + skipped };
            _firstOutcomes[to++] = first + (int)(skipped / Page);
        }

        _operations.RemoveRange(to, _operations.Count - to);
        _firstOutcomes.RemoveRange(to, _firstOutcomes.Count - to);
    }
}
