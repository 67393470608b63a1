using Samepage.Linux.ProcFs;

namespace Samepage.Rules;

/// <summary>What rules ask of a process; read when it is asked for.</summary>
/// <param name="pid">The process.</param>
/// <param name="known">Its status, where it was read already.</param>
internal class ProcessFacts(int pid, ProcessStatus? known = null)
{
    private readonly Lazy<ProcessStatus?> _status = new(() => known ?? ProcessStatus.TryReadLiving(pid));
    private readonly Lazy<string> _executable = new(() => ExecutableOf(pid));
    private string? _cgroup;

    /// <summary>It has memory of its own, and has not ended.</summary>
    public bool IsProgram => _status.Value is { HasMemory: true, State: not ('Z' or 'X') };

    /// <summary>The effective user id; -1 when it is gone.</summary>
    public virtual long User => _status.Value?.Uids.Effective ?? -1L;

    /// <summary>The command name.</summary>
    public virtual string Name => _status.Value?.Name ?? "";

    /// <summary>The path in the unified hierarchy, cgroups(7); empty when it is gone.</summary>
    public virtual string Cgroup => _cgroup ??= CgroupOf(pid);

    /// <summary>The path of the program; empty when it is gone.</summary>
    public virtual string Executable => _executable.Value;

    /// <summary>This machine has the unified hierarchy.</summary>
    public static bool HasCgroups => CgroupOf(Environment.ProcessId).Length > 0;

    /// <remarks>A first thread that has ended is not moved any more when its process is: then another one says.</remarks>
    private static string CgroupOf(int pid)
    {
        _ = ProcFile.TryRead($"/proc/{LivingThread.Of(pid)}/cgroup", out string text);
        return text.Split('\n').FirstOrDefault(line => line.StartsWith("0::", StringComparison.Ordinal))?[3..] ?? "";
    }

    private static string ExecutableOf(int pid) => ProcLinks.TargetOf($"/proc/{LivingThread.Of(pid)}/exe") ?? "";
}
