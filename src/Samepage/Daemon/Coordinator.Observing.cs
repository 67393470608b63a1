using System.Globalization;
using Samepage.Api;
using Samepage.Engine;
using Samepage.Estimate.Figures;
using Samepage.Linux.ProcFs;
using Samepage.Live;

namespace Samepage.Daemon;

/// <summary>An area as an observer sees it.</summary>
/// <param name="Start">Its first page.</param>
/// <param name="End">One past its last page.</param>
/// <param name="Name">What the kernel calls it.</param>
internal readonly record struct ObservedArea(ulong Start, ulong End, string Name);

/// <summary>A process as an observer sees it.</summary>
/// <param name="Space">Its space.</param>
/// <param name="Name">Its command name.</param>
/// <param name="Domain">Its trust domain.</param>
/// <param name="PageSize">Bytes per page.</param>
/// <param name="Areas">Its areas, by rising address.</param>
/// <param name="FrameBytes">Its part of what frames cost.</param>
/// <param name="RecordBytes">Its part of what records cost.</param>
/// <param name="AgentBytes">What its agent costs.</param>
internal readonly record struct Observed(
    SpaceId Space, string Name, string Domain, int PageSize, IReadOnlyList<ObservedArea> Areas, long FrameBytes, long RecordBytes, long AgentBytes);

/// <content>What observers ask. Nothing here reads a process's memory or changes anything, and each call is short.</content>
internal sealed partial class Coordinator
{
    private const int FramesPerStep = 1 << 20;

    /// <summary>Describes a process that is taken in.</summary>
    /// <returns>False when it is not.</returns>
    public bool TryObserve(int pid, out Observed observed)
    {
        observed = default;
        if (!_participants.TryGetValue(pid, out Participant? participant) || participant.Space is not SpaceId id)
            return false;
        LiveSpace space = _machine[id];
        (long frames, long records) = _costs.GetValueOrDefault(id);
        observed = new Observed(id, participant.Name, participant.Domain, _machine.PageSize, AreasOf(space), frames, records, AgentBytes);
        return true;
    }

    /// <summary>The most used frames of all domains, looked for in some of them.</summary>
    /// <param name="most">How many are wanted.</param>
    /// <param name="step">Where to begin, first (0, 0); receives where to go on.</param>
    /// <param name="best">Those found so far, the most used first; receives those found now.</param>
    /// <returns>True when there is nothing further to look at.</returns>
    public bool FindMostShared(int most, ref (int Domain, uint Frame) step, List<(DomainId Domain, SharedFrame Frame)> best)
    {
        DomainId[] domains = [.. _domains.Values.OrderBy(domain => domain.Value)];
        if (step.Domain >= domains.Length)
            return true;
        DomainId looked = domains[step.Domain];
        IReadOnlyList<SharedFrame> found = Engine.MostShared(looked, new FrameId(step.Frame), FramesPerStep, most, out FrameId? next);
        best.AddRange(found.Select(frame => (looked, frame)));
        best.Sort(static (a, b) => b.Frame.Users != a.Frame.Users ? b.Frame.Users.CompareTo(a.Frame.Users)
            : a.Domain != b.Domain ? a.Domain.Value.CompareTo(b.Domain.Value) : a.Frame.Frame.Value.CompareTo(b.Frame.Frame.Value));
        if (best.Count > most)
            best.RemoveRange(most, best.Count - most);
        step = next is { } further ? (step.Domain, further.Value) : (step.Domain + 1, 0);
        return false;
    }

    /// <summary>Describes a frame.</summary>
    /// <returns>Null when nobody uses it any more, or it cannot be read.</returns>
    public FrameReport? DescribeFrame(DomainId domain, FrameId frame)
    {
        IReadOnlyList<FrameUser> users = Engine.UsersOf(domain, frame);
        byte[] content = new byte[_machine.PageSize];
        if (users.Count == 0 || !_machine.TryReadFrame(domain, frame, content))
            return null;
        FrameProcess[] processes = [.. users.GroupBy(user => user.Space).Select(theirs =>
        {
            int pid = _machine[theirs.Key].Pid;
            string address = (theirs.First().Page.Value * (ulong)_machine.PageSize).ToString("x", CultureInfo.InvariantCulture);
            return new FrameProcess(pid, _participants.TryGetValue(pid, out Participant? participant) ? participant.Name : "", theirs.LongCount(), address);
        }).OrderByDescending(process => process.Pages).ThenBy(process => process.Pid)];
        return new FrameReport(NameOf(domain), frame.Value, users.Count, (users.Count - 1L) * _machine.PageSize, ContentGuess.Of(content), Convert.ToHexStringLower(content.AsSpan(0, 32)),
            ContentGuess.Preview(content), processes);
    }

    /// <summary>Neighbouring segments with the same advice are one area to the program, whatever we have mapped there.</summary>
    private List<ObservedArea> AreasOf(LiveSpace space) => space.Map.Observe(AreasOf);

    private List<ObservedArea> AreasOf(IReadOnlyList<Segment> segments, IReadOnlyList<Mapping> mappings)
    {
        ulong page = (ulong)_machine.PageSize;
        List<ObservedArea> areas = [];
        Segment? before = null;
        int mapping = 0;
        foreach (Segment segment in segments)
        {
            string name = segment.Kind == AreaKind.Merged ? "" : NameAt(mappings, segment.Start, ref mapping);
            bool joins = before is { } last && last.End == segment.Start && last.Advice == segment.Advice && (name.Length == 0 || areas[^1].Name.Length == 0 || areas[^1].Name == name);
            if (joins)
                areas[^1] = new ObservedArea(areas[^1].Start, segment.End / page, areas[^1].Name.Length > 0 ? areas[^1].Name : name);
            else
                areas.Add(new ObservedArea(segment.Start / page, segment.End / page, name));
            before = segment;
        }

        return areas;
    }

    private string NameAt(IReadOnlyList<Mapping> mappings, ulong address, ref int from)
    {
        while (from < mappings.Count && mappings[from].End <= address)
            from++;
        // Mappings are read now and then; what was merged since is still under its name there.
        return from < mappings.Count && mappings[from].Start <= address && _machine.PoolOf(mappings[from]) is null ? mappings[from].Name : "";
    }
}
