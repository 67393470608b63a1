using System.Globalization;
using Samepage.Linux;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>Who may have pages in common: those who may look into each other's memory anyway, each into each, and are in one container.</summary>
/// <remarks>
/// <para>Whoever is taken in can read all frames of its domain: its agent has their pool open, read-only. So a domain must hold nobody whom another in it may not read by
/// the kernel's own rule, ptrace(2), "Ptrace access mode checking", which __ptrace_may_access() and cap_ptrace_access_check() are. A may read B if</para>
/// <list type="number">
/// <item>A's real ids are B's real, effective and saved ids, of user and group. Mixed ids are refused (<see cref="Eligibility"/>), so one id of each stands for all.
/// Supplementary groups do not count, in the kernel and here.</item>
/// <item>B is dumpable. Who is not is refused: <see cref="IsKeptFromItsUser"/>, and <see cref="MustBeDumpable"/> where that cannot be seen from outside.</item>
/// <item>A and B are in one user namespace, and B's permitted capabilities are some of A's. Each into each: the sets are the same. The effective set is A's to choose among
/// the permitted.</item>
/// <item>The security module has nothing against it. That is its policy's to say, so only those of one label are put together. Yama narrows the rule further, for
/// debuggers' sake, and is not followed: it would divide parents from children.</item>
/// <item>A is not confined by Landlock, landlock(7), to a domain that B is outside of. The kernel shows nobody who is confined. But to confine itself a program must first have given up to gain anything by exec
/// (PR_SET_NO_NEW_PRIVS), or have CAP_SYS_ADMIN; and that it shows. So who has given it up is a domain by itself, process by process, and whoever gives it up later is given back first.
/// A named group joins such programs: that is root's word.</item>
/// </list>
/// <para>CAP_SYS_PTRACE overrules 1 to 3 for whoever has it; it is not needed to put more together, so it counts like any other.</para>
/// <para>The rule says nothing of pid namespaces, for who cannot name a process cannot trace it. Two containers of root's with the same capabilities are told by their pid
/// namespaces, and by the control groups that runtimes make, <see cref="ContainerGroup"/>. Mount and network namespaces do not count: services have them
/// (PrivateTmp, PrivateNetwork), and are root's programs like others.</para>
/// <para>Names are equal only where all of these are: what each part puts into them has no space in it, and begins with its own word.</para>
/// </remarks>
/// <param name="User">The user id.</param>
/// <param name="Group">The group id.</param>
/// <param name="UserNamespace">Its inode number; empty for that of this process.</param>
/// <param name="PidNamespace">Its inode number; empty for that of /proc.</param>
/// <param name="Permitted">The permitted capabilities.</param>
/// <param name="Label">The security module's; empty where there is none.</param>
/// <param name="Container">By the control group; empty for none.</param>
/// <param name="Alone">Which process it is, where it may be confined in a way that nothing shows; empty otherwise.</param>
internal sealed record TrustDomain(uint User, uint Group, string UserNamespace, string PidNamespace, ulong Permitted, string Label, string Container, string Alone)
{
    /// <summary>A namespace that could not be read.</summary>
    private const string Hidden = "?";

    private const ulong CapSysPtrace = 1UL << 19;
    private static readonly string s_userNamespace = Namespace("self", "user");
    private static readonly bool s_hasLabels = ProcFile.TryRead("/proc/self/attr/current", out string label) && label.Length > 0;

    /// <summary>What root has on this machine: the first process's capabilities.</summary>
    private static readonly ulong s_rootsPermitted = ProcessStatus.TryRead("/proc/1/status") is { } first ? first.Permitted : ulong.MaxValue;

    /// <summary>Whether all of it could be read: otherwise it must not share with anybody.</summary>
    public bool IsKnown => UserNamespace != Hidden && PidNamespace != Hidden && Label != Hidden && Alone != Hidden;

    /// <summary>What makes a process leave when it changes: what its agent's threads have, and can keep. Readable, and equal where all is equal.</summary>
    public string Credentials => Ids + Part("userns", UserNamespace) + Part("pidns", PidNamespace) + Capabilities(User == 0 ? s_rootsPermitted : 0) + Part("label", Label) + (Alone.Length > 0 ? " nonewprivs" : "");

    /// <summary>The domain by its name where no rule says otherwise.</summary>
    public string Name => Credentials + Part("container", Container) + Part("alone", Alone);

    /// <summary>What divides a named group too, with a space before it: no rule joins two user namespaces, sets of capabilities or labels. Empty for an ordinary program.</summary>
    public string Undivided => Part("userns", UserNamespace) + Capabilities(0) + Part("label", Label);

    /// <summary>Whether others of its domain may look into it only if it is dumpable. The process itself is asked for that when it is taken in. Afterwards the owner of its files shows it, of others than
    /// root, and of root the kernel is asked (<see cref="PeerSight"/>); of the root of an inner user namespace nothing does. In such a namespace CAP_SYS_PTRACE does not help with memory that is of the outer
    /// one, as it is until the next exec.</summary>
    public bool MustBeDumpable => (Permitted & CapSysPtrace) == 0 || UserNamespace.Length > 0;

    private string Ids => User == Group ? $"uid:{User}" : $"uid:{User} gid:{Group}";

    /// <summary>The domain of a process.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="status">Its status.</param>
    /// <param name="known">What it was, of a process that has done nothing since: its control group is not read again. Null otherwise.</param>
    public static TrustDomain Of(int pid, ProcessStatus status, TrustDomain? known = null)
    {
        string user = Namespace($"{pid}", "user");
        return new TrustDomain(status.Uids.Effective, status.Gids.Effective, user == s_userNamespace ? "" : user, status.InnerPidNamespace ? Namespace($"{pid}", "pid") : "",
            status.Permitted, LabelOf(pid), known?.Container ?? ContainerOf(pid, status), Landlock.IsThere && status.NoNewPrivileges ? Identity(status.ThreadGroup) : "");
    }

    /// <summary>Whether other programs of its user may not look into a process. The kernel shows that by the owner and group of its files in /proc, proc(5).</summary>
    /// <remarks>Root's show nothing where their group is root's too: <see cref="IsKeptFromItsKind"/>.</remarks>
    public static bool IsKeptFromItsUser(int pid, ProcessStatus status) =>
        FileBlocks.TryReadOwner($"/proc/{pid}/maps", out uint owner, out uint group) && (owner != status.Uids.Effective || group != status.Gids.Effective);

    /// <summary>Whether others of root's with the same capabilities may not look into a process. May be asked at any time, and waits for nobody.</summary>
    /// <param name="pid">The process, or a thread of it that lives.</param>
    public bool IsKeptFromItsKind(int pid) => User == 0 && Group == 0 && UserNamespace.Length == 0 && MustBeDumpable && !PeerSight.MayLook(pid, Permitted);

    private static string Part(string word, string value) => value.Length == 0 ? "" : $" {word}:{value}";

    private string Capabilities(ulong expected) => Permitted == expected ? "" : Part("caps", Permitted.ToString("x", CultureInfo.InvariantCulture));

    /// <summary>A process as nobody else is ever named, of this boot.</summary>
    private static string Identity(int pid) => ProcessStat.TryRead(pid, out ProcessStat stat) ? $"{pid}-{stat.StartTime}" : Hidden;

    private static string ContainerOf(int pid, ProcessStatus status)
    {
        // A first thread that has ended is not moved any more when its process is: another one says.
        List<int> threads = [];
        int thread = status.State == 'Z' && Threads.TryList(pid, threads) ? threads.Find(other => other != pid) : 0;
        _ = ProcFile.TryRead($"/proc/{pid}/task/{(thread > 0 ? thread : pid)}/cgroup", out string text);
        return ContainerGroup.NameOf(text);
    }

    private static string LabelOf(int pid)
    {
        const string Enforced = " (enforce)"; // AppArmor's word for how a profile is taken
        if (!s_hasLabels)
            return "";
        if (!ProcFile.TryRead($"/proc/{pid}/attr/current", out string label))
            return Hidden;
        label = label.TrimEnd('\n', '\0');
        if (label.EndsWith(Enforced, StringComparison.Ordinal))
            label = label[..^Enforced.Length];
        return label is "unconfined" or "" ? "" : ContainerGroup.Plain(label);
    }

    /// <summary>The inode number of a namespace, namespaces(7).</summary>
    private static string Namespace(string pid, string kind) => ProcLinks.TargetOf($"/proc/{pid}/ns/{kind}") is { } target ? target[(kind.Length + 2)..^1] : Hidden;
}
