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
/// <remarks>Looks at every process of the machine about once a second: two to four small files each. On the scanner's thread.</remarks>
/// <param name="coordinator">Takes them in.</param>
/// <param name="rules">To begin with.</param>
internal sealed class Discovery(Coordinator coordinator, RuleSet rules)
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    /// <summary>Since when a process is seen to be wanted: by its pid and start, so that a number used again is another.</summary>
    private Dictionary<(int Pid, ulong Start), long> _seen = [];
    private long _lookedAt = Stopwatch.GetTimestamp() - Interval.Ticks * (Stopwatch.Frequency / TimeSpan.TicksPerSecond);

    /// <summary>The rules in force.</summary>
    public RuleSet Rules { get; private set; } = rules;

    /// <summary>Puts other rules in force. Processes that they would not have taken in are given back; those attached by hand stay. Whoever shares with others by them is moved.</summary>
    public void Use(RuleSet rules)
    {
        Rules = rules;
        foreach ((int pid, Origin origin) in coordinator.Found())
        {
            if (WantedAs(pid, new ProcessFacts(pid)) is not { } wanted || wanted != origin)
                _ = coordinator.Detach(pid);
        }

        coordinator.Use(rules.Domains);
        coordinator.ForgetReleased();
        Look();
    }

    /// <summary>Looks, if it is time to.</summary>
    public void LookNowAndThen()
    {
        if (!Rules.IsIdle && Stopwatch.GetElapsedTime(_lookedAt) >= Interval)
            Look();
    }

    private void Look()
    {
        _lookedAt = Stopwatch.GetTimestamp();
        coordinator.ForgetEndedSkipped();
        Dictionary<(int, ulong), long> seen = [];
        foreach (string folder in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(folder.AsSpan()), NumberStyles.None, CultureInfo.InvariantCulture, out int pid) || coordinator.Knows(pid) || pid == Environment.ProcessId)
                continue;
            ProcessFacts facts = new(pid);
            if (!facts.IsProgram || WantedAs(pid, facts) is not { } origin || !ProcessStat.TryRead(pid, out ProcessStat stat) || coordinator.WasReleased(pid, stat.StartTime))
                continue;
            long since = _seen.GetValueOrDefault((pid, stat.StartTime), _lookedAt);
            if (Stopwatch.GetElapsedTime(since, _lookedAt) >= Rules.Settle)
                _ = coordinator.Attach(pid, origin);
            else
                seen[(pid, stat.StartTime)] = since;
        }

        _seen = seen;
    }

    /// <returns>Null when it is not wanted.</returns>
    private Origin? WantedAs(int pid, ProcessFacts facts) =>
        Rules.Excludes(facts) ? null : Rules.Includes(facts) ? Origin.Rule : Rules.TakesAdvised && MergeAdvice.IsGiven(pid) ? Origin.Advice : null;
}
