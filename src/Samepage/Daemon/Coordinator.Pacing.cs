using System.Diagnostics;
using Samepage.Engine;
using Samepage.Engine.Records;

namespace Samepage.Daemon;

/// <content>When each process is visited.</content>
internal sealed partial class Coordinator
{
    /// <summary>A process that is let alone is looked after this often all the same: it may have forked, changed its user, or ended.</summary>
    private static readonly TimeSpan KeepInterval = TimeSpan.FromMilliseconds(250);

    /// <summary>What visits of the last pass have cost that gained too little.</summary>
    private TimeSpan _wastedByAll;

    /// <summary>Time that visits have taken.</summary>
    public TimeSpan VisitTime { get; private set; }

    /// <summary>As <see cref="Visit"/>, when its time has come, and counts what it takes.</summary>
    public VisitProgress VisitInTurn(int pid, ref long pages)
    {
        if (!TryFindIdle(pid, out Participant? participant, out SpaceId id))
            return VisitProgress.Nothing;
        if (IsLetAlone(participant, id))
            return KeepInTurn(participant);
        long since = Stopwatch.GetTimestamp();
        Engine.Now = Stopwatch.GetElapsedTime(0, since);
        VisitProgress progress = Visit(pid, ref pages);
        TimeSpan took = Stopwatch.GetElapsedTime(since);
        VisitTime += took;
        participant.VisitTook += took;
        if (progress != VisitProgress.Unfinished && participant.Space is SpaceId still)
        {
            participant.Pacing.VisitEnded(participant.VisitTook, SavedIn(still));
            participant.VisitTook = TimeSpan.Zero;
            participant.VisitedAt = participant.KeptAt = Stopwatch.GetTimestamp();
        }

        return progress;
    }

    private VisitProgress KeepInTurn(Participant participant)
    {
        if (Stopwatch.GetElapsedTime(participant.KeptAt) < KeepInterval)
            return VisitProgress.Nothing;
        participant.KeptAt = Stopwatch.GetTimestamp();
        Keep(participant.Pid);
        return VisitProgress.Something;
    }

    private long SavedIn(SpaceId id)
    {
        SpaceCounts counts = Engine.FiguresOf(id).Counts;
        return counts.Merged + counts.Zeroed;
    }

    private void SumUpWaste()
    {
        _wastedByAll = TimeSpan.Zero;
        foreach (Participant participant in _participants.Values)
            _wastedByAll += participant.Space is null ? TimeSpan.Zero : participant.Pacing.Wasted;
    }
}
