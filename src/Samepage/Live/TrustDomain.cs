using System.Globalization;
using Samepage.Linux;
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
internal sealed record TrustDomain(uint User, uint Group, string UserNamespace, string PidNamespace, ulong Permitted, string Label, string Container)
{
    /// <summary>A namespace that could not be read.</summary>
    private const string Hidden = "?";

    private const ulong CapSysPtrace = 1UL << 19;
    private static readonly string s_userNamespace = Namespace("self", "user");
    private static readonly bool s_hasLabels = ProcFile.TryRead("/proc/self/attr/current", out string label) && label.Length > 0;

    /// <summary>What root has on this machine: the first process's capabilities.</summary>
    private static readonly ulong s_rootsPermitted = ProcessStatus.TryRead("/proc/1/status") is { } first ? first.Permitted : ulong.MaxValue;

    /// <summary>Whether all of it could be read: otherwise it must not share with anybody.</summary>
    public bool IsKnown => UserNamespace != Hidden && PidNamespace != Hidden && Label != Hidden;

    /// <summary>What makes a process leave when it changes: what its agent's threads have, and can keep. Readable, and equal where all is equal.</summary>
    public string Credentials => Ids + Part("userns", UserNamespace) + Part("pidns", PidNamespace) + Capabilities(User == 0 ? s_rootsPermitted : 0) + Part("label", Label);

    /// <summary>The domain by its name where no rule says otherwise.</summary>
    public string Name => Credentials + Part("container", Container);

    /// <summary>What divides a named group too, with a space before it: no rule joins two user namespaces, sets of capabilities or labels. Empty for an ordinary program.</summary>
    public string Undivided => Part("userns", UserNamespace) + Capabilities(0) + Part("label", Label);

    /// <summary>Whether others of its domain may look into it only if it is dumpable. The process itself is asked for that when it is taken in: the owner of its files shows it
    /// of other users than root only. In an inner user namespace CAP_SYS_PTRACE does not help with memory that is of the outer one, as it is until the next exec.</summary>
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
            status.Permitted, LabelOf(pid), known?.Container ?? ContainerOf(pid, status));
    }

    /// <summary>Whether other programs of its user may not look into a process. The kernel shows that by the owner of its files in /proc, proc(5).</summary>
    /// <remarks>Root's show nothing.</remarks>
    public static bool IsKeptFromItsUser(int pid, ProcessStatus status) =>
        FileBlocks.TryReadOwner($"/proc/{pid}/maps", out uint owner) && owner != status.Uids.Effective;

    private static string Part(string word, string value) => value.Length == 0 ? "" : $" {word}:{value}";

    private string Capabilities(ulong expected) => Permitted == expected ? "" : Part("caps", Permitted.ToString("x", CultureInfo.InvariantCulture));

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
