using System.Diagnostics;
using System.Globalization;
using Samepage.Linux.ProcFs;
using Samepage.Rules;

namespace Samepage.Daemon;

/// <summary>Why a process is taken in.</summary>
internal enum Origin
{
    /// <summary>Somebody asked for it.</summary>
    Hand,

    /// <summary>A rule is about it, and it is taken in whole.</summary>
    Rule,

    /// <summary>It has advised memory to be mergeable; only that is taken in.</summary>
    Advice,
}

/// <summary>Finds the processes that are to be taken in by themselves (A1): such as ask for it, and such as rules are about.</summary>
/// <remarks>Looks at every process of the machine about once a second, and more often where scans are awaited: two to four small files each. A process may keep whoever looks at it, so that is done beside the scanner, by a round of one thread
/// that has each process looked at by an attendant, waits for that only so long, and passes over whoever is late, then and until he lets go. All calls on the scanner's thread.</remarks>
/// <param name="coordinator">Takes them in.</param>
/// <param name="rules">To begin with.</param>
internal sealed class Discovery(Coordinator coordinator, RuleSet rules)
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1), Least = TimeSpan.FromMilliseconds(200), LeastAwaited = TimeSpan.FromMilliseconds(50);

    /// <summary>Since when a process is seen to be wanted: by its pid and start, so that a number used again is another.</summary>
    private Dictionary<(int Pid, ulong Start), long> _seen = [];
    private long _lookedAt = Stopwatch.GetTimestamp() - Interval.Ticks * (Stopwatch.Frequency / TimeSpan.TicksPerSecond);
    private Round? _round;
    private int _rounds, _taken, _changing;
    private TimeSpan _took;

    /// <summary>The rules in force.</summary>
    public RuleSet Rules { get; private set; } = rules;

    /// <summary>Puts other rules in force. Processes that they would not have taken in are given back; those attached by hand stay. Whoever shares with others by them is moved.</summary>
    /// <returns>Ends when all of that is done; where a process keeps it, when it lets go: others do not wait for that, nor does what comes by the new rules.</returns>
    public async Task Use(RuleSet changed)
    {
        Rules = changed;
        _changing++;
        List<Task> done = [];
        foreach ((int pid, Origin origin) in coordinator.Found())
            done.Add(LeaveUnlessWanted(pid, origin, changed));
        try
        {
            done.Add(await coordinator.Use(changed.Domains));
        }
        finally
        {
            // Who is found is taken in by the new rules of who shares with whom, too.
            if (--_changing == 0)
            {
                coordinator.ForgetReleased();
                _round = null; // what it finds is by the old rules
                Begin();
            }
        }

        await Task.WhenAll(done);
    }

    /// <summary>Begins a round, if it is time to, and takes in what the last one has found.</summary>
    public void LookNowAndThen()
    {
        TakeWhatWasFound();
        if (!Rules.IsIdle)
            _ = TryBegin(Interval, out _);
    }

    /// <summary>Begins a round for a full scan, if none is under way and one may begin so soon behind the last.</summary>
    /// <param name="isAwaited">Somebody waits for it: looking may take a fifth of the time, and otherwise a twentieth.</param>
    /// <param name="number">By which it can be told that it has ended: <see cref="HasTaken"/>.</param>
    /// <returns>True also where nobody is looked for.</returns>
    public bool TryBegin(bool isAwaited, out int number)
    {
        TakeWhatWasFound();
        TimeSpan share = _took * (isAwaited ? 4 : 19), least = isAwaited ? LeastAwaited : Least, pause = share > least ? share : least;
        return TryBegin(pause < Interval ? pause : Interval, out number);
    }

    private bool TryBegin(TimeSpan pause, out int number)
    {
        number = _taken;
        if (_changing > 0 || _round is not null)
            return false;
        if (Rules.IsIdle)
            return true;
        if (Stopwatch.GetElapsedTime(_lookedAt) < pause)
            return false;
        Begin();
        number = _rounds;
        return true;
    }

    /// <summary>Whether a round has ended, or a later one, and all that it found is being taken in, but what has not settled.</summary>
    public bool HasTaken(int number) => Rules.IsIdle || _taken >= number;

    /// <summary>Takes in what the last round has found, if it has ended.</summary>
    public void TakeWhatWasFound()
    {
        if (_changing > 0 || _round is not { HasEnded: true } ended)
            return;
        (_round, _taken, _took) = (null, _rounds, ended.Took);
        Take(ended);
    }

    private async Task LeaveUnlessWanted(int pid, Origin origin, RuleSet changed)
    {
        if (await coordinator.LookAt(pid, () => WantedAs(pid, new ProcessFacts(pid), changed)) is not { } wanted || wanted != origin)
            _ = await coordinator.Detach(pid);
    }

    private void Begin()
    {
        _lookedAt = Stopwatch.GetTimestamp();
        coordinator.ForgetEndedSkipped();
        RuleSet inForce = Rules;
        HashSet<int> passed = [.. coordinator.Pids().Where(coordinator.Knows), Environment.ProcessId];
        Round round = new(coordinator);
        _round = round;
        coordinator.Beside(++_rounds, () => round.Walk(passed, pid => WantedAs(pid, new ProcessFacts(pid), inForce)));
    }

    private void Take(Round round)
    {
        Dictionary<(int, ulong), long> seen = [];
        foreach ((int pid, ulong start, Origin origin) in round.Found)
        {
            if (coordinator.Knows(pid) || coordinator.WasReleased(pid, start))
                continue;
            long since = _seen.GetValueOrDefault((pid, start), _lookedAt);
            if (Stopwatch.GetElapsedTime(since, _lookedAt) >= Rules.Settle)
                coordinator.BeginAttach(pid, origin);
            else
                seen[(pid, start)] = since;
        }

        _seen = seen;
    }

    /// <returns>Null when it is not wanted.</returns>
    private static Origin? WantedAs(int pid, ProcessFacts facts, RuleSet rules) =>
        !facts.IsProgram || rules.Excludes(facts) ? null : rules.Includes(facts) ? Origin.Rule : rules.TakesAdvisedOf(facts) && MergeAdvice.IsGiven(pid) ? Origin.Advice : null;

    /// <summary>One look at every process. One thread walks; the scanner's looks whether it has ended.</summary>
    private sealed class Round(Coordinator coordinator)
    {
        /// <summary>For the first that is late; half as long for each behind it. Together they keep the others for no longer than twice that, and the least for each.</summary>
        private static readonly TimeSpan Patience = TimeSpan.FromMilliseconds(500), LeastPatience = TimeSpan.FromMilliseconds(10);
        private volatile bool _ended;

        /// <summary>What was found; to be read when it has ended.</summary>
        public List<(int Pid, ulong Start, Origin Origin)> Found { get; } = [];

        /// <summary>How long it took; to be read when it has ended.</summary>
        public TimeSpan Took { get; private set; }

        public bool HasEnded => _ended;

        public void Walk(HashSet<int> passed, Func<int, Origin?> wantedAs)
        {
            long since = Stopwatch.GetTimestamp();
            TimeSpan bound = Patience;
            foreach (string folder in Directory.EnumerateDirectories("/proc"))
            {
                if (!int.TryParse(Path.GetFileName(folder.AsSpan()), NumberStyles.None, CultureInfo.InvariantCulture, out int pid) || passed.Contains(pid))
                    continue;
                Look look = new(pid);
                if (coordinator.TryLookAt(pid, () => look.At(wantedAs), bound, out bool begun))
                {
                    if (look.Origin is { } origin)
                        Found.Add((pid, look.Start, origin));
                }
                else if (begun)
                {
                    bound = bound / 2 > LeastPatience ? bound / 2 : LeastPatience;
                }
            }

            Took = Stopwatch.GetElapsedTime(since);
            _ended = true;
        }
    }

    /// <summary>What was seen of one process; whoever is late has it to himself.</summary>
    private sealed class Look(int pid)
    {
        public Origin? Origin { get; private set; }

        public ulong Start { get; private set; }

        public void At(Func<int, Origin?> wantedAs)
        {
            Origin = wantedAs(pid);
            if (Origin is null)
                return;
            if (ProcessStat.TryRead(pid, out ProcessStat stat))
                Start = stat.StartTime;
            else
                Origin = null;
        }
    }
}
