using Samepage.Linux.ProcFs;

namespace Samepage.Rules;

/// <summary>What rules ask of a process; read when it is asked for.</summary>
internal class ProcessFacts(int pid)
{
    private readonly Lazy<ProcessStatus?> _status = new(() => ProcessStatus.TryRead($"/proc/{pid}/status"));
    private readonly Lazy<string> _cgroup = new(() => CgroupOf(pid)), _executable = new(() => ExecutableOf(pid));

    /// <summary>It has memory of its own, and has not ended.</summary>
    public bool IsProgram => _status.Value is { HasMemory: true, State: not ('Z' or 'X') };

    /// <summary>The effective user id; -1 when it is gone.</summary>
    public virtual long User => _status.Value?.Uids.Effective ?? -1L;

    /// <summary>The command name.</summary>
    public virtual string Name => _status.Value?.Name ?? "";

    /// <summary>The path in the unified hierarchy, cgroups(7).</summary>
    public virtual string Cgroup => _cgroup.Value;

    /// <summary>The path of the program; empty when it is gone.</summary>
    public virtual string Executable => _executable.Value;

    private static string CgroupOf(int pid)
    {
        _ = ProcFile.TryRead($"/proc/{pid}/cgroup", out string text);
        return text.Split('\n').FirstOrDefault(line => line.StartsWith("0::", StringComparison.Ordinal))?[3..] ?? "";
    }

    private static string ExecutableOf(int pid)
    {
        try
        {
            return File.ResolveLinkTarget($"/proc/{pid}/exe", returnFinalTarget: false)?.FullName ?? "";
        }
        catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }
}
