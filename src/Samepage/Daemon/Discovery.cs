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
/// <remarks>Looks at every process of the machine about once a second: two to four small files each. A process may keep whoever looks at it, so that is done beside the scanner, by a round of one thread
/// that is left behind where it does not come forward; the process that it stands at is passed over until it lets go. All calls on the scanner's thread.</remarks>
/// <param name="coordinator">Takes them in.</param>
/// <param name="rules">To begin with.</param>
internal sealed class Discovery(Coordinator coordinator, RuleSet rules)
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1), StandsStill = TimeSpan.FromSeconds(1);

    /// <summary>Since when a process is seen to be wanted: by its pid and start, so that a number used again is another.</summary>
    private Dictionary<(int Pid, ulong Start), long> _seen = [];
    private readonly Dictionary<int, Round> _keepers = [];
    private long _lookedAt = Stopwatch.GetTimestamp() - Interval.Ticks * (Stopwatch.Frequency / TimeSpan.TicksPerSecond);
    private Round? _round;
    private int _rounds;

    /// <summary>The rules in force.</summary>
    public RuleSet Rules { get; private set; } = rules;

    /// <summary>Puts other rules in force. Processes that they would not have taken in are given back; those attached by hand stay. Whoever shares with others by them is moved.</summary>
    /// <returns>Ends when all of that is done; where a process keeps it, when it lets go.</returns>
    public async Task Use(RuleSet changed)
    {
        Rules = changed;
        List<Task> done = [];
        foreach ((int pid, Origin origin) in coordinator.Found())
            done.Add(LeaveUnlessWanted(pid, origin, changed));
        await Task.WhenAll(done);
        await coordinator.Use(changed.Domains);
        coordinator.ForgetReleased();
        _round = null; // what it finds is by the old rules
        Begin();
    }

    /// <summary>Begins a round, if it is time to, and takes in what the last one has found.</summary>
    public void LookNowAndThen()
    {
        if (_round is { HasEnded: true } ended)
        {
            _round = null;
            Take(ended);
        }
        else if (_round is { } round && round.StandsStillFor > StandsStill)
        {
            _keepers[round.At] = round;
            _round = null;
        }

        foreach ((int pid, Round keeper) in _keepers.ToArray())
        {
            if (keeper.HasEnded || keeper.At != pid)
                _keepers.Remove(pid);
        }

        if (_round is null && !Rules.IsIdle && Stopwatch.GetElapsedTime(_lookedAt) >= Interval)
            Begin();
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
        HashSet<int> passed = [.. _keepers.Keys, .. coordinator.Pids().Where(coordinator.Knows), Environment.ProcessId];
        Round round = new();
        _round = round;
        coordinator.Beside(++_rounds, () => round.Walk(pid => passed.Contains(pid) ? null : WantedAs(pid, new ProcessFacts(pid), inForce)));
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
        !facts.IsProgram || rules.Excludes(facts) ? null : rules.Includes(facts) ? Origin.Rule : rules.TakesAdvised && MergeAdvice.IsGiven(pid) ? Origin.Advice : null;

    /// <summary>One look at every process. One thread walks; the scanner's looks at how it comes forward.</summary>
    private sealed class Round
    {
        private long _movedAt = Stopwatch.GetTimestamp();
        private volatile int _at;
        private volatile bool _ended;

        /// <summary>What was found; to be read when it has ended.</summary>
        public List<(int Pid, ulong Start, Origin Origin)> Found { get; } = [];

        /// <summary>The process that it is at.</summary>
        public int At => _at;

        public bool HasEnded => _ended;

        public TimeSpan StandsStillFor => Stopwatch.GetElapsedTime(Volatile.Read(ref _movedAt));

        public void Walk(Func<int, Origin?> wantedAs)
        {
            foreach (string folder in Directory.EnumerateDirectories("/proc"))
            {
                if (!int.TryParse(Path.GetFileName(folder.AsSpan()), NumberStyles.None, CultureInfo.InvariantCulture, out int pid))
                    continue;
                _at = pid;
                Volatile.Write(ref _movedAt, Stopwatch.GetTimestamp());
                if (wantedAs(pid) is { } origin && ProcessStat.TryRead(pid, out ProcessStat stat))
                    Found.Add((pid, stat.StartTime, origin));
            }

            _ended = true;
        }
    }
}
