using Samepage.Live;

namespace Samepage.Rules;

/// <summary>Which trust domain each process is in: its user's by default, its control group's, or a named group's.</summary>
/// <remarks>A named group may join processes of several users, groups, containers and control groups: root's file says so. Nothing joins two user namespaces, two sets of
/// capabilities or two labels of a security module: <see cref="TrustDomain.Undivided"/>. What a process can choose by itself, its name and its program, never lets it into a group alone: <see cref="RuleFile"/> sees to that.</remarks>
/// <param name="ByCgroup">Who is in no named group shares with those of its user in its control group only.</param>
/// <param name="Groups">The first that is about a process has it.</param>
internal sealed record DomainRules(bool ByCgroup, IReadOnlyList<DomainGroup> Groups)
{
    /// <summary>Every user is a domain.</summary>
    public static DomainRules ByUser { get; } = new(false, []);

    /// <summary>The domain of a process by its name.</summary>
    /// <param name="domain">The domain that it is in without rules.</param>
    /// <param name="facts">What is known of it.</param>
    /// <returns>Null when its control group decides and is not shown.</returns>
    public string? NameOf(TrustDomain domain, ProcessFacts facts)
    {
        foreach (DomainGroup group in Groups)
        {
            if (group.Rule.IsAbout(facts))
                return $"group:{group.Domain}{domain.Undivided}";
        }

        return !ByCgroup ? domain.Name : facts.Cgroup.Length > 0 ? $"{domain.Name} cgroup:{facts.Cgroup}" : null;
    }
}

/// <summary>Processes that share pages whoever's they are.</summary>
/// <param name="Domain">The name of the group; several may have one.</param>
/// <param name="Rule">Which processes.</param>
internal sealed record DomainGroup(string Domain, Rule Rule);
