using System.Diagnostics;
using Samepage.Api;
using Samepage.Engine;
using Samepage.Engine.Control;
using Samepage.Engine.Records;
using Samepage.Live;

namespace Samepage.Daemon;

/// <content>What is saved, and for whom. Costs are shared out so that sums are exact.</content>
internal sealed partial class Coordinator
{
    /// <summary>What frames and records cost each space, as of the last report.</summary>
    private readonly Dictionary<SpaceId, (long Frames, long Records)> _costs = [];

    /// <summary>The figures as they are now.</summary>
    /// <param name="run">What the scanner is told to do.</param>
    /// <param name="controlDirectory">Where the control files are; empty where they are not served.</param>
    /// <param name="control">What the control files say.</param>
    public StatusReport Report(RunState run, string controlDirectory, out ControlFigures control)
    {
        control = Engine.ControlFigures;
        long page = _machine.PageSize, metadata = Engine.MetadataBytes;
        ProcessReport[] processes = DescribeAll(metadata);
        ILookup<string, ProcessReport> byDomain = processes.ToLookup(process => process.Domain);
        List<DomainReport> domains = [];
        long held = 0, idle = 0;
        foreach ((string name, DomainId domain) in _domains)
        {
            DomainFigures figures = Engine.FiguresOf(domain);
            domains.Add(DomainReport.Of(name, figures.Frames, figures.Users - figures.Frames, Engine.BreaksIn(domain), byDomain));
            held += figures.FramesHeld;
            idle += figures.FramesHeld - figures.Frames;
        }

        long rss = Environment.WorkingSet;
        // Without a process no record is anybody's.
        long overhead = rss - (processes.Any(process => process.PagesTracked > 0) ? metadata : 0) + CompanionBytes + idle * page;
        EngineFigures whole = control.Engine;
        return new StatusReport((int)run, whole.FullScans, whole.PagesScanned, whole.PagesShared, whole.PagesSharing, whole.PagesUnshared, whole.PagesVolatile, control.ZeroPages,
            (int)page, domains.Sum(domain => domain.ProfitBytes) - overhead, control.GeneralProfitBytes, controlDirectory,
            new DaemonReport(Environment.ProcessId, rss, metadata, held * page, overhead, VisitTime.TotalSeconds), [.. domains], processes);
    }

    /// <summary>Describes everybody. What the frames of a domain cost is borne by the pages that use them, what records cost by the pages that have one; each bears
    /// what is rounded off of those before it.</summary>
    private ProcessReport[] DescribeAll(long metadata)
    {
        Participant[] all = [.. _participants.Values.OrderBy(participant => participant.Pid)];
        long tracked = all.Sum(participant => participant.Space is SpaceId id ? Engine.FiguresOf(id).Counts.Tracked : 0);
        _costs.Clear();
        Apportioned records = new(metadata, tracked);
        Dictionary<DomainId, Apportioned> frames = [];
        foreach (DomainId domain in _domains.Values)
        {
            DomainFigures figures = Engine.FiguresOf(domain);
            frames.Add(domain, new Apportioned(figures.Frames * _machine.PageSize, figures.Users));
        }

        return [.. all.Select(participant => participant.Space is SpaceId id ? Describe(participant, id, frames[_machine[id].Domain], records) : Skipped(participant))];
    }

    private ProcessReport Describe(Participant participant, SpaceId id, Apportioned frames, Apportioned records)
    {
        SpaceFigures figures = Engine.FiguresOf(id);
        LiveSpace space = _machine[id];
        SpaceCounts counts = figures.Counts;
        (long Frames, long Records) cost = _costs[id] = (frames.Take(counts.Merged), records.Take(counts.Tracked));
        long profit = (counts.Merged + counts.Zeroed) * _machine.PageSize - cost.Frames - cost.Records - AgentBytes;
        return new ProcessReport(participant.Pid, participant.Name, participant.Domain, State(participant),
            participant.Reason.Length > 0 ? participant.Reason : space.Obstacle.Length > 0 ? space.Obstacle : _machine.RefusalOf(space.Domain) is { Length: > 0 } full ? full : space.Map.Refused.Reason, figures.Settled, counts.Tracked, counts.Merged, counts.Zeroed,
            counts.Volatile, counts.Unique, counts.Broken, figures.Breaks, profit, space.Stops, space.StallNsMax);
    }

    private ProcessReport Skipped(Participant participant) =>
        new(participant.Pid, participant.Name, participant.Domain, State(participant), participant.Reason, Settled: !participant.Arriving, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

    /// <summary>What it shares with us, its signal frames among them, is resident here too, and counted as ours.</summary>
    private const long AgentBytes = AgentCost.ResidentBytes;
}

/// <summary>A cost that is shared out by pages: the parts are whole bytes, and all of them together are the whole.</summary>
/// <param name="bytes">The cost.</param>
/// <param name="pages">All pages that bear it.</param>
internal sealed class Apportioned(long bytes, long pages)
{
    private long _borne, _given;

    /// <summary>The part of the next so many pages.</summary>
    public long Take(long some)
    {
        _borne += some;
        long sum = pages == 0 ? 0 : (long)((Int128)bytes * _borne / pages), part = sum - _given;
        _given = sum;
        return part;
    }
}
