using System.Diagnostics;
using Samepage.Engine;
using Samepage.Live;

namespace Samepage.Daemon;

/// <content>What a full scan has looked at; see <see cref="ScanCount"/>.</content>
internal sealed partial class Coordinator
{
    /// <summary>Visits in which all that is there when the first begins is looked up: the first notes it, the second looks it up, and what is planned then has ended in the third.</summary>
    private const int VisitsToLookUp = 3;

    /// <summary>A scan begins: everybody is to be looked at, and the advice of all of them read.</summary>
    public void BeginScan()
    {
        foreach (Participant participant in _participants.Values)
            (participant.VisitsInScan, participant.AdviceReadAt) = (0, 0);
    }

    /// <summary>All have been looked at since the scan began, but those that are being given back, and those that <c>smart_scan</c> lets alone.</summary>
    public bool IsScanned => _participants.Values.All(participant => !participant.Arriving &&
        (participant.Space is not SpaceId id || participant.VisitsInScan >= VisitsToLookUp || participant.Detaching || _machine[id].MustLeave || _machine[id].HasParted || IsLetAlone(participant, id)));

    private bool IsLetAlone(Participant participant, SpaceId id) =>
        !participant.InVisit && Engine.SmartScan && Stopwatch.GetElapsedTime(participant.VisitedAt) < participant.Pacing.Rest(_wastedByAll, SavedIn(id));

    /// <summary>A visit has come to its end. One is enough where nothing had happened, and what there was has been looked up.</summary>
    private void NoteVisitOfScan(Participant participant, LiveSpace space)
    {
        bool isEnough = participant.VisitsInScan == 0 && space.IsIdle && !space.HaveAreasChanged && Engine.FiguresOf(space.Id).Visits > VisitsToLookUp;
        participant.VisitsInScan = isEnough ? VisitsToLookUp : participant.VisitsInScan + 1;
    }
}
