using System.Collections.Concurrent;
using System.Diagnostics;
using Samepage.Agent;
using Samepage.Api;
using Samepage.Engine;
using Samepage.Linux;
using Samepage.Linux.Frames;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;
using Samepage.Live;

namespace Samepage.Daemon;

/// <content>Taking processes in.</content>
internal sealed partial class Coordinator
{
    private const int TriesAtLongestPause = 6;
    private static readonly TimeSpan TakeOutPause = TimeSpan.FromSeconds(1), s_childrenTaken = TimeSpan.FromSeconds(5);

    /// <summary>Descriptors that it takes to take a process in, at most at a time.</summary>
    private const int DescriptorsToTakeIn = 32;

    /// <summary>Processes in which a failed attach has left an agent, which is being taken out.</summary>
    private readonly ConcurrentDictionary<int, byte> _takenOut = [];

    /// <summary>Processes that are being taken in, by domain: its pool must stay.</summary>
    private readonly Dictionary<DomainId, int> _arriving = [];

    /// <summary>Takes a process in. One that was taken in for its advice is taken in whole when it is asked for by hand.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="origin">Why.</param>
    /// <returns>What came of it. Ends when the process lets it.</returns>
    public async Task<ProcessOutcome> Attach(int pid, Origin origin = Origin.Hand)
    {
        int tries = 0, releases = _releases.GetValueOrDefault(pid);
        while (_participants.TryGetValue(pid, out Participant? known))
        {
            if (known.IsAtWork)
            {
                await known.Rest;
                if (_releases.GetValueOrDefault(pid) != releases)
                    return new ProcessOutcome(pid, false, ProcessReport.Skipped, "it was asked to be given back meanwhile");
                continue;
            }

            if (known.Space is not SpaceId taken)
            {
                tries = known.Tries;
                break;
            }

            if (!PidFd.HasEnded(_machine[taken].PidFd))
            {
                // It has no warden any more: it is taken in anew when it has been given back.
                if (_machine[taken].HasParted)
                {
                    if (await GiveBackAgain(pid) is { Done: false, State: not "gone" } left)
                        return left;
                    continue;
                }

                known.Origin = origin;
                TakeAdvice(known, _machine[taken]);
                return Outcome(known);
            }

            await Leave(known, "it ended", keep: false);
        }

        if (_isEnding)
            return new ProcessOutcome(pid, false, ProcessReport.Skipped, "the daemon ends");
        if (_participants.Count >= MaxParticipants)
            return new ProcessOutcome(pid, false, ProcessReport.Skipped, $"the daemon serves {MaxParticipants} processes already");
        Participant participant = new(pid) { Origin = origin, Tries = tries };
        _participants[pid] = participant;
        string? reason;
        using (participant.Work())
            reason = await TryTakeIn(participant);
        if (reason == "no such process")
        {
            _participants.Remove(pid);
            return new ProcessOutcome(pid, false, "gone", reason);
        }

        if (reason is null)
            logger.LogInformation("took in process {Pid} ({Name}), domain {Domain}", pid, participant.Name, participant.Domain);
        else
            logger.LogInformation("skipped process {Pid} ({Name}): {Reason}", pid, participant.Name, reason);
        return Outcome(participant);
    }

    /// <summary>Takes over a process whose daemon has died, so that it can be given back. The calling thread may have to wait for the process.</summary>
    /// <param name="record">What that daemon wrote down. A coordinator is given one.</param>
    /// <param name="why">What stood in the way.</param>
    public AdoptionOutcome Adopt(AgentRecord record, out string why)
    {
        AdoptionOutcome outcome = Adoption.TryAdopt(record.Place, record.PoolDevice, record.PoolInode, out AgentSession? session, out FramePool? pool, out why);
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

        _ = PidFd.TryClaim(pidfd!); // who has it otherwise sees the agent, and keeps away
        DomainId domain = DomainOf(record.Domain);
        if (_machine.HasPool(domain))
            pool!.Dispose();
        else
            _machine.Adopt(domain, pool!);
        ProcessStatus? status = ProcessStatus.TryReadLiving(pid);
        Participant participant = new(pid) { Name = status?.Name ?? "", Trust = status is null ? null : TrustDomain.Of(LivingThread.Of(pid), status), Domain = record.Domain };
        _participants[pid] = participant;
        Enter(participant, NewSpace(pid, pidfd!, domain, session!, pagemap));
        return outcome;
    }

    /// <summary>Looks at a process, and takes it in if nothing speaks against it. It is at work meanwhile.</summary>
    /// <param name="participant">The process.</param>
    /// <param name="brought">For a child of a process taken in; null otherwise.</param>
    /// <param name="parent">That process.</param>
    /// <returns>Why not; null when it is taken in.</returns>
    private async Task<string?> TryTakeIn(Participant participant, BroughtBy? brought = null, Participant? parent = null)
    {
        participant.Arriving = true;
        string? reason;
        try
        {
            (reason, participant.Name, participant.Trust, participant.Domain) = await _machine.Attendants.Begin(Lanes.Of(participant.Pid, Lane.Hold), () => LookAtNew(participant.Pid));
            // With its parent's credentials it is taken in where its frames are, and, where it belongs elsewhere by now, moved before anything else is done with it.
            if (reason is null && parent is not null && participant.Trust!.Credentials == parent.Trust?.Credentials)
                participant.Domain = parent.Domain;
            if (reason is null && parent is not null && participant.Domain != parent.Domain)
                reason = "a child of another user, group or namespace, or of other capabilities than its parent: it keeps its parent's warden";
            if (reason is null)
                await TakeIn(participant, brought);
        }
        catch (Exception refused) when (refused is AttachException or SyscallException)
        {
            reason = refused.Message;
        }

        (participant.Arriving, participant.Reason) = (false, reason ?? "");
        NoteWhetherToTryAgain(participant);
        return reason;
    }

    /// <summary>Next to nothing about a program stays as it is: it is continued, closes what stood in the way, calls exec. So it is looked at again, ever more seldom, to once a minute.</summary>
    private static void NoteWhetherToTryAgain(Participant participant)
    {
        bool never = participant.Reason.Length == 0;
        participant.Tries = never ? participant.Tries : Math.Min(participant.Tries + 1, TriesAtLongestPause);
        participant.TryAgainAt = never ? 0 : Stopwatch.GetTimestamp() + (Stopwatch.Frequency << participant.Tries);
    }

    private (string? Reason, string Name, TrustDomain? Trust, string Domain) LookAtNew(int pid)
    {
        string? reason = Eligibility.Refuse(pid, out string name, out TrustDomain? trust, out _);
        if (HasAgentOfItsOwn(pid))
            reason = "a daemon that died has left its agent in it, which is not given back yet";
        else if (reason is null && SharesWithSuch(pid))
            reason = "it shares frames with a process, its parent perhaps, that a daemon that died has left, and that is not given back yet";
        string domain = reason is null ? DomainNameOf(pid, trust!, ref reason) : "";
        return (reason, name, trust, domain);
    }

    private async Task TakeIn(Participant participant, BroughtBy? brought)
    {
        int pid = participant.Pid;
        string name = participant.Domain;
        TrustDomain trust = participant.Trust!;
        // One that runs out of descriptors in the middle could not even send its agent away.
        long pools = _arriving.Keys.Append(DomainOf(name)).Distinct().Count(wanted => !_machine.HasPool(wanted));
        long needed = (DescriptorsToTakeIn * (1L + _arriving.Values.Sum())) + (pools * FramePool.DescriptorsOfOne);
        if (OpenFiles.LeftForPrograms() < needed)
        {
            throw new AttachException($"EMFILE: the daemon has {OpenFiles.Count(Environment.ProcessId)} descriptors open, and may not open {needed} more for it (RLIMIT_NOFILE): " +
                "raise the limit (LimitNOFILE= of its service), or give others back");
        }

        if (!_namespaces.TryKeep(name, pid, trust))
            throw new AttachException("its namespaces cannot be opened, or are others by now");
        DomainId domain = DomainOf(name);
        _arriving[domain] = _arriving.GetValueOrDefault(domain) + 1;
        try
        {
            FramePool pool = await _machine.MakePoolOf(domain);
            (FileDescriptor pidfd, Pagemap pagemap, AgentSession session) = await _machine.Attendants.Begin(Lanes.Of(pid, Lane.Hold), () => BringIn(pid, name, trust, pool, brought?.Child.M));
            LiveSpace space = NewSpace(pid, pidfd, domain, session, pagemap);
            space.Brought = brought;
            Enter(participant, space);
        }
        finally
        {
            if (--_arriving[domain] == 0)
                _arriving.Remove(domain);
        }
    }

    /// <summary>Brings an agent into a process. On an attendant's thread.</summary>
    private (FileDescriptor PidFd, Pagemap Pagemap, AgentSession Session) BringIn(int pid, string domain, TrustDomain trust, FramePool pool, FileDescriptor? inheritedM)
    {
        bool keeps = false;
        AgentPlace? written = null;
        FileDescriptor? pidfd = null;
        Pagemap? pagemap = null;
        try
        {
            // A child may end meanwhile, and its M be given up.
            inheritedM?.DangerousAddRef(ref keeps);
            if (!PidFd.TryOpen(pid, out pidfd, out Errno errno))
                throw new SyscallException("pidfd_open", $"process {pid}", errno);
            pagemap = Pagemap.TryOpen(pid) ?? throw new AttachException($"not permitted: /proc/{pid}/pagemap cannot be read", permission: true);
            bool claimed = AgentClaim.Take(pid, pidfd!);
            AgentSession session = AgentSession.Attach(pid, pidfd!, pool, inheritedM, place =>
            {
                written = place;
                records.Write(new AgentRecord(place, pool.Device, pool.Inode, domain));
            }, new Entitlement(trust.MustBeDumpable, executor => MustBeWhatItWas(pid, trust, executor)));
            if (!claimed)
                AgentClaim.Confirm(session);
            return (pidfd!, pagemap, session);
        }
        catch (Exception refused) when (refused is AttachException or SyscallException or IOException or UnauthorizedAccessException or ObjectDisposedException)
        {
            pagemap?.Dispose();
            pidfd?.Dispose();
            if (written is not null && refused is AttachException { AgentLeft: true })
            {
                _takenOut[pid] = 0;
                _ = _machine.Attendants.Begin(Lanes.Of(pid, Lane.Hold), () => TakeOut(written, pool.Device, pool.Inode));
            }
            else if (written is not null)
            {
                records.Remove(written);
            }

            throw refused as AttachException ?? (refused is SyscallException ? new AttachException(refused.Message)
                : new AttachException($"its agent cannot be written down under {RunDirectory.Current}: {refused.Message}"));
        }
        finally
        {
            if (keeps)
                inheritedM!.DangerousRelease();
        }
    }

    /// <summary>Takes an agent out that its program did not let go of in time, however long that takes: whatever else is wanted of the program comes behind. On an attendant's thread.</summary>
    private void TakeOut(AgentPlace place, ulong poolDevice, ulong poolInode)
    {
        while (!Adoption.TryTakeOut(place, poolDevice, poolInode))
            Thread.Sleep(TakeOutPause);
        records.Remove(place);
        _ = _takenOut.TryRemove(place.Pid, out _);
        logger.LogInformation("took the agent out that had been left in process {Pid}", place.Pid);
    }

    private LiveSpace NewSpace(int pid, FileDescriptor pidfd, DomainId domain, AgentSession session, Pagemap pagemap) =>
        new(new SpaceId(_nextSpace++), pid, pidfd, domain, _machine.PoolOf(domain), session, pagemap, Waiting, _machine.Attendants);

    private void Enter(Participant participant, LiveSpace space)
    {
        TakeAdvice(participant, space);
        _machine.Add(space);
        Engine.Add(space.Id, space.Domain);
        participant.Space = space.Id;
    }

    /// <summary>Takes note of new children of a process, closes what belongs to dead ones, and takes those in that have settled.</summary>
    private async Task TakeChildrenIn(Participant participant, LiveSpace space)
    {
        participant.AdoptsChildren = true;
        try
        {
            await space.Do(Lane.Fork, () => Offspring.TryLook(space));
            await AdoptChildren(space, all: false);
        }
        finally
        {
            participant.AdoptsChildren = false;
        }
    }

    /// <summary>Takes children in that have settled, with the descriptor that they inherited: from then on they have a warden of their own.</summary>
    /// <param name="space">The parent.</param>
    /// <param name="all">Also those that have not settled.</param>
    /// <returns>Those that were taken in.</returns>
    private async Task<List<int>> AdoptChildren(LiveSpace space, bool all)
    {
        List<int> adopted = [];
        if (space.Inherited.Count == 0)
            return adopted;
        foreach (Child child in await space.Do(Lane.Fork, () => _machine.FindChildren(space, all)))
        {
            if (HasAgentOfItsOwn(child.Pid) || (_participants.TryGetValue(child.Pid, out Participant? known) && (known.Space is not null || known.IsAtWork)) || !_participants.TryGetValue(space.Pid, out Participant? parent))
                continue;
            Participant participant = new(child.Pid) { Origin = parent.Origin };
            _participants[child.Pid] = participant;
            string? reason;
            using (participant.Work())
                reason = await TryTakeIn(participant, new BroughtBy(space, child, () => _machine.TryForget(child.M)), parent);
            if (reason == "no such process")
                _participants.Remove(child.Pid);
            if (reason is not null)
                continue;
            logger.LogInformation("took in process {Pid} ({Name}), forked by {Parent}", child.Pid, participant.Name, space.Pid);
            await space.Do(Lane.Fork, () => Offspring.Drop(space, child.Slot, child.Ticket, isDead: false));
            adopted.Add(child.Pid);
        }

        return adopted;
    }

    /// <summary>Takes in all children that share frames with their parents, settled or not, and waits for those that are being taken in.</summary>
    /// <returns>Ends when that is done, or some have kept us for some seconds: they keep their parents' wardens until then.</returns>
    private async Task AdoptAllChildren()
    {
        List<Task> adopted = [];
        foreach (int pid in Pids())
        {
            if (TryFindIdle(pid, out _, out SpaceId id))
                adopted.Add(AdoptChildren(_machine[id], all: true));
            else if (_participants.TryGetValue(pid, out Participant? one) && one.Arriving)
                adopted.Add(one.Rest);
        }

        Task all = Task.WhenAll(adopted);
        Observed(all);
        _ = await Task.WhenAny(all, Task.Delay(s_childrenTaken));
    }
}
