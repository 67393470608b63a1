using System.Diagnostics;
using Samepage.Agent;
using Samepage.Api;
using Samepage.Engine;
using Samepage.Linux.ProcFs;
using Samepage.Live;

namespace Samepage.Daemon;

/// <content>Processes that were found by <see cref="Discovery"/>.</content>
internal sealed partial class Coordinator
{
    /// <summary>Processes that somebody asked to be given back, with what came of it where they were.</summary>
    private readonly Dictionary<(int Pid, ulong Start), ProcessOutcome?> _released = [];

    /// <summary>How often that was asked for. What was asked for before, and comes to its turn behind it, is not wanted any more.</summary>
    private readonly Dictionary<int, int> _releases = [];

    /// <summary>Gives a process back because somebody asked for it: rules do not take it in again.</summary>
    /// <remarks>What was not done by the time that an answer is waited for goes on, and may have come to its end when the same is asked for again: that is no error then.</remarks>
    public async Task<ProcessOutcome> Release(int pid)
    {
        if (!ProcessStat.TryRead(pid, out ProcessStat stat))
            return await Detach(pid);
        (int, ulong) process = (pid, stat.StartTime);
        _releases[pid] = _releases.GetValueOrDefault(pid) + 1;
        _ = _released.TryAdd(process, null);
        ProcessOutcome outcome = await Detach(pid);
        // Whoever asked earlier may have had it done while this one waited for that.
        if (!outcome.Done && !_participants.ContainsKey(pid) && _released.GetValueOrDefault(process) is { } earlier)
            return earlier;
        // The rules may have been read again meanwhile: they take it in then.
        if (outcome.Done && _released.ContainsKey(process))
            _released[process] = outcome;
        return outcome;
    }

    /// <summary>Goes on with giving a process back, which has come so far, and no further, that its warden is gone. Whoever asked for it is answered so when he asks again.</summary>
    private async Task<ProcessOutcome> GiveBackAgain(int pid)
    {
        (int, ulong) process = (pid, ProcessStat.TryRead(pid, out ProcessStat stat) ? stat.StartTime : 0);
        ProcessOutcome outcome = await Detach(pid);
        if (outcome.Done && _released.ContainsKey(process))
            _released[process] = outcome;
        return outcome;
    }

    /// <summary>Whether a process was given back by hand.</summary>
    public bool WasReleased(int pid, ulong start) => _released.ContainsKey((pid, start));

    /// <summary>Rules may take in again what was given back by hand.</summary>
    public void ForgetReleased() => _released.Clear();

    /// <summary>Whether a process is taken in, or was asked for and skipped, and is not to be tried again yet.</summary>
    public bool Knows(int pid) => _participants.TryGetValue(pid, out Participant? known) &&
        (known.Space is not null || known.IsAtWork || known.Origin == Origin.Hand || known.TryAgainAt == 0 || Stopwatch.GetTimestamp() < known.TryAgainAt);

    /// <summary>The processes that were found, not asked for by hand.</summary>
    public (int Pid, Origin Origin)[] Found() => [.. _participants.Values.Where(participant => participant.Origin != Origin.Hand).Select(participant => (participant.Pid, participant.Origin))];

    /// <summary>Looks at a process that may keep whoever does. On the scanner's thread again when it has let go.</summary>
    public Task<T> LookAt<T>(int pid, Func<T> look) => _machine.Attendants.Begin(Lanes.Of(pid, Lane.Look), look);

    /// <summary>Looks at a process that may keep whoever does, for so long at most. Any thread.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="look">Looks; where it is late, what it fills is its own.</param>
    /// <param name="bound">How long to wait.</param>
    /// <param name="begun">It was begun: nobody else was looking.</param>
    /// <returns>False when it is late, or was not begun.</returns>
    public bool TryLookAt(int pid, Action look, TimeSpan bound, out bool begun) => _machine.Attendants.TryDo(Lanes.Of(pid, Lane.Look), look, bound, out begun);

    /// <summary>Has work done that is about no process in particular, and that nobody waits for.</summary>
    /// <param name="number">Tells it from others that may be under way.</param>
    /// <param name="work">The work.</param>
    public void Beside(int number, Action work) => Observed(_machine.Attendants.Begin(Lanes.OfRound(number), work));

    /// <summary>Takes a process in that was found; nobody waits for it.</summary>
    public void BeginAttach(int pid, Origin origin) => Observed(Attach(pid, origin));

    /// <summary>Forgets what was found and skipped and has ended: nobody asked for it, so nobody asks what became of it.</summary>
    public void ForgetEndedSkipped()
    {
        foreach ((int pid, _) in Found())
        {
            if (_participants[pid] is { Space: null, IsAtWork: false } && !Directory.Exists($"/proc/{pid}"))
                _participants.Remove(pid);
        }
    }
}
