using System.Diagnostics;
using Samepage.Agent;
using Samepage.Api;
using Samepage.Engine;
using Samepage.Linux;
using Samepage.Linux.Processes;
using Samepage.Live;

namespace Samepage.Daemon;

/// <content>Giving processes back.</content>
internal sealed partial class Coordinator
{
    private const int PartingRounds = 100, LooksBetweenTries = 20, LeaveTriesAtLongestPause = 5;
    private static readonly TimeSpan s_unmergeStill = TimeSpan.FromSeconds(5), s_lookAgain = TimeSpan.FromMilliseconds(50), s_childrenEnd = TimeSpan.FromSeconds(5), s_unmergeMost = TimeSpan.FromSeconds(60);

    /// <summary>When anything of what is done beside the scanner last came forward, as a timestamp.</summary>
    public long ProgressAt => _participants.Values.Where(participant => participant.IsAtWork && participant.Space is not null)
        .Select(participant => _machine[participant.Space!.Value].ProgressAt).DefaultIfEmpty().Max();

    /// <summary>Says when something that is done with a process last came forward, as a timestamp; 0 where it is not taken in now. What is returned may be called by any thread.</summary>
    public Func<long> ProgressMeterOf(int pid)
    {
        LiveSpace? space = SpaceOf(pid);
        return () => space?.ProgressAt ?? 0;
    }

    /// <summary>When something that is done with a process last came forward, as a timestamp; 0 where it is not taken in.</summary>
    public long ProgressOf(int pid) => SpaceOf(pid)?.ProgressAt ?? 0;

    /// <summary>What stands in the way in a process at the moment; empty where nothing does, or it is not taken in.</summary>
    public string ObstacleOf(int pid) => SpaceOf(pid)?.Obstacle ?? "";

    /// <summary>The space of a process; null where it is not taken in.</summary>
    private LiveSpace? SpaceOf(int pid) => _participants.TryGetValue(pid, out Participant? participant) && participant.Space is SpaceId id ? _machine[id] : null;

    /// <summary>Takes nobody in any more, but children of processes that are given back, which share frames with them.</summary>
    public void BeginToEnd() => _isEnding = true;

    /// <summary>Begins to give everybody back with whom that has not been begun. To be called again while <see cref="HasGivenAllBack"/> is false: children come in meanwhile.</summary>
    /// <param name="begun">Those with whom it was begun.</param>
    public List<(int Pid, Task<ProcessOutcome> Back)> DetachAll(HashSet<Participant> begun) =>
        [.. _participants.Values.Where(participant => (participant.Space is not null || participant.IsAtWork) && begun.Add(participant)).ToArray().Select(participant => (participant.Pid, Detach(participant.Pid)))];

    /// <summary>Nothing of ours is left in any process, and none is watched by us alone.</summary>
    public bool HasGivenAllBack => !HasOrphans && _takenOut.IsEmpty && !_participants.Values.Any(participant => participant.Space is not null || participant.IsAtWork);

    /// <summary>Processes in which a failed attach has left an agent that is not taken out yet.</summary>
    public IEnumerable<int> BeingTakenOut => _takenOut.Keys;

    /// <summary>What is said of processes that we watch at our end.</summary>
    public const string Orphaned = "children of processes that have ended share frames, and could not be taken in: they stay merged, and are right for as long as somebody watches them, until they end or call exec";

    /// <summary>What is said where nobody does that after us.</summary>
    public const string Unwatched = Orphaned + "; nobody does from here on: what they discard shows its old content";

    /// <summary>What is said where the guardian sees to it.</summary>
    public const string WatchedOn = Orphaned + "; samepage recover, which the guardian starts now, does";

    /// <summary>Processes share frames whom nobody could take in, and whose parents have ended: we watch them. Any thread.</summary>
    public bool HasOrphans => _machine.HasOrphans;

    /// <summary>Watches a child of a process that has ended. Any thread.</summary>
    /// <param name="m">The descriptor over which it is watched; owned here from now on.</param>
    public void Watch(FileDescriptor m) => _machine.Watch(m);

    /// <summary>Looks whether the descriptors of all children that a process has now have been taken. Once that is so, whatever becomes of it, they are watched.</summary>
    public bool HasTakenAllChildren(int pid) => SpaceOf(pid) is { } space && ThreadPump.Run(() => space.Do(Lane.Fork, () => Offspring.TryLook(space) && space.HasTakenAllChildren));

    /// <summary>Gives a process back.</summary>
    /// <returns>Ends when no trace is left in it, or it is known why that cannot be; when the process lets it.</returns>
    public async Task<ProcessOutcome> Detach(int pid)
    {
        Participant? participant;
        while (_participants.TryGetValue(pid, out participant) && participant.IsAtWork)
            await participant.Rest;
        if (participant is null)
            return new ProcessOutcome(pid, false, "gone", "it was not taken in");
        if (participant.Space is not SpaceId id)
        {
            if (HasAgentOfItsOwn(pid) || _takenOut.ContainsKey(pid))
                return new ProcessOutcome(pid, false, State(participant), "it was not taken in, but what is left in it of an agent is still being taken out; this goes on");
            _participants.Remove(pid);
            return new ProcessOutcome(pid, true, "gone", "");
        }

        string failure, different = "";
        using (participant.Work())
        {
            participant.Detaching = true;
            failure = await GiveBack(_machine[id], children: null);
            participant.Detaching = false;
            if (failure.Length == 0)
            {
                different = await LookBack(_machine[id]);
                await Forget(participant, "it was given back");
            }
            else
            {
                NoteHalfBack(participant, _machine[id]);
            }
        }

        if (failure.Length > 0)
        {
            participant.Reason = failure;
            return new ProcessOutcome(pid, false, State(participant), failure);
        }

        _participants.Remove(pid);
        return new ProcessOutcome(pid, true, "gone", "") { Different = different };
    }

    /// <summary>Of a process a part was given back, or all. Where its warden is gone with that it is tried again by itself, ever more seldom, and its frames are nobody's.</summary>
    private void NoteHalfBack(Participant participant, LiveSpace space)
    {
        (participant.InVisit, participant.LeaveTriedAt) = (false, Stopwatch.GetTimestamp());
        if (space.HasParted)
        {
            participant.LeaveTries = Math.Min(participant.LeaveTries + 1, LeaveTriesAtLongestPause);
            Engine.Remove(space.Id);
            Engine.Add(space.Id, space.Domain);
        }

        space.LoseSight();
    }

    /// <summary>Holds what is there, now that all is given back, against what was.</summary>
    /// <returns>What differs and matters; empty when nothing does.</returns>
    private async Task<string> LookBack(LiveSpace space)
    {
        (string different, bool matters) = await space.Do(Lane.Hold, () =>
        {
            if (space.HasCalledExec || !LiveMachine.RefreshAtLast(space))
                return ("", false);
            string difference = space.Footprint.Difference(space.Map.Mappings, out bool matters);
            int left = space.HasParted ? space.Map.Segments.Count(segment => segment.Kind == AreaKind.Merged) : 0;
            return left == 0 ? (difference, matters) : ($"{left} mappings of frames are left in it, which are right until the program discards their pages; {difference}", true);
        });
        if (different.Length > 0)
            logger.Log(matters ? LogLevel.Warning : LogLevel.Information, "given back, process {Pid} is not quite as it was: {Different}", space.Pid, different);
        return matters ? different : "";
    }

    /// <summary>Gives every page its own copy; everybody stays taken in (E3). <see cref="ForgetMerged"/> is called behind it.</summary>
    /// <returns>Ends when all are done, or nothing has come forward in those that are left for some seconds.</returns>
    public async Task UnmergeAll()
    {
        await AdoptAllChildren();
        List<(Participant Of, Task Done)> all = [];
        foreach (Participant participant in _participants.Values.ToArray())
        {
            participant.InVisit = false;
            if (participant.Space is SpaceId id && !_machine[id].HasParted)
                all.Add((participant, UnmergeAll(participant)));
        }

        long since = Stopwatch.GetTimestamp(), endedAt = since;
        Task whole = Task.WhenAll(all.Select(one => one.Done));
        for (int ended = 0; !whole.IsCompleted && Stopwatch.GetElapsedTime(Math.Max(since, all.Where(one => !one.Done.IsCompleted).Max(one => ProgressOf(one.Of.Pid)))) < s_unmergeStill;)
        {
            if (all.Count(one => one.Done.IsCompleted) is var now && now != ended)
                (ended, endedAt) = (now, Stopwatch.GetTimestamp());
            // One that has mapped any number of frames itself comes forward for ever.
            if (Stopwatch.GetElapsedTime(endedAt) > s_unmergeMost)
                break;
            _ = await Task.WhenAny(whole, Task.Delay(s_lookAgain));
        }

        if (whole.IsCompleted)
            await whole;
        else
            Observed(whole);
    }

    /// <summary>Forgets all records, when every page has its own copy.</summary>
    /// <returns>What the engine says of it; interrupted where a process could not be worked on, and the rest is left as it is.</returns>
    public BreakOutcome ForgetMerged() =>
        _participants.Values.Any(participant => participant.AdoptsChildren || (participant.Space is SpaceId id && !_machine[id].HasParted && (participant.IsAtWork || _machine[id].IsBusy))) ? BreakOutcome.Interrupted : Engine.UnmergeAll();

    private async Task UnmergeAll(Participant participant)
    {
        while (participant.IsAtWork)
            await participant.Rest;
        if (participant.Space is not SpaceId id)
            return;
        LiveSpace space = _machine[id];
        using (participant.Work())
        {
            if (await space.Do(Lane.Hold, () => GivingBack.UnmergeAll(space)))
                _ = await LookBack(space);
            // Its memory is tracked no more, and its areas are not what the engine thinks.
            space.LoseSight();
        }
    }

    /// <summary>Gives a process back that may not be served any more, and takes one in again that belongs to another domain.</summary>
    private async Task LeaveOrMove(Participant participant, LiveSpace space, string? reason, string? moves)
    {
        List<int> children = [];
        string failure, program;
        using (participant.Work())
        {
            failure = await GiveBack(space, children);
            program = new Rules.ProcessFacts(participant.Pid).Executable;
            if (failure.Length > 0)
            {
                NoteHalfBack(participant, space);
                space.Obstacle = $"it is to be left ({reason ?? $"it belongs to {moves} now"}), and cannot be yet: {failure}";
            }
            else
            {
                participant.Reason = reason ?? "";
                _ = await LookBack(space);
                await Forget(participant, reason ?? $"it belongs to {moves} now");
                NoteWhetherToTryAgain(participant);
            }
        }

        if (moves is null)
            return;
        // Nobody comes in between: who asks for it meanwhile finds it at work, as before.
        Task moved = Task.CompletedTask;
        if (failure.Length == 0)
        {
            _participants.Remove(participant.Pid);
            moved = Attach(participant.Pid, participant.Origin);
        }

        // Children that were given back with it are as wanted as they were, but such as have become other programs since.
        foreach (int child in children.Where(child => new Rules.ProcessFacts(child).Executable == program))
            _ = await Attach(child, participant.Origin);
        await moved;
    }

    /// <summary>Gives a process back that may not stay as it is: by a rule, for what has become of it, or because giving it back has come so far, and no further, that its warden is gone.</summary>
    private Task GoOn(Participant participant, LiveSpace space, string? reason, string? moves) => reason is null && moves is null ? GiveBackAgain(participant.Pid) : LeaveOrMove(participant, space, reason, moves);

    /// <param name="space">The process.</param>
    /// <param name="children">Receives those that it had forked and that were given back with it.</param>
    /// <returns>What stood in the way; empty when the process is as it was.</returns>
    private async Task<string> GiveBack(LiveSpace space, List<int>? children)
    {
        // The scanner goes on with others meanwhile. Where this comes to nothing, whoever looks after it next says anew whether it may stay.
        space.MustLeave = true;
        await space.Do(Lane.Hold, () =>
        {
            space.Session.Shield();
            return true;
        });
        Parting parting = Parting.NotYet;
        for (int round = 0; parting == Parting.NotYet; round++)
        {
            if (round == PartingRounds)
                return "it forks, or moves its memory, faster than it can be given back; detach it again";
            // Its children first, also where it has ended or called exec: nobody else gives them back.
            string failure = await GiveChildrenBack(space, children);
            if (failure.Length > 0)
                return failure;
            if (await space.Do(Lane.Hold, space.LookForExec))
                return "";
            if (!await space.Do(Lane.Hold, () => GivingBack.UnmergeAll(space)))
                return $"not everything could be given back: {space.Obstacle}";
            // What it forks from here on shares nothing with us, so those that do become fewer: on a crowded machine one that forks all the time always has some that cannot be taken in before they end.
            long since = Stopwatch.GetTimestamp();
            for (int look = 1; space.HasChildren && !PidFd.HasEnded(space.PidFd); look++)
            {
                if (Stopwatch.GetElapsedTime(since) > s_childrenEnd)
                    return $"{Math.Max(1, space.Inherited.Count)} processes that it forked share frames and cannot be taken in; they are served until they end or call exec; then detach it again";
                await Task.Delay(s_lookAgain);
                if (look % LooksBetweenTries != 0)
                {
                    _ = await space.Do(Lane.Fork, () => Offspring.TryLook(space));
                    continue;
                }

                failure = await GiveChildrenBack(space, children);
                if (failure.Length > 0)
                    return failure;
            }

            parting = await space.Do(Lane.Hold, space.Part);
            if (parting == Parting.Never && !PidFd.HasEnded(space.PidFd))
                return $"everything is given back, but the agent could not be sent away: {space.Obstacle}; detach it again";
        }

        if (await space.Do(Lane.Hold, space.LookForExec))
            return "";
        if (!await space.Do(Lane.Hold, space.Session.Leave) && !PidFd.HasEnded(space.PidFd))
            return "all is given back, but the agent could not be removed: no thread of the process could be held; that is tried again until it can";
        return await space.Do(Lane.Hold, () =>
        {
            space.Huge.MakeWhole(space);
            return "";
        });
    }

    /// <summary>Gives those back that a process forked and that share frames with it, as far as they can be taken in.</summary>
    /// <param name="space">The parent.</param>
    /// <param name="children">Receives them.</param>
    /// <returns>What stood in the way; empty when nothing did.</returns>
    private async Task<string> GiveChildrenBack(LiveSpace space, List<int>? children)
    {
        _ = await space.Do(Lane.Fork, () => Offspring.TryLook(space));
        foreach (int child in await AdoptChildren(space, all: true))
        {
            // One that is gone was given back by somebody else, or has ended.
            if (await Detach(child) is { Done: false, State: not "gone" } left)
                return $"process {child}, which it forked, could not be given back: {left.Reason}";
            children?.Add(child);
        }

        if (space.Inherited.Count == 0)
            return "";
        HashSet<int> known = [.. _participants.Values.Where(one => one.Space is not null).Select(one => one.Pid)];
        return await space.Do(Lane.Fork, () =>
        {
            _machine.NoteBareChildren(space, known);
            return "";
        });
    }

    /// <summary>Leaves a process that is gone, or was found to be: nothing is given back.</summary>
    /// <param name="participant">The process.</param>
    /// <param name="why">For the log.</param>
    /// <param name="keep">It is still shown, as skipped.</param>
    private async Task Leave(Participant participant, string why, bool keep)
    {
        using (participant.Work())
            await Forget(participant, why);
        if (!keep && _participants.GetValueOrDefault(participant.Pid) == participant)
            _participants.Remove(participant.Pid);
    }

    private async Task LeaveGone(Participant participant, LiveSpace space)
    {
        if (participant.LeaveTriedAt != 0 && Stopwatch.GetElapsedTime(participant.LeaveTriedAt) < s_leaveInterval)
            return;
        Remains left = PidFd.HasEnded(space.PidFd) ? Remains.None : space.Session.HasExecutorEnded ? await space.Do(Lane.Hold, space.LookForRemains) : Remains.Unknown;
        if (participant.IsAtWork || participant.Space != space.Id)
            return;
        bool running = !PidFd.HasEnded(space.PidFd);
        if (left is Remains.Frames or Remains.Unknown)
        {
            // Its agent is there still: it could only not be looked at. Or a part of it: somebody has ended the executor, and nothing can be given back any more. It stays merged, watched, and right, and is not forgotten.
            space.LoseSight();
            participant.LeaveTriedAt = Stopwatch.GetTimestamp();
            if (left == Remains.Frames)
                space.Obstacle = LiveSpace.WithoutExecutor;
            return;
        }

        if (left == Remains.Agent)
        {
            await LeaveOrMove(participant, space, "somebody has ended the agent's thread in it", moves: null);
            return;
        }

        await Leave(participant, running ? "it called exec" : "it ended", keep: running);
        if (running)
            participant.Reason = "it called exec and is another program now; attach it again";
        NoteWhetherToTryAgain(participant);
    }

    /// <summary>Forgets a process, which is at work: its children that share frames are taken in first.</summary>
    private async Task Forget(Participant participant, string why)
    {
        if (participant.Space is not SpaceId id)
            return;
        _ = await AdoptChildren(_machine[id], all: true);
        logger.LogInformation("left process {Pid} ({Name}): {Why}", participant.Pid, participant.Name, why);
        AgentPlace place = _machine[id].Session.Place;
        participant.Space = null;
        Engine.Remove(id);
        _machine.Remove(id);
        records.Remove(place);
    }
}
