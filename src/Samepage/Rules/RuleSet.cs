using System.IO.Enumeration;
using Samepage.Engine.Control;

namespace Samepage.Rules;

/// <summary>Which processes are taken in by themselves, who shares with whom, and when and how fast.</summary>
/// <param name="Settle">How long a process has to be seen to be wanted before it is taken in.</param>
/// <param name="TakesAdvised">Memory that programs have advised to be mergeable is taken in.</param>
/// <param name="Include">A process that one of these is about is taken in whole.</param>
/// <param name="Exclude">A process that one of these is about is not taken in but by hand, whatever else speaks for it.</param>
internal sealed record RuleSet(TimeSpan Settle, bool TakesAdvised, IReadOnlyList<Rule> Include, IReadOnlyList<Rule> Exclude)
{
    /// <summary>Memory that programs have advised is taken in only of processes that one of these is about; of all where there is none.</summary>
    public IReadOnlyList<Rule> AdvisedIn { get; init; } = [];

    /// <summary>Who may have pages in common.</summary>
    public DomainRules Domains { get; init; } = DomainRules.ByUser;

    /// <summary>The processor time that the daemon may take, percent of one processor; 0 for no limit.</summary>
    public uint ProcessorPercent { get; init; }

    /// <summary>Scanning begins when less memory is available than this, percent, and ends when more is. Null: not by that.</summary>
    public PressureLimits? Available { get; init; }

    /// <summary>Scanning begins when more time is lost waiting for memory than this, percent, and ends when no more is. Null: not by that.</summary>
    public PressureLimits? Some { get; init; }

    /// <summary>What holds where no file says otherwise.</summary>
    public static RuleSet Default { get; } = new(TimeSpan.FromSeconds(5), true, [], []);

    /// <summary>Takes nobody in.</summary>
    public static RuleSet None { get; } = Default with { TakesAdvised = false };

    /// <summary>Nobody is looked for.</summary>
    public bool IsIdle => !TakesAdvised && Include.Count == 0;

    public bool Includes(ProcessFacts facts) => Include.Any(rule => rule.IsAbout(facts));

    public bool TakesAdvisedOf(ProcessFacts facts) => TakesAdvised && (AdvisedIn.Count == 0 || AdvisedIn.Any(rule => rule.IsAbout(facts)));

    public bool Excludes(ProcessFacts facts) => Exclude.Any(rule => rule.IsAbout(facts));
}

/// <summary>Says which processes it is about: those for which all that is given holds. Texts may have <c>*</c> and <c>?</c> in them.</summary>
/// <param name="User">The effective user id.</param>
/// <param name="Cgroup">The path of the control group.</param>
/// <param name="Executable">The path of the program.</param>
/// <param name="Name">The command name, up to 15 characters.</param>
internal sealed record Rule(int? User, string? Cgroup, string? Executable, string? Name)
{
    public bool IsAbout(ProcessFacts facts) =>
        (User is null || User == facts.User) && Fits(Name, facts.Name) && (Cgroup is null || Fits(Cgroup, facts.Cgroup)) && (Executable is null || Fits(Executable, facts.Executable));

    private static bool Fits(string? pattern, string text) =>
        pattern is null || FileSystemName.MatchesSimpleExpression(pattern.Replace("\\", "\\\\", StringComparison.Ordinal), text, ignoreCase: false);
}
