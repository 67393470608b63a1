namespace Samepage.Linux.ProcFs;

/// <summary>Whether devices, or the kernel for them, may write into a process's memory without its threads: what is pinned must keep its place.</summary>
public enum PinRisk
{
    /// <summary>Nothing of it is known that pins memory beyond a system call.</summary>
    None,

    /// <summary>It has the means: reads of its own may be under way.</summary>
    Possible,

    /// <summary>Memory of it is pinned for long: registered buffers, RDMA, AF_XDP.</summary>
    Certain,
}

/// <summary>Looks for what pins memory. The kernel shows no page's pins, so this goes by what a process has open.</summary>
public static class Pins
{
    /// <summary>Devices whose reads are done when the call returns, or which go by the page tables alone: KVM follows them, vhost's threads fault as the program's own do.</summary>
    private static readonly HashSet<string> Harmless = ["/dev/kvm", "/dev/net/tun", "/dev/vhost-net", "/dev/vhost-vsock", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/console"];

    /// <summary>Looks at a process: its figures, its descriptors, its mappings.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="mappings">Its mappings.</param>
    public static PinRisk Look(int pid, IReadOnlyList<Mapping> mappings)
    {
        if (ProcessStatus.TryRead($"/proc/{pid}/status") is { PinnedKib: > 0 })
            return PinRisk.Certain;
        bool hasAio = mappings.Any(mapping => mapping.Name.StartsWith("/[aio]", StringComparison.Ordinal));
        return hasAio || OpenFiles.Any(pid, MayPin) ? PinRisk.Possible : PinRisk.None;
    }

    private static bool MayPin(string target) => target == "anon_inode:[io_uring]" ||
        (target.StartsWith("/dev/", StringComparison.Ordinal) && !target.StartsWith("/dev/pts/", StringComparison.Ordinal) &&
         !target.StartsWith("/dev/shm/", StringComparison.Ordinal) && !Harmless.Contains(target));
}
