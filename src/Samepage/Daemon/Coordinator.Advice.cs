using System.Diagnostics;
using Samepage.Agent;
using Samepage.Engine;
using Samepage.Linux.Processes;
using Samepage.Live;

namespace Samepage.Daemon;

/// <content>Advice that is taken back (A5).</content>
internal sealed partial class Coordinator
{
    private static readonly TimeSpan s_leastAdvicePatience = TimeSpan.FromMilliseconds(20);

    /// <summary>Has everybody's advice looked at who may have changed it since it was looked at last: who has run. What is not advised any more is given back, and counted so.</summary>
    /// <remarks>What one takes for that is taken off what it is waited for the next time, and a twentieth of the time comes back: so a program that keeps us on purpose costs those who read a twentieth of their time at most. What keeps it goes on beside, and is not begun again before it has ended.</remarks>
    /// <param name="counts">The scanner runs: records are brought up to date. Where it stands still they stay as they are, as the kernel's.</param>
    public async Task SeeAdvice(bool counts)
    {
        List<Task> looks = [];
        foreach (Participant participant in _participants.Values.ToArray())
        {
            if (participant is not { Origin: Origin.Advice, IsAdviceLate: false, Space: SpaceId id } || _machine[id].MustLeave || Engine.FiguresOf(id).Counts.Merged == 0)
                continue;
            // Advice is given by a thread of the program, and takes it some time.
            if (ProcessorClock.Of(participant.Pid) is { } ran && ran == participant.RanAtAdvice && !IsBehind(_machine[id], counts))
                continue;
            looks.Add(SeeAdviceInTime(participant, counts));
        }

        await Task.WhenAll(looks);
    }

    private async Task SeeAdviceInTime(Participant participant, bool counts)
    {
        Task look = SeeAdviceAnew(participant, counts);
        long since = Stopwatch.GetTimestamp();
        // Taken off also where it was in time.
        TimeSpan regained = participant.AdvicePatience + (Stopwatch.GetElapsedTime(participant.PatienceAt, since) / 20), bound = regained < FigureReads.Patience ? regained : FigureReads.Patience;
        using CancellationTokenSource inTime = new();
        bool isInTime = await Task.WhenAny(look, Task.Delay(bound, inTime.Token)) == look;
        await inTime.CancelAsync();
        TimeSpan left = bound - Stopwatch.GetElapsedTime(since);
        (participant.AdvicePatience, participant.PatienceAt) = (left > s_leastAdvicePatience ? left : s_leastAdvicePatience, Stopwatch.GetTimestamp());
        if (isInTime)
        {
            await look;
            return;
        }

        Observed(look);
        participant.IsAdviceLate = true;
    }

    /// <summary>A look that is under way may have begun before what is to be seen.</summary>
    private async Task SeeAdviceAnew(Participant participant, bool counts)
    {
        try
        {
            if (participant.AdviceLook is { IsCompleted: false } underWay)
                await underWay;
            await SeeAdvice(participant);
            // A visit that may look at no page brings the records up to date.
            long pages = 0;
            if (!_isEnding && participant.Space is SpaceId id && IsBehind(_machine[id], counts))
                _ = Visit(participant.Pid, ref pages);
        }
        finally
        {
            participant.IsAdviceLate = false;
        }
    }

    /// <summary>Pages have been given back that are counted as merged still.</summary>
    private static bool IsBehind(LiveSpace space, bool counts) => counts && space.MustCollectMerged;

    /// <summary>Looks at what a process advises, and gives back what it does not; joins the look that is under way.</summary>
    private Task SeeAdvice(Participant participant) => participant.AdviceLook is { IsCompleted: false } underWay ? underWay : participant.AdviceLook = LookAtAdvice(participant);

    private async Task LookAtAdvice(Participant participant)
    {
        while (participant.IsAtWork)
            await participant.Rest;
        if (participant.Space is not SpaceId id)
            return;
        LiveSpace space = _machine[id];
        long? ran = ProcessorClock.Of(participant.Pid);
        using (participant.Work())
        {
            (bool all, bool some) = await space.Do(Lane.Hold, () => !LiveMachine.Refresh(space) || !space.Map.Segments.Exists(IsUnadvised) ? (true, false) : (GivingBack.UnmergeUnadvised(space, IsUnadvised), true));
            (space.MustList, participant.AdviceReadAt, participant.RanAtAdvice) = (true, Stopwatch.GetTimestamp(), all ? ran : null);
            if (!some)
                return;
            participant.InVisit = false;
            space.LoseSight();
        }
    }

    /// <summary>Memory of which the advice was taken back is given back, beside the scanner; with none left the process is left alone (B6).</summary>
    private void HonourAdvice(Participant participant, LiveSpace space)
    {
        if (participant.IsAtWork)
            return;
        if (space.Map.Segments.Exists(IsUnadvised))
            Observed(SeeAdvice(participant));
        else if (space.Map.Segments.Count == 0)
            Observed(Detach(participant.Pid));
    }

    /// <summary>The same for a process that is not visited now. Its mappings are read for that, so only where anything is merged.</summary>
    private void HonourAdviceNow(Participant participant, LiveSpace space)
    {
        if (participant.Origin == Origin.Advice && !space.MustLeave && Engine.FiguresOf(space.Id).Counts.Merged > 0 && Stopwatch.GetElapsedTime(participant.AdviceReadAt) >= AdviceInterval)
            Observed(SeeAdvice(participant));
    }

    private static bool IsUnadvised(Segment segment) => segment.Kind == AreaKind.Merged && (segment.Advice & OperationFlags.Mergeable) == 0;

    private static void TakeAdvice(Participant participant, LiveSpace space)
    {
        bool only = participant.Origin == Origin.Advice;
        space.MustList |= only != space.Map.AdvisedOnly;
        space.Map.AdvisedOnly = only;
    }
}
