using System.Diagnostics;
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
internal sealed partial class Coordinator(ILogger logger, AgentRecords records) : IDisposable
{
    private const int MaxParticipants = 4096, PartingRounds = 100;
    private static readonly TimeSpan AdviceInterval = TimeSpan.FromSeconds(1);
    private readonly LiveMachine _machine = new();
    private readonly Dictionary<int, Participant> _participants = [];
    private ScanEngine? _engine;
    private int _nextSpace;

    /// <summary>Memory of processes that serve this one, counted as a cost; bytes.</summary>
    public long CompanionBytes { get; init; }

    /// <summary>Threads that wait for an answer of the daemon; null where nobody can.</summary>
    public IWaitingThreads? Waiting { get; init; }

    /// <summary>What decides.</summary>
    public ScanEngine Engine => _engine ??= new ScanEngine(_machine);

    /// <summary>A process is not settled: the next pass is worth making soon.</summary>
    public bool IsBusy => _participants.Values.Any(p => p.Space is SpaceId space && !Engine.FiguresOf(space).Settled && !_machine[space].MustLeave);

    /// <summary>Takes a process in. One that was taken in for its advice is taken in whole when it is asked for by hand.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="origin">Why.</param>
    public ProcessOutcome Attach(int pid, Origin origin = Origin.Hand)
    {
        if (_participants.TryGetValue(pid, out Participant? known) && known.Space is SpaceId taken)
        {
            if (!PidFd.HasEnded(_machine[taken].PidFd))
            {
                known.Origin = origin;
                TakeAdvice(known, _machine[taken]);
                return Outcome(known);
            }

            Forget(known, "it ended");
        }

        if (_participants.Count >= MaxParticipants)
            return new ProcessOutcome(pid, false, "skipped", $"the daemon serves {MaxParticipants} processes already");
        string? reason = Eligibility.Refuse(pid, out string name, out string user, out _);
        string domain = reason is null ? DomainNameOf(pid, user, ref reason) : "";
        Participant participant = new(pid) { Name = name, User = user, Domain = domain, Origin = origin };
        try
        {
            if (reason is null)
                TakeIn(participant, inheritedM: null);
        }
        catch (AttachException refused)
        {
            reason = refused.Message;
        }
        catch (SyscallException refused)
        {
            reason = refused.Message;
        }

        participant.Reason = reason ?? "";
        if (reason == "no such process")
            return new ProcessOutcome(pid, false, "gone", reason);
        _participants[pid] = participant;
        if (reason is null)
            logger.LogInformation("took in process {Pid} ({Name}), domain {Domain}", pid, name, domain);
        else
            logger.LogInformation("skipped process {Pid} ({Name}): {Reason}", pid, name, reason);
        return Outcome(participant);
    }

    /// <summary>Takes over a process whose daemon has died, so that it can be given back.</summary>
    /// <param name="record">What that daemon wrote down. All records that a coordinator is given must be of one pool.</param>
    /// <param name="why">What stood in the way.</param>
    public AdoptionOutcome Adopt(AgentRecord record, out string why)
    {
        AdoptionOutcome outcome = Adoption.TryAdopt(record.Place, out AgentSession? session, out FramePool? pool, out why);
        if (outcome != AdoptionOutcome.Adopted)
            return outcome;
        int pid = record.Place.Pid;
        if (!PidFd.TryOpen(pid, out FileDescriptor? pidfd, out _) || Pagemap.TryOpen(pid) is not { } pagemap)
        {
            session!.Dispose();
            pool!.Dispose();
            why = $"process {pid} cannot be opened: it is about to end";
            return AdoptionOutcome.NotYet;
        }

        DomainId domain = DomainOf(record.Domain);
        if (_machine.HasPool(domain))
            pool!.Dispose();
        else
            _machine.Adopt(domain, pool!);
        ProcessStatus? status = ProcessStatus.TryRead($"/proc/{pid}/status");
        Participant participant = new(pid) { Name = status?.Name ?? "", User = status is null ? "" : TrustDomain.Of(pid, status), Domain = record.Domain };
        _participants[pid] = participant;
        Enter(participant, new LiveSpace(new SpaceId(_nextSpace++), pid, pidfd!, domain, _machine.PoolOf(domain), session!, pagemap, Waiting));
        return outcome;
    }

    /// <summary>Gives a process back. Returns when no trace is left in it.</summary>
    public ProcessOutcome Detach(int pid)
    {
        if (!_participants.TryGetValue(pid, out Participant? participant))
            return new ProcessOutcome(pid, false, "gone", "it was not taken in");
        if (participant.Space is not SpaceId id)
        {
            _participants.Remove(pid);
            return new ProcessOutcome(pid, true, "gone", "");
        }

        participant.Detaching = true;
        string failure = GiveBack(_machine[id]);
        participant.Detaching = false;
        if (failure.Length > 0)
        {
            participant.Reason = failure;
            return new ProcessOutcome(pid, false, State(participant), failure);
        }

        Forget(participant, "it was given back");
        _participants.Remove(pid);
        return new ProcessOutcome(pid, true, "gone", "");
    }

    /// <summary>The processes that were asked for.</summary>
    public int[] Pids() => [.. _participants.Keys.Order()];

    /// <summary>Visits one process, or goes on with its visit, or leaves it when it must be left.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="pages">Pages that may be looked at; less those that were, afterwards.</param>
    public VisitProgress Visit(int pid, ref long pages)
    {
        if (!_participants.TryGetValue(pid, out Participant? participant) || participant.Space is not SpaceId id)
            return VisitProgress.Nothing;
        LiveSpace space = _machine[id];
        if (!participant.InVisit)
        {
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
                LookAfterChildren(space);
                if (participant.Origin == Origin.Advice)
                    HonourAdvice(participant, space);
                return participant.Space is null ? VisitProgress.Something : space.IsIdle ? VisitProgress.Nothing : VisitProgress.Something;
            default:
                ForgetGone(participant, space);
                return VisitProgress.Something;
        }
    }

    /// <summary>What a visit does besides scanning, for a scanner that stands still: leaves processes that have ended or must be left, and takes children in.</summary>
    public void Keep(int pid)
    {
        if (!_participants.TryGetValue(pid, out Participant? participant) || participant.Space is not SpaceId id)
            return;
        LiveSpace space = _machine[id];
        if (!LookAfter(participant, space))
            return;
        if (Directory.Exists($"/proc/{pid}/task/{space.Session.ExecutorThread}"))
            LookAfterChildren(space);
        else
            ForgetGone(participant, space);
    }

    /// <returns>False when it was left, is to be, or is about to end: nothing may be merged in it.</returns>
    private bool LookAfter(Participant participant, LiveSpace space)
    {
        int pid = participant.Pid;
        if (ProcessStatus.TryRead($"/proc/{pid}/status") is not { } status || PidFd.HasEnded(space.PidFd))
        {
            Forget(participant, "it ended");
            _participants.Remove(pid);
            return false;
        }

        participant.Name = status.Name;
        bool leaves = !TryKeep(participant, space, status);
        if (participant.Space is null)
            return false;

        if (status.State == 'Z' && OnlyAgentsLeft(space))
        {
            // Its last own thread has ended, without ending the process: our threads must not keep it alive.
            _ = space.Session.Leave();
            return false;
        }

        return !leaves;
    }

    private void LookAfterChildren(LiveSpace space)
    {
        if (!space.IsIdle || space.Inherited.Count > 0)
            Offspring.Look(space);
        AdoptChildren(space, all: false);
    }

    private void ForgetGone(Participant participant, LiveSpace space)
    {
        bool running = !PidFd.HasEnded(space.PidFd);
        Forget(participant, running ? "it called exec" : "it ended");
        if (running)
            participant.Reason = "it called exec and is another program now; attach it again";
        else
            _participants.Remove(participant.Pid);
    }

    /// <summary>Ends a pass: it counts as a full scan if there was anything to scan.</summary>
    /// <returns>Whether it counts.</returns>
    public bool EndPass()
    {
        bool counts = Engine.HasWork;
        WorldStop.LookAfterLingering();
        SumUpWaste();
        if (counts)
            Engine.EndPass();
        else
            Engine.SweepFrames();
        ForgetEmptyDomains();
        return counts;
    }

    /// <summary>What must be looked after while the scanner stands still.</summary>
    public void KeepAll()
    {
        foreach (int pid in Pids())
        {
            Keep(pid);
            if (_participants.TryGetValue(pid, out Participant? participant) && participant.Space is SpaceId id)
                HonourAdviceNow(participant, _machine[id]);
        }

        WorldStop.LookAfterLingering();
        Engine.SweepFrames();
        ForgetEmptyDomains();
    }

    /// <summary>Gives every page its own copy, and forgets all records; everybody stays taken in (E3).</summary>
    /// <returns>What the engine says of it; interrupted where a process could not be worked on, and the rest is left as it is.</returns>
    public BreakOutcome UnmergeAll()
    {
        AdoptAllChildren();
        foreach (Participant participant in _participants.Values)
        {
            participant.InVisit = false;
            if (participant.Space is not SpaceId id)
                continue;
            LiveSpace space = _machine[id];
            if (!LiveMachine.UnmergeAll(space))
                return BreakOutcome.Interrupted;
            // Its memory is tracked no more, and its areas are not what the engine thinks.
            space.MustList = true;
            space.ForgetLook();
        }

        return Engine.UnmergeAll();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _machine.Dispose();
        _engine?.Dispose();
    }

    private string State(Participant participant) =>
        participant.Space is not SpaceId id ? "skipped" : participant.Detaching ? "detaching" : Engine.FiguresOf(id).Visits < 2 ? "settling" : "merging";

    private ProcessOutcome Outcome(Participant participant) =>
        new(participant.Pid, participant.Space is not null, State(participant), participant.Reason);

    private void TakeIn(Participant participant, FileDescriptor? inheritedM)
    {
        int pid = participant.Pid;
        if (!PidFd.TryOpen(pid, out FileDescriptor? pidfd, out Errno errno))
            throw new SyscallException("pidfd_open", $"process {pid}", errno);
        DomainId domain = DomainOf(participant.Domain);
        FramePool pool = _machine.PoolOf(domain);
        Pagemap pagemap = Pagemap.TryOpen(pid) ?? throw new AttachException($"not permitted: /proc/{pid}/pagemap cannot be read", permission: true);
        AgentSession session;
        try
        {
            session = AgentSession.Attach(pid, pool, inheritedM, place => records.Write(new AgentRecord(place, pool.Inode, participant.Domain)));
        }
        catch (Exception refused) when (refused is AttachException or IOException or UnauthorizedAccessException)
        {
            pagemap.Dispose();
            pidfd!.Dispose();
            if (refused is not AttachException { AgentLeft: true })
                records.Remove(pid);
            throw refused as AttachException ?? new AttachException($"its agent cannot be written down under {RunDirectory.Current}: {refused.Message}");
        }

        Enter(participant, new LiveSpace(new SpaceId(_nextSpace++), pid, pidfd!, domain, pool, session, pagemap, Waiting));
    }

    private void Enter(Participant participant, LiveSpace space)
    {
        TakeAdvice(participant, space);
        _machine.Add(space);
        Engine.Add(space.Id, space.Domain);
        participant.Space = space.Id;
    }

    /// <summary>Takes in all children that share frames with their parents, settled or not.</summary>
    private void AdoptAllChildren()
    {
        foreach (int pid in Pids())
        {
            if (_participants.TryGetValue(pid, out Participant? participant) && participant.Space is SpaceId id)
                _ = AdoptChildren(_machine[id], all: true);
        }
    }

    /// <summary>Takes children in that have settled, with the descriptor that they inherited: from then on they have a warden of their own.</summary>
    private List<int> AdoptChildren(LiveSpace space, bool all)
    {
        List<int> adopted = [];
        if (space.Inherited.Count == 0)
            return adopted;
        foreach (Child child in _machine.FindChildren(space, all))
        {
            if (_participants.TryGetValue(child.Pid, out Participant? known) && known.Space is not null)
                continue;
            Participant parent = _participants[space.Pid];
            string? reason = Eligibility.Refuse(child.Pid, out string name, out string user, out _);
            string domain = reason is null ? DomainNameOf(child.Pid, user, ref reason) : "";
            // Of its parent's user it is taken in where its frames are, and, where it belongs elsewhere by now, moved before anything else is done with it.
            if (reason is null && user == parent.User)
                domain = parent.Domain;
            Participant participant = new(child.Pid) { Name = name, User = user, Domain = domain, Origin = parent.Origin };
            try
            {
                if (reason is null && domain != parent.Domain)
                    reason = "a child of another user than its parent: it keeps its parent's warden";
                if (reason is null)
                    TakeIn(participant, child.M);
            }
            catch (Exception refused) when (refused is AttachException or SyscallException)
            {
                reason = refused.Message;
            }

            participant.Reason = reason ?? "";
            if (reason == "no such process")
                continue;
            _participants[child.Pid] = participant;
            if (reason is not null)
                continue;
            logger.LogInformation("took in process {Pid} ({Name}), forked by {Parent}", child.Pid, name, space.Pid);
            Offspring.Drop(space, child.Slot);
            adopted.Add(child.Pid);
        }

        return adopted;
    }

    /// <param name="space">The process.</param>
    /// <param name="children">Receives those that it had forked and that were given back with it.</param>
    /// <returns>What stood in the way; empty when the process is as it was.</returns>
    private string GiveBack(LiveSpace space, List<int>? children = null)
    {
        space.Session.Shield();
        Parting parting = Parting.NotYet;
        for (int round = 0; parting == Parting.NotYet; round++)
        {
            if (round == PartingRounds)
                return "it forks, or moves its memory, faster than it can be given back; detach it again";
            Offspring.Look(space);
            foreach (int child in AdoptChildren(space, all: true))
            {
                if (Detach(child) is { Done: false } left)
                    return $"process {child}, which it forked, could not be given back: {left.Reason}";
                children?.Add(child);
            }

            if (space.Inherited.Count > 0 && !PidFd.HasEnded(space.PidFd))
                return $"{space.Inherited.Count} processes that it forked share frames and cannot be taken in; they are served until they end or call exec; then detach it again";
            if (!LiveMachine.UnmergeAll(space))
                return $"not everything could be given back: {space.Obstacle}";
            parting = space.Part();
            if (parting == Parting.Never && !PidFd.HasEnded(space.PidFd))
                return $"everything is given back, but the agent could not be sent away: {space.Obstacle}; detach it again";
        }

        if (!space.Session.Leave() && !PidFd.HasEnded(space.PidFd))
            return "the agent could not be removed: no thread of the process could be held; detach it again";
        space.Huge.MakeWhole(space);
        return "";
    }

    private void Forget(Participant participant, string why)
    {
        if (participant.Space is not SpaceId id)
            return;
        LiveSpace space = _machine[id];
        _ = AdoptChildren(space, all: true);
        logger.LogInformation("left process {Pid} ({Name}): {Why}", participant.Pid, participant.Name, why);
        Engine.Remove(id);
        _machine.Remove(id);
        records.Remove(participant.Pid);
        participant.Space = null;
    }

    private static bool OnlyAgentsLeft(LiveSpace space)
    {
        List<int> threads = [];
        if (!Threads.TryList(space.Pid, threads) || threads.Count > 3)
            return false;
        return threads.TrueForAll(tid => tid == space.Session.ExecutorThread || tid == space.Session.WardenThread ||
            ProcessStatus.TryRead($"/proc/{space.Pid}/task/{tid}/status") is { State: 'Z' });
    }
}
