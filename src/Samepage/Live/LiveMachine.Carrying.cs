using System.Diagnostics;
using Samepage.Engine;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <content>Carrying plans out, beside the scanner.</content>
internal sealed partial class LiveMachine
{
    private static readonly TimeSpan LookIsFresh = TimeSpan.FromMilliseconds(250);
    private readonly List<Unsettled> _unsettled = [];
    private List<SpacePlan> _begun = [];
    private List<(SpacePlan Plan, PageOutcome[] Outcomes)> _under = [];

    /// <inheritdoc/>
    public void Execute(SpaceId id, List<PlannedRun> plan, Span<PageOutcome> outcomes)
    {
        PageOutcome[] owned = new PageOutcome[outcomes.Length];
        BeginExecute([new SpacePlan(id, plan, owned)]);
        EndExecute();
        owned.CopyTo(outcomes);
    }

    /// <inheritdoc/>
    /// <remarks>A plan's attendant has outcomes of its own: those of one that is late are nobody's any more.</remarks>
    public void BeginExecute(List<SpacePlan> plans)
    {
        FinishReading();
        _begun = plans;
        _under = [];
        foreach (SpacePlan plan in plans)
        {
            LiveSpace space = _spaces[plan.Space.Value];
            if (space.MustLeave || space.IsBusy)
                plan.Outcomes.AsSpan().Fill(PageOutcome.Deferred);
            else
                _under.Add((plan, new PageOutcome[plan.Outcomes.Length]));
        }

        _hands.Begin(_under.Select(piece => (_spaces[piece.Plan.Space.Value], new Action(() => CarryOut(_spaces[piece.Plan.Space.Value], piece.Plan.Runs, piece.Outcomes)))).ToArray());
    }

    /// <inheritdoc/>
    public void EndExecute()
    {
        (bool IsLate, Attendants.Job? Job)[] ended = _hands.End();
        for (int i = 0; i < ended.Length; i++)
        {
            (SpacePlan plan, PageOutcome[] outcomes) = _under[i];
            LiveSpace space = _spaces[plan.Space.Value];
            if (!ended[i].IsLate)
            {
                outcomes.CopyTo(plan.Outcomes, 0);
                if (space.Session.MayBeInABatch)
                {
                    space.LoseSight();
                    _unsettled.Add(new Unsettled(space, ended[i].Job!, plan.Runs));
                }

                continue;
            }

            plan.Outcomes.AsSpan().Fill(PageOutcome.Deferred);
            space.LoseSight();
            space.Obstacle = "it keeps what is done in it waiting: starved, frozen, stopped, or on purpose; others go on meanwhile";
            if (ended[i].Job is { } job)
                _unsettled.Add(new Unsettled(space, job, plan.Runs));
        }

        (_begun, _under) = ([], []);
    }

    /// <summary>Frames that a late plan names count as mapped until it has ended: the attendant's work, and the executor's, which an attendant gives up after some seconds.</summary>
    /// <remarks>Its executor may have compared a page with a frame and not mapped it yet. Were the frame given up in between, and written anew, the program would see what was never compared. For the
    /// engine such pages are merely put off; so that it keeps its hands off the frames is seen to here.</remarks>
    private void KeepUnsettled(DomainId domain, FrameId first, Span<bool> unmapped)
    {
        _unsettled.RemoveAll(static late => late.Job.HasEnded && !late.Space.Session.MayBeInABatch);
        foreach (Unsettled late in _unsettled)
        {
            foreach (PlannedRun run in late.Space.Domain == domain ? late.Runs : [])
            {
                if (run.Kind != PlanKind.Merge)
                    continue;
                long start = Math.Max(0, (long)run.FirstFrame.Value - first.Value), end = Math.Min(unmapped.Length, run.FirstFrame.Value + run.Range.Count - first.Value);
                if (start < end)
                    unmapped[(int)start..(int)end].Clear();
            }
        }
    }

    private static void CarryOut(LiveSpace space, List<PlannedRun> plan, Span<PageOutcome> outcomes)
    {
        outcomes.Fill(PageOutcome.Gone);
        // The advice of every mapping is looked at now, right before the threads are held: what is replaced must look the same. (Protection and
        // locks the move itself compares.) A look that is only just past serves again: one costs as much as a program has mappings.
        if (Stopwatch.GetElapsedTime(space.Map.ReadAt) > LookIsFresh && !Refresh(space))
            return;
        space.NoteProgress();
        PlanExecution execution = new(space, MappingLimit.ForMerging(MappingLimit.Read()));
        execution.Run(plan, outcomes);
        space.AreasFromMap = true;
        if (execution.Unmerged)
            space.ForgetLook();
    }

    /// <summary>A plan that is late, or whose executor gave no answer.</summary>
    private readonly record struct Unsettled(LiveSpace Space, Attendants.Job Job, List<PlannedRun> Runs);
}
