using System.Diagnostics;
using Samepage.Agent;
using Samepage.Engine;
using Samepage.Linux;
using Samepage.Linux.ProcFs;
using Samepage.Live;
using Samepage.Rules;

namespace Samepage.Daemon;

/// <content>Who shares with whom, and what becomes of a process whose trust domain changes: it is given back before anything else is done with it.</content>
internal sealed partial class Coordinator
{
    /// <summary>Empty domains that are kept: each costs a file, a mount and some descriptors. Their counts go with them.</summary>
    private const int DomainsKept = 64;

    /// <summary>What could not be left is tried again this often.</summary>
    private static readonly TimeSpan s_leaveInterval = TimeSpan.FromSeconds(1);

    private readonly Dictionary<string, DomainId> _domains = [];
    private readonly KeptNamespaces _namespaces = new();
    private int _nextDomain, _uses;
    private DomainRules _domainRules = DomainRules.ByUser;

    /// <summary>Puts other rules of who shares with whom in force.</summary>
    /// <returns>Ends when they are in force, or others have come since; what it returns then ends when whoever they put into another domain has been moved there, or is merged with nobody until it can be.</returns>
    public async Task<Task> Use(DomainRules rules)
    {
        int use = ++_uses;
        // Children are to be found while they still are of their parents' domains; who keeps us keeps his parent's warden.
        await AdoptAllChildren();
        if (use != _uses)
            return Task.CompletedTask;
        _domainRules = rules;
        List<Task> moved = [];
        foreach (int pid in Pids())
        {
            if (!TryFindIdle(pid, out Participant? participant, out SpaceId id) || ProcessStatus.TryReadLiving(pid) is not { } status)
                continue;
            if (!MayStay(participant, _machine[id], status, out string? reason, out string? moves))
                moved.Add(GoOn(participant, _machine[id], reason, moves));
        }

        return Task.WhenAll(moved);
    }

    /// <summary>The domain that a process is in now.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="trust">Its domain without rules.</param>
    /// <param name="reason">Receives why it cannot be told.</param>
    /// <returns>Empty when it cannot be told.</returns>
    private string DomainNameOf(int pid, TrustDomain trust, ref string? reason)
    {
        string? name = _domainRules.NameOf(trust, new ProcessFacts(pid));
        if (name is null)
            reason = $"its trust domain is its control group's, and /proc/{pid}/cgroup does not show that";
        return name ?? "";
    }

    /// <summary>Whether a process may be served on, where it is; without a reason where it is being given back already, and has no warden any more.</summary>
    /// <param name="participant">The process.</param>
    /// <param name="space">Its space: where it may not stay, nothing is merged in it from here on.</param>
    /// <param name="status">Its status.</param>
    /// <param name="reason">Why it must be left.</param>
    /// <param name="moves">The domain that it belongs to by now, if that is all.</param>
    private bool MayStay(Participant participant, LiveSpace space, ProcessStatus status, out string? reason, out string? moves)
    {
        TrustDomain trust = TrustDomain.Of(space.OwnThread, status, space.IsIdle ? participant.Trust : null);
        reason = Eligibility.Changed(space.OwnThread, status) ?? space.WhyFiltersForbid(status) ?? (space.UsesUserfaultfd() ? Eligibility.UsesUserfaultfd : null) ?? (trust.IsKeptFromItsKind(space.OwnThread) ? AgentSession.NotDumpable : null) ??
            (participant.Trust?.Credentials != trust.Credentials ? "its user changed, or its group, capabilities, user namespace or label, or it gave up to gain privileges (PR_SET_NO_NEW_PRIVS)" : space.LocksWhatItMaps ? "it locks all memory that it maps from now on (mlockall with MCL_FUTURE)" : null);
        moves = reason is null && _domainRules.NameOf(trust, new ProcessFacts(participant.Pid, status)) is var domain && domain != participant.Domain ? domain ?? "another domain" : null;
        space.MustLeave = reason is not null || moves is not null || space.HasParted;
        return !space.MustLeave;
    }

    /// <summary>Looks once more, when the agent is in the process and before it gets the frames' pool: the process may have become somebody else while it was taken in, and
    /// the agent's threads have the credentials of the moment at which they were made.</summary>
    /// <exception cref="SyscallException">It, or its agent, is not what it was when it was given its domain.</exception>
    private static void MustBeWhatItWas(int pid, TrustDomain trust, int executor)
    {
        if (ProcessStatus.TryRead($"/proc/{pid}/task/{executor}/status") is { } agent && TrustDomain.Of(executor, agent, trust).Credentials == trust.Credentials &&
            Eligibility.Refuse(pid, out _, out TrustDomain? now, out _) is null && now!.Name == trust.Name)
        {
            return;
        }

        throw new SyscallException("attach", $"process {pid}, whose user, group, capabilities or namespaces changed while it was taken in; attach it again", Errno.EAGAIN);
    }

    private DomainId DomainOf(string name)
    {
        if (!_domains.TryGetValue(name, out DomainId domain))
            _domains.Add(name, domain = new DomainId(_nextDomain++));
        return domain;
    }

    private string NameOf(DomainId id) => _domains.First(pair => pair.Value == id).Key;

    /// <summary>Control groups come and go; the frame pools of those that are gone must not stay.</summary>
    private void ForgetEmptyDomains()
    {
        if (_domains.Count <= DomainsKept)
            return;
        foreach ((string name, DomainId domain) in _domains.ToArray())
        {
            if (_domains.Count <= DomainsKept)
                return;
            if (_arriving.ContainsKey(domain) || !Engine.TryForget(domain))
                continue;
            _machine.Forget(domain);
            _domains.Remove(name);
            _namespaces.Forget(name);
        }
    }
}
