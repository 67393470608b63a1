using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using Samepage.Agent;
using Samepage.Agent.Tracing;
using Samepage.Api;
using Samepage.Engine;
using Samepage.Engine.Control;
using Samepage.Engine.Records;
using Samepage.Linux;
using Samepage.Linux.Frames;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;
using Samepage.Live;

namespace Samepage.Daemon;

/// <summary>Takes processes in and gives them back, visits them in turn, and knows the figures. All on the scanner's thread.</summary>
/// <remarks>What has to wait for a program (taking it in, giving it back, looking for its children) is done by its attendants, in asynchronous methods that go on on the scanner's thread
/// (<see cref="ThreadPump"/>): while one waits, all others are served. What is done with a process so is done by one method at a time (<see cref="Participant.Work"/>), and no visit touches the process
/// meanwhile.</remarks>
/// <param name="logger">Is told.</param>
/// <param name="records">Where agents are written down.</param>
/// <param name="store">Keeps the descriptors of children beyond our death; null where nothing does.</param>
/// <param name="start">Starts a thread; null as the runtime does.</param>
internal sealed partial class Coordinator(ILogger logger, AgentRecords records, DescriptorStore? store = null, Action<Thread>? start = null) : IDisposable
{
    private const int MaxParticipants = 4096;
    private static readonly TimeSpan AdviceInterval = TimeSpan.FromSeconds(1);
    private readonly LiveMachine _machine = new(store, start);
    private readonly Dictionary<int, Participant> _participants = [];
    private ScanEngine? _engine;
    private int _nextSpace;
    private bool _isEnding;

    /// <summary>Memory of processes that serve this one, counted as a cost; bytes.</summary>
    public long CompanionBytes { get; init; }

    /// <summary>Threads that wait for an answer of the daemon; null where nobody can.</summary>
    public IWaitingThreads? Waiting { get; init; }

    /// <summary>Says of a process that the agent of a daemon that died is in it, and another's to give back: it is not taken in, and not as its parent's child either. Any thread.</summary>
    public Predicate<int> HasAgentOfItsOwn { get; init; } = static _ => false;

    /// <summary>Says of a process that it shares frames with one of which that is true, and is to be given back with it. It may have to wait for the process.</summary>
    public Predicate<int> SharesWithSuch { get; init; } = static _ => false;

    /// <summary>What decides.</summary>
    public ScanEngine Engine => _engine ??= new ScanEngine(_machine);

    /// <summary>A process is not settled: the next pass is worth making soon.</summary>
    public bool IsBusy => _participants.Values.Any(p => p.Space is SpaceId space && !p.IsAtWork && !_machine[space].MustLeave && !_machine[space].IsBusy && !Engine.FiguresOf(space).Settled);

    /// <summary>The processes that were asked for.</summary>
    public int[] Pids() => [.. _participants.Keys.Order()];

    /// <summary>Visits one process, or goes on with its visit, or leaves it when it must be left.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="pages">Pages that may be looked at; less those that were, afterwards.</param>
    public VisitProgress Visit(int pid, ref long pages)
    {
        if (!TryFindIdle(pid, out Participant? participant, out SpaceId id))
            return VisitProgress.Nothing;
        LiveSpace space = _machine[id];
        if (!participant.InVisit)
        {
            if (space.Unanswered > 0)
                _ = space.TryBegin(Lane.Hold, space.Hear);
            space.Observe();
            // Advice that is given or taken back shows in nothing that is cheap to look at.
            if (participant.Origin == Origin.Advice && Stopwatch.GetElapsedTime(participant.AdviceReadAt) >= AdviceInterval)
                (space.MustList, participant.AdviceReadAt) = (true, Stopwatch.GetTimestamp());
            if (!LookAfter(participant, space))
                return VisitProgress.Something;
        }

        VisitOutcome outcome = Engine.Visit(id, ref pages);
        participant.InVisit = outcome == VisitOutcome.Unfinished;
        switch (outcome)
        {
            case VisitOutcome.Unfinished:
                return VisitProgress.Unfinished;
            case VisitOutcome.Ended:
                NoteVisitOfScan(participant, space);
                LookAfterChildren(participant, space);
                if (participant.Origin == Origin.Advice && !space.IsBusy)
                    HonourAdvice(participant, space);
                return participant.Space is null ? VisitProgress.Something : space.IsIdle ? VisitProgress.Nothing : VisitProgress.Something;
            default:
                Observed(LeaveGone(participant, space));
                return VisitProgress.Something;
        }
    }

    /// <summary>What a visit does besides scanning, for a scanner that stands still: leaves processes that have ended or must be left, and takes children in.</summary>
    public void Keep(int pid)
    {
        if (!TryFindIdle(pid, out Participant? participant, out SpaceId id))
            return;
        LiveSpace space = _machine[id];
        if (!LookAfter(participant, space))
            return;
        if (space.Session.HasExecutorEnded)
            Observed(LeaveGone(participant, space));
        else
            LookAfterChildren(participant, space);
    }

    /// <summary>Finds a process that is taken in, and with which nothing is done at the moment. Of one that keeps its attendant it is at least looked whether it has ended.</summary>
    private bool TryFindIdle(int pid, [NotNullWhen(true)] out Participant? participant, out SpaceId id)
    {
        id = default;
        if (!_participants.TryGetValue(pid, out participant) || participant.Space is not SpaceId found || participant.IsAtWork)
            return false;
        id = found;
        if (!_machine[id].IsBusy)
            return true;
        if (PidFd.HasEnded(_machine[id].PidFd))
            Observed(Leave(participant, "it ended", keep: false));
        return false;
    }

    /// <returns>False when it was left, is to be, or is about to end: nothing may be merged in it.</returns>
    private bool LookAfter(Participant participant, LiveSpace space)
    {
        if (PidFd.HasEnded(space.PidFd))
        {
            Observed(Leave(participant, "it ended", keep: false));
            return false;
        }

        // That its status cannot be read does not say that it has ended: there may be no descriptor left to read it with, or no memory. It is not forgotten with its agent in it.
        if (ProcessStatus.TryReadLiving(participant.Pid, space.Session.ExecutorThread, space.Session.WardenThread) is not { } status)
            return false;

        if (space.OwnThread != participant.Pid || status.State is 'Z' or 'X')
            space.Session.LookWhetherAlone();
        // Where its last own thread has ended the agent's end the process, and it is about to be gone.
        if (status.State is 'Z' or 'X')
            return false;
        participant.Name = status.Name;
        if (!MayStay(participant, space, status, out string? reason, out string? moves))
        {
            // Of what has parted only the agent's mapping is left, for which a thread of it must run.
            bool canBe = !space.HasParted || status.State != 'T';
            if (canBe && (participant.LeaveTriedAt == 0 || Stopwatch.GetElapsedTime(participant.LeaveTriedAt) >= s_leaveInterval * (1 << participant.LeaveTries)))
                Observed(GoOn(participant, space, reason, moves));
            return false;
        }

        return true;
    }

    private void LookAfterChildren(Participant participant, LiveSpace space)
    {
        if (!participant.AdoptsChildren && (!space.IsIdle || space.Inherited.Count > 0))
            Observed(TakeChildrenIn(participant, space));
    }

    /// <summary>Ends with the scanner if a task fails: nobody awaits it.</summary>
    private static async void Observed(Task task) => await task;

    /// <summary>Ends a pass.</summary>
    /// <param name="isScan">A full scan has ended with it, which counts if there was anything to scan.</param>
    /// <returns>Whether there was.</returns>
    public bool EndPass(bool isScan)
    {
        bool hadWork = Engine.HasWork;
        SumUpWaste();
        if (hadWork && isScan)
            Engine.EndPass();
        else
            Engine.SweepFrames();
        ForgetEmptyDomains();
        records.RemoveLeft();
        return hadWork;
    }

    /// <summary>What must be looked after while the scanner stands still.</summary>
    public void KeepAll()
    {
        foreach (int pid in Pids())
        {
            Keep(pid);
            if (TryFindIdle(pid, out Participant? participant, out SpaceId id))
                HonourAdviceNow(participant, _machine[id]);
        }

        Engine.SweepFrames();
        ForgetEmptyDomains();
        records.RemoveLeft();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _machine.Dispose();
        _engine?.Dispose();
        _namespaces.Dispose();
    }

    private string State(Participant participant) =>
        participant.Arriving ? "arriving" : participant.Space is not SpaceId id ? "skipped" : participant.Detaching || _machine[id].HasParted ? "detaching" : Engine.FiguresOf(id).Visits < 2 ? "settling" : "merging";

    private ProcessOutcome Outcome(Participant participant) =>
        new(participant.Pid, participant.Space is not null, State(participant), participant.Reason);
}
