using Samepage.Engine;
using Samepage.Simulation.Memory;

namespace Samepage.Simulation.Worlds;

/// <content>What the engine's keeper does: takes processes in, lets the engine scan, gives processes back.</content>
internal sealed partial class World
{
    private const int RoundsToDetach = 10;
    private const int BatchesMax = 2000;

    /// <summary>Slots that the cursor has still to come to in this pass, and those that were added since it began.</summary>
    private readonly HashSet<SpaceId> _waiting = [], _newcomers = [];
    private bool _scans;

    /// <summary>Nothing in this pass has gone past the cursor: visits out of turn, or an end to all visits.</summary>
    private bool _inOrder;
    private bool _inPass;

    private readonly List<(DomainId Domain, FrameId First, int Count)> _retired = [];

    /// <summary>Scans to the end of a pass, so many times. Where there is nothing to scan, frames that nobody uses any more are freed all the same.</summary>
    public void Pass(int times = 1)
    {
        for (int i = 0; i < times; i++)
        {
            if (!Engine.HasWork)
                EngineCall(Engine.SweepFrames);
            for (int batch = 0; Engine.HasWork && Scan(PagesPerBatch).PassesCompleted == 0; batch++)
            {
                if (batch == BatchesMax)
                    throw new BrokenInvariantException(Invariant.TheCursorKeepsItsOrder, $"{batch} batches of {PagesPerBatch} pages have not come to the end of a pass");
            }
        }
    }

    /// <summary>Scans a batch, and forgets the processes that turned out to be gone or to have nothing to merge.</summary>
    public BatchReport Scan(int pages)
    {
        BatchReport report = default;
        _scans = true;
        if (!_inPass)
            BeginPass();
        EngineCall(() => report = Engine.Scan(pages));
        _scans = false;
        _inPass = report.PassesCompleted == 0;
        foreach (SpaceId space in report.Gone.Concat(report.WithoutAreas))
            Forget(Machine.Of(space)!);
        return report;
    }

    /// <summary>Lets the engine know a process.</summary>
    public void Attach(SimulatedProcess process)
    {
        if (process.Space is not null)
            return;
        SpaceId space = Machine.TakeIn(process);
        if (Engine.Add(space, new DomainId(process.Domain)))
            _taken.Add(process);
        else
            Machine.LetGo(space);
        if (_inPass)
            _newcomers.Add(space);
    }

    /// <summary>Gives a process everything back, and forgets it. What it moves about meanwhile is looked for again.</summary>
    /// <returns>False when something could not be given back: it stays.</returns>
    public bool Detach(SimulatedProcess process)
    {
        BreakOutcome outcome = BreakOutcome.Done;
        for (int round = 0; outcome == BreakOutcome.Done && Machine.MapsFrames(process); round++)
            outcome = round == RoundsToDetach ? BreakOutcome.Interrupted : Break(process, new PageRun(new PageNumber(process.FirstPage), Machine.Tables.Window));
        if (outcome is BreakOutcome.Done or BreakOutcome.Gone)
            Forget(process);
        return outcome == BreakOutcome.Done;
    }

    /// <summary>Gives every process back that no device keeps from it.</summary>
    public void GiveAllBack()
    {
        while (Programs.Pins > 0)
            Programs.Unpin(0);
        foreach (SimulatedProcess process in _taken.ToArray())
        {
            if (!Detach(process))
                throw new BrokenInvariantException(Invariant.NoTraceIsLeft, $"the process in slot {process.Slot} cannot be given back");
        }
    }

    /// <summary>Gives the pages of a range their own copies (A5).</summary>
    public BreakOutcome Break(SimulatedProcess process, PageRun range)
    {
        BreakOutcome outcome = default;
        EngineCall(() => outcome = Engine.BreakRange(process.Space!.Value, range));
        return outcome;
    }

    /// <summary>Breaks everything everywhere (E3).</summary>
    public BreakOutcome UnmergeAll()
    {
        BreakOutcome outcome = default;
        EngineCall(() => outcome = Engine.UnmergeAll());
        _inOrder = false;
        _inPass &= outcome != BreakOutcome.Done;
        if (outcome == BreakOutcome.Done && (Engine.FullScans != 0 || _taken.Exists(process => Engine.FiguresOf(process.Space!.Value).Counts.Tracked != 0)))
            throw new BrokenInvariantException(Invariant.NoTraceIsLeft, "everything was unmerged, and records are left");
        return outcome;
    }

    /// <summary>Moves a frame to another place of its pool, past all that are in use, and tells the engine (F4).</summary>
    public void MoveFrame(int domain, int choice)
    {
        List<uint> held = [];
        for (uint frame = 0; frame < Machine.Tables.Pools.LimitOf(domain); frame++)
        {
            if (Machine.Tables.Pools[domain, frame].Held)
                held.Add(frame);
        }

        if (held.Count == 0 || _retired.Count > 0)
            return;
        uint from = held[choice % held.Count], to = Machine.Tables.Pools.LimitOf(domain);
        Machine.MoveFrame(domain, from, to);
        if (!Engine.FrameMoved(new DomainId(domain), new FrameId(from), new FrameId(to)))
            Machine.MoveFrame(domain, to, from);
    }

    /// <summary>Takes a stretch of a pool out of use (F5), until the next rest.</summary>
    public void Retire(int domain, uint first, int count)
    {
        bool free = false;
        EngineCall(() => free = Engine.TryRetire(new DomainId(domain), new FrameId(first), count));
        _retired.Add((new DomainId(domain), new FrameId(first), count));
        for (uint frame = first; free && frame < first + count; frame++)
        {
            if (frame < Machine.Tables.Pools.LimitOf(domain) && Machine.Tables.Pools[domain, frame].Held)
                throw new BrokenInvariantException(Invariant.NoTraceIsLeft, $"frame {frame} of domain {domain} was given up, and holds memory");
        }
    }

    private void BeginPass()
    {
        _inOrder = true;
        _newcomers.Clear();
        _waiting.Clear();
        _waiting.UnionWith(_taken.Select(process => process.Space!.Value));
    }

    private void NoteListed(SpaceId space)
    {
        if (!_scans || !_inOrder)
            return;
        if (_newcomers.Contains(space) ? _waiting.Count > 0 : !_waiting.Remove(space))
            throw new BrokenInvariantException(Invariant.TheCursorKeepsItsOrder, $"space {space.Value} is visited, and {_waiting.Count} others wait in this pass");
        _newcomers.Remove(space);
    }

    private void CancelRetired()
    {
        foreach ((DomainId domain, FrameId first, int count) in _retired)
            Engine.CancelRetire(domain, first, count);
        _retired.Clear();
    }

    private void Visit(SimulatedProcess process)
    {
        bool there = _inOrder = false;
        EngineCall(() => there = Engine.Visit(process.Space!.Value));
        if (!there || !process.Alive)
            Forget(process);
    }

    private void Forget(SimulatedProcess process)
    {
        SpaceId space = process.Space!.Value;
        _waiting.Remove(space);
        Engine.Remove(space);
        Machine.LetGo(space);
        _taken.Remove(process);
        CheckTrace(process);
    }
}
