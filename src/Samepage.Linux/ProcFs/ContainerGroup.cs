using System.Security.Cryptography;
using System.Text;

namespace Samepage.Linux.ProcFs;

/// <summary>Tells by its control group which container a process is in, whatever namespaces it shares with the machine.</summary>
/// <remarks>
/// <para>Runtimes name the group that they make for a container; no list of them is complete, and a container that is in none of these has a pid namespace of its own
/// nearly always. The outermost such group decides: a program in a container may be able to make groups below its own, and call them what it likes.</para>
/// <code>
///   docker-ID.scope   libpod-ID.scope   crio-ID.scope   cri-containerd-ID.scope   nerdctl-ID.scope      by systemd; ID: 64 hexadecimal digits
///   docker/ID   kubepods/…/podUID/ID   libpod_parent/libpod-ID   crio-ID                                without systemd
///   lxc.payload.NAME   lxc.payload/NAME   lxc/NAME                                                      LXC, Incus
///   systemd-nspawn@NAME.service   machine.slice/machine-NAME.scope                                      systemd-nspawn, machined; not machine-qemu…, which are guests
/// </code>
/// <para>The processes that look after containers (conmon, lxc.monitor) have groups of other names, and are none of them.</para>
/// </remarks>
public static class ContainerGroup
{
    private const int IdLength = 64, IdShown = 12, NameMax = 40;
    private static readonly string[] s_scopes = ["docker-", "libpod-", "crio-", "cri-containerd-", "nerdctl-"];

    /// <summary>The container of a process.</summary>
    /// <param name="text">What <c>/proc/PID/cgroup</c> says, cgroups(7).</param>
    /// <returns>A name of letters, digits and <c>._@-~</c>, such as <c>docker-0123456789ab</c>; empty where it is in none that is known.</returns>
    public static string NameOf(string text)
    {
        foreach (string line in text.Split('\n'))
        {
            int path = line.IndexOf(':', line.IndexOf(':') + 1) + 1;
            if (path > 1 && InPath(line[path..]) is { Length: > 0 } name)
                return name;
        }

        return "";
    }

    private static string InPath(string path)
    {
        const string Removed = " (deleted)"; // the kernel's word for a group that has gone since
        if (path.EndsWith(Removed, StringComparison.Ordinal))
            path = path[..^Removed.Length];
        string above = "";
        foreach (string group in path.Split('/'))
        {
            if (Named(above, group) is { } name)
                return name;
            above = group;
        }

        return "";
    }

    private static string? Named(string above, string group)
    {
        string bare = WithoutEnd(group, ".scope");
        if (IsId(bare))
            return (above == "docker" ? "docker-" : "") + bare[..IdShown];
        foreach (string scope in s_scopes)
        {
            if (bare.StartsWith(scope, StringComparison.Ordinal) && IsId(bare[scope.Length..]))
                return bare[..(scope.Length + IdShown)];
        }

        if (group.StartsWith("lxc.payload.", StringComparison.Ordinal))
            return "lxc-" + Plain(group["lxc.payload.".Length..]);
        if (above is "lxc" or "lxc.payload" && group.Length > 0)
            return "lxc-" + Plain(group);
        if (group.StartsWith("systemd-nspawn@", StringComparison.Ordinal))
            return "nspawn-" + Plain(WithoutEnd(group["systemd-nspawn@".Length..], ".service"));
        return above == "machine.slice" && group.StartsWith("machine-", StringComparison.Ordinal) && !group.StartsWith("machine-qemu", StringComparison.Ordinal)
            && !group.EndsWith(".slice", StringComparison.Ordinal)
            ? "machine-" + Plain(bare["machine-".Length..]) : null;
    }

    /// <summary>A text that somebody else chose as one that can stand in a name: itself where it is short and plain, and otherwise a digest.</summary>
    public static string Plain(string text) =>
        text.Length is > 0 and <= NameMax && text.All(letter => char.IsAsciiLetterOrDigit(letter) || letter is '.' or '_' or '-' or ':' or '@' or ',') ? text
        : "~" + Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)).AsSpan(0, 8));

    private static bool IsId(string text) => text.Length == IdLength && text.All(char.IsAsciiHexDigitLower);

    private static string WithoutEnd(string text, string end) => text.EndsWith(end, StringComparison.Ordinal) ? text[..^end.Length] : text;
}
