namespace Samepage.Rules;

/// <summary>Which trust domain each process is in: its user's by default, its control group's, or a named group's.</summary>
/// <remarks>A named group may join processes of several users and control groups: root's file says so. Nothing joins two user namespaces. What a process can choose
/// by itself, its name and its program, never lets it into a group alone: <see cref="RuleFile"/> sees to that.</remarks>
/// <param name="ByCgroup">Who is in no named group shares with those of its user in its control group only.</param>
/// <param name="Groups">The first that is about a process has it.</param>
internal sealed record DomainRules(bool ByCgroup, IReadOnlyList<DomainGroup> Groups)
{
    /// <summary>Every user is a domain.</summary>
    public static DomainRules ByUser { get; } = new(false, []);

    /// <summary>The domain of a process by its name.</summary>
    /// <param name="user">The domain of its user: <see cref="Live.TrustDomain"/>.</param>
    /// <param name="facts">What is known of it.</param>
    /// <returns>Null when its control group decides and is not shown.</returns>
    public string? NameOf(string user, ProcessFacts facts)
    {
        foreach (DomainGroup group in Groups)
        {
            // A user namespace divides a group as it divides a user: its name stands behind the user's.
            if (group.Rule.IsAbout(facts))
                return $"group:{group.Domain}{(user.IndexOf(' ') is >= 0 and var end ? user[end..] : "")}";
        }

        return !ByCgroup ? user : facts.Cgroup.Length > 0 ? $"{user} cgroup:{facts.Cgroup}" : null;
    }
}

/// <summary>Processes that share pages whoever's they are.</summary>
/// <param name="Domain">The name of the group; several may have one.</param>
/// <param name="Rule">Which processes.</param>
internal sealed record DomainGroup(string Domain, Rule Rule);
