using System.Diagnostics;
using Samepage.Agent;
using Samepage.Api;
using Samepage.Engine;
using Samepage.Linux.ProcFs;
using Samepage.Live;

namespace Samepage.Daemon;

/// <content>Processes that were found by <see cref="Discovery"/>, and advice that is given and taken back.</content>
internal sealed partial class Coordinator
{
    private readonly HashSet<(int Pid, ulong Start)> _released = [];

    /// <summary>Gives a process back because somebody asked for it: rules do not take it in again.</summary>
    public ProcessOutcome Release(int pid)
    {
        if (ProcessStat.TryRead(pid, out ProcessStat stat))
            _released.Add((pid, stat.StartTime));
        return Detach(pid);
    }

    /// <summary>Whether a process was given back by hand.</summary>
    public bool WasReleased(int pid, ulong start) => _released.Contains((pid, start));

    /// <summary>Rules may take in again what was given back by hand.</summary>
    public void ForgetReleased() => _released.Clear();

    /// <summary>Whether a process is taken in, or was asked for and skipped.</summary>
    public bool Knows(int pid) => _participants.ContainsKey(pid);

    /// <summary>The processes that were found, not asked for by hand.</summary>
    public (int Pid, Origin Origin)[] Found() => [.. _participants.Values.Where(participant => participant.Origin != Origin.Hand).Select(participant => (participant.Pid, participant.Origin))];

    /// <summary>Forgets what was found and skipped and has ended: nobody asked for it, so nobody asks what became of it.</summary>
    public void ForgetEndedSkipped()
    {
        foreach ((int pid, _) in Found())
        {
            if (_participants[pid].Space is null && !Directory.Exists($"/proc/{pid}"))
                _participants.Remove(pid);
        }
    }

    /// <summary>A5: memory of which the advice was taken back is given back; with none left the process is left alone (B6).</summary>
    private void HonourAdvice(Participant participant, LiveSpace space)
    {
        foreach (Segment segment in space.Map.Segments.ToArray())
        {
            if (segment.Kind != AreaKind.Merged || (segment.Advice & OperationFlags.Mergeable) != 0)
                continue;
            PageRun range = new(new PageNumber(segment.Start / 4096), (long)((segment.End - segment.Start) / 4096));
            _ = Engine.BreakRange(space.Id, range); // what could not be broken now is tried at the next look
            space.MustList = true;
        }

        if (space.Map.Segments.Count == 0)
            _ = Detach(participant.Pid);
    }

    /// <summary>The same for a process that is not visited now. Its mappings are read for that, so only where anything is merged.</summary>
    private void HonourAdviceNow(Participant participant, LiveSpace space)
    {
        if (participant.Origin != Origin.Advice || space.MustLeave || Engine.FiguresOf(space.Id).Counts.Merged == 0 ||
            Stopwatch.GetElapsedTime(participant.AdviceReadAt) < AdviceInterval || !LiveMachine.Refresh(space))
        {
            return;
        }

        (space.MustList, participant.AdviceReadAt) = (true, Stopwatch.GetTimestamp());
        HonourAdvice(participant, space);
    }

    private static void TakeAdvice(Participant participant, LiveSpace space)
    {
        bool only = participant.Origin == Origin.Advice;
        space.MustList |= only != space.Map.AdvisedOnly;
        space.Map.AdvisedOnly = only;
    }
}
