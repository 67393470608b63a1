using Samepage.Linux;
using Samepage.Linux.ProcFs;

namespace Samepage.Live;

/// <summary>Who may have pages in common: those who may look into each other's memory anyway, ptrace(2).</summary>
/// <remarks>Whoever is taken in can read the frames of its domain: it has their pool open, read-only. So a domain must not hold anybody whom another in it
/// may not read. The kernel lets programs of one user read each other's memory, but for two kinds: those that are not dumpable, which are left alone, and
/// those of an outer user namespace when the reader is in an inner one (a sandbox that runs under its user's own id), which are a domain of their own.</remarks>
internal static class TrustDomain
{
    private static readonly string s_own = UserNamespace("self");

    /// <summary>The domain of a process by its name: its effective user, and its user namespace where that is not ours.</summary>
    public static string Of(int pid, ProcessStatus status)
    {
        string its = UserNamespace($"{pid}");
        return its.Length == 0 || its == s_own ? $"uid:{status.Uids.Effective}" : $"uid:{status.Uids.Effective} userns:{its}";
    }

    /// <summary>Whether other programs of its user may not look into a process. The kernel shows that by the owner of its files in /proc, proc(5).</summary>
    /// <remarks>Root's show nothing, and root may look into everybody.</remarks>
    public static bool IsKeptFromItsUser(int pid, ProcessStatus status) =>
        FileBlocks.TryReadOwner($"/proc/{pid}/maps", out uint owner) && owner != status.Uids.Effective;

    /// <summary>The inode number; empty where it is not shown.</summary>
    private static string UserNamespace(string pid)
    {
        try
        {
            return new FileInfo($"/proc/{pid}/ns/user").LinkTarget is { } target ? target["user:[".Length..^1] : "";
        }
        catch (Exception hidden) when (hidden is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }
}
