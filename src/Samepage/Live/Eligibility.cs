using Samepage.Agent;
using Samepage.Linux;
using Samepage.Linux.ProcFs;
using Samepage.Linux.Seccomp;

namespace Samepage.Live;

/// <summary>Whether a process may be taken in at all. What cannot be done safely is not done, and the reason is shown.</summary>
internal static class Eligibility
{
    /// <summary>What a program with a userfaultfd of its own is told.</summary>
    public const string UsesUserfaultfd = "it uses userfaultfd itself";

    private const ulong CapSysPtrace = 1UL << 19;

    /// <summary>Looks at a process without touching it.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="name">Its command name; empty when there is none.</param>
    /// <param name="domain">Its trust domain where no rule says otherwise; null when it is gone.</param>
    /// <param name="permission">The reason is a missing permission of ours.</param>
    /// <returns>Why not; null when nothing speaks against it, and then the domain is known.</returns>
    public static string? Refuse(int pid, out string name, out TrustDomain? domain, out bool permission)
    {
        permission = false;
        string? reason = RefuseByNature(pid, out name, out domain, out _);
        if (reason is null && ProcessStatus.TryRead("/proc/self/status") is { } self && (self.Capabilities & CapSysPtrace) == 0)
        {
            permission = true;
            reason = "not permitted: the daemon lacks CAP_SYS_PTRACE; run it as root";
        }

        if (reason is null && ProcessStatus.TryReadLiving(pid) is { Seccomp: not 0 } && SeccompSupport.WhyNot() is { } unreadable)
            reason = $"under a seccomp filter, and what that forbids cannot be read: {unreadable}";
        return reason ?? (domain!.IsKnown ? null : $"its trust domain cannot be told: /proc/{pid}/ns or /proc/{pid}/attr cannot be read");
    }

    /// <summary>Looks at what a process is, whoever asks.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="name">Its command name; empty when there is none.</param>
    /// <param name="domain">Its trust domain, also of one that is refused; null when it is gone.</param>
    /// <param name="hasMemory">It is a process with memory of its own, which can at least be looked at.</param>
    /// <returns>Why it cannot be taken in; null when nothing speaks against it.</returns>
    public static string? RefuseByNature(int pid, out string name, out TrustDomain? domain, out bool hasMemory)
    {
        (name, domain, hasMemory) = ("", null, false);
        if (ProcessStatus.TryReadLiving(pid) is not { } status)
            return "no such process";
        int thread = LivingThread.Of(pid);
        name = status.Name;
        domain = TrustDomain.Of(thread, status);
        if (status.ThreadGroup != pid)
            return $"a thread of process {status.ThreadGroup}, not a process";
        if (status.State is 'Z' or 'X')
            return "a zombie: it has ended and waits for its parent";
        if (!status.HasMemory)
            return "a kernel thread: it has no memory of its own";
        hasMemory = true;
        if (pid == Environment.ProcessId)
            return "the samepage daemon itself";
        if ((Changed(thread, status) ?? (OpenFiles.HoldUserfaultfd(thread) ? UsesUserfaultfd : null)) is { } changed)
            return changed;
        if (ProgramClass.IsThirtyTwoBit(thread))
            return "a 32-bit program; only 64-bit ones can be served";
        return null;
    }

    /// <summary>What makes us leave a process that was taken in: these may come at any time.</summary>
    /// <param name="pid">The process, or a thread of its own that lives.</param>
    /// <param name="status">Its status.</param>
    /// <returns>The reason to leave; null to stay.</returns>
    public static string? Changed(int pid, ProcessStatus status)
    {
        if (status.Uids.Real != status.Uids.Effective || status.Uids.Saved != status.Uids.Effective || status.Uids.FileSystem != status.Uids.Effective)
            return "mixed credentials: real, effective and saved user differ";
        if (status.Gids.Real != status.Gids.Effective || status.Gids.Saved != status.Gids.Effective)
            return "mixed credentials: real, effective and saved group differ";
        // What filters forbid is looked for where threads stand still: see FilterChain.
        if (status.Seccomp == 1)
            return "in strict seccomp mode, which would kill it for a call of ours";
        if (status.ShadowStack)
            return "it has a shadow stack (CET): its threads cannot be held safely";
        // What the kernel shows as the tracer is the thread that traces: one of ours holds now and then a thread that it could not let go of yet.
        if (status.Tracer != 0 && !Threads.IsOurs(status.Tracer))
            return $"traced by process {status.Tracer}";
        return TrustDomain.IsKeptFromItsUser(pid, status) ? AgentSession.NotDumpable : null;
    }
}
