using Samepage.Engine;
using Samepage.Simulation.Memory;

namespace Samepage.Simulation;

/// <content>Carrying plans out, step by step as the live executor does it.</content>
internal sealed partial class SimulatedMachine
{
    private readonly Queue<SpacePlan> _begun = new();

    /// <inheritdoc/>
    public void BeginExecute(List<SpacePlan> plans)
    {
        foreach (SpacePlan plan in plans)
            _begun.Enqueue(plan);
        if (!_options.Lags)
            EndExecute();
    }

    /// <inheritdoc/>
    public void EndExecute()
    {
        while (TryExecuteNext())
            continue;
    }

    /// <inheritdoc/>
    /// <remarks>Where threads are held, they are from here to the end; everybody else goes on all the while.</remarks>
    public void Execute(SpaceId space, List<PlannedRun> plan, Span<PageOutcome> outcomes)
    {
        outcomes.Fill(PageOutcome.Gone);
        Between();
        if (!IsThere(space, out SimulatedProcess process))
            return;
        if (process.Stopped)
        {
            outcomes.Fill(PageOutcome.Deferred);
            foreach (PlannedRun run in plan)
                PutOff(process, run, 0, (int)run.Range.Count);
            return;
        }

        process.Held = _options.HoldsThreads;
        int at = 0;
        foreach (PlannedRun run in plan)
        {
            CarryOut(process, run, outcomes.Slice(at, (int)run.Range.Count));
            at += (int)run.Range.Count;
            if (!process.Alive)
                break;
        }

        process.Held = false;
        Exchanging = default;
    }

    private bool TryExecuteNext()
    {
        if (!_begun.TryDequeue(out SpacePlan plan))
            return false;
        Execute(plan.Space, plan.Runs, plan.Outcomes);
        return true;
    }

    /// <summary>What could be done of a run is done; behind a page that could not be, the rest is tried again.</summary>
    private void CarryOut(SimulatedProcess process, PlannedRun run, Span<PageOutcome> outcomes)
    {
        outcomes.Fill(PageOutcome.Gone);
        int place = PlaceOf(process, run.Range.Start.Value);
        for (int i = 0; i < outcomes.Length && process.Alive;)
        {
            int part = PartWithin(process, place + i, outcomes.Length - i, run.Kind == PlanKind.Unmerge ? AreaKind.Merged : AreaKind.Mergeable);
            Exchanging = ((int)(run.Range.Start.Value - process.FirstPage) + i, part);
            PageOutcome stop = PageOutcome.Gone;
            int done = part == 0 ? 0
                : run.Kind == PlanKind.Unmerge ? UnmergePart(process, place + i, part, out stop)
                : MergePart(process, place + i, part, run.Kind == PlanKind.MakeZero ? null : run.FirstFrame.Value + (uint)i, out stop);
            outcomes.Slice(i, done).Clear(); // PageOutcome.Done
            i += done;
            if (part > 0 && done == part)
                continue;
            if (stop is PageOutcome.Busy or PageOutcome.Refused)
                PutOff(process, run, i, stop == PageOutcome.Refused ? outcomes.Length : i + 1);
            if (process.Alive)
                outcomes.Slice(i, stop == PageOutcome.Refused ? outcomes.Length - i : 1).Fill(stop);
            if (stop == PageOutcome.Refused)
                return;
            i++;
        }
    }

    /// <summary>How many neighbours from a place on are in one area of a kind: runs are cut where areas end.</summary>
    private int PartWithin(SimulatedProcess process, int place, int count, AreaKind kind)
    {
        int part = 0;
        while (part < count && Tables[place + part].Area == Tables[place].Area && KindOf(process, Tables[place + part]) == kind)
            part++;
        return part;
    }

    private void PutOff(SimulatedProcess process, PlannedRun run, int from, int to)
    {
        for (int i = from; i < to && run.Kind == PlanKind.Merge; i++)
            Tables.Pools[PoolOf(process), run.FirstFrame.Value + (uint)i].PutOff = true;
    }

    /// <summary>Takes marks of an exchange off a range, and lets those who wait for it go on.</summary>
    private void Finish(int place, int count)
    {
        for (int i = place; i < place + count; i++)
            Tables.Change(i).Flags &= ~(EntryFlags.Missing | EntryFlags.Protected | EntryFlags.Dropped);
        if (!Fails(MachineFaults.ForgetToWake))
            Woken(place, place + count);
    }

    /// <summary>Lets others run.</summary>
    /// <returns>False when the process has ended meanwhile: its memory is gone, scratch and all.</returns>
    private bool Survives(SimulatedProcess process)
    {
        Between();
        return process.Alive;
    }
}
