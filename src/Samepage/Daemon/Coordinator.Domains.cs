using System.Diagnostics;
using Samepage.Engine;
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
    private int _nextDomain;
    private DomainRules _domainRules = DomainRules.ByUser;

    /// <summary>Puts other rules of who shares with whom in force. When this returns, whoever they put into another domain has been moved there, or is merged with nobody
    /// until it can be.</summary>
    public void Use(DomainRules rules)
    {
        // Children are to be found while they still are of their parents' domains.
        AdoptAllChildren();
        _domainRules = rules;
        foreach (int pid in Pids())
        {
            if (!_participants.TryGetValue(pid, out Participant? participant) || participant.Space is not SpaceId id)
                continue;
            participant.LeaveTriedAt = 0;
            _ = LookAfter(participant, _machine[id]);
        }
    }

    /// <summary>The domain that a process is in now.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="user">Its user, as <see cref="TrustDomain"/> has it.</param>
    /// <param name="reason">Receives why it cannot be told.</param>
    /// <returns>Empty when it cannot be told.</returns>
    private string DomainNameOf(int pid, string user, ref string? reason)
    {
        string? name = _domainRules.NameOf(user, new ProcessFacts(pid));
        if (name is null)
            reason = $"its trust domain is its control group's, and /proc/{pid}/cgroup does not show that";
        return name ?? "";
    }

    /// <summary>Leaves a process that may not be served any more, and moves one whose domain is another by now.</summary>
    /// <returns>False when it was left or moved, or is to be and cannot be yet: then nothing is merged in it meanwhile.</returns>
    private bool TryKeep(Participant participant, LiveSpace space, ProcessStatus status)
    {
        string user = TrustDomain.Of(participant.Pid, status);
        string? reason = Eligibility.Changed(participant.Pid, status, space.IsIdle) ??
            (participant.User != user ? "its user changed, or its user namespace" : space.LocksWhatItMaps ? "it locks all memory that it maps from now on (mlockall with MCL_FUTURE)" : null);
        string? moves = reason is null && _domainRules.NameOf(user, new ProcessFacts(participant.Pid, status)) is var domain && domain != participant.Domain ? domain ?? "another domain" : null;
        space.MustLeave = reason is not null || moves is not null;
        if (!space.MustLeave)
            return true;
        if (Stopwatch.GetElapsedTime(participant.LeaveTriedAt) < s_leaveInterval && participant.LeaveTriedAt != 0)
            return false;
        List<int> children = [];
        string failure = GiveBack(space, children), program = new ProcessFacts(participant.Pid).Executable;
        // Children that were given back with it are as wanted as they were, but such as have become other programs since.
        foreach (int child in moves is null ? [] : children.Where(child => new ProcessFacts(child).Executable == program))
            _ = Attach(child, participant.Origin);
        if (failure.Length > 0)
        {
            participant.LeaveTriedAt = Stopwatch.GetTimestamp();
            space.Obstacle = $"it is to be left ({reason ?? $"it belongs to {moves} now"}), and cannot be yet: {failure}";
            space.ForgetLook();
            return false;
        }

        participant.Reason = reason ?? "";
        Forget(participant, reason ?? $"it belongs to {moves} now");
        if (moves is not null)
        {
            _participants.Remove(participant.Pid);
            _ = Attach(participant.Pid, participant.Origin);
        }

        return false;
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
            if (!Engine.TryForget(domain))
                continue;
            _machine.Forget(domain);
            _domains.Remove(name);
        }
    }
}
