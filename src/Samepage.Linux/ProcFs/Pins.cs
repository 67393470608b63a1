namespace Samepage.Linux.ProcFs;

/// <summary>Whether devices, or the kernel for them, may write into a process's memory without its threads: what is pinned must keep its place.</summary>
/// <remarks>The kernel shows no page's pins, so this goes by what a process has open. That a process has nothing of the kind proves that nothing of it is pinned for longer than a system call takes; that it
/// has, proves nothing. Its count of pinned memory (VmPin) proves that something is, where it is not 0; it is 0 for what VFIO pins (VmLck), and on some kernels for what io_uring does.</remarks>
public static class Pins
{
    /// <summary>Devices whose reads are done when the call returns, or which go by the page tables alone: KVM follows them, vhost's threads fault as the program's own do.</summary>
    private static readonly HashSet<string> Harmless = ["/dev/kvm", "/dev/net/tun", "/dev/vhost-net", "/dev/vhost-vsock", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/console"];

    /// <summary>Looks at a process: its figures, its descriptors, its mappings.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="mappings">Its mappings: a ring of io_uring or of AF_XDP is seen there also where its descriptor is closed, or registered with itself.</param>
    /// <returns>Whether anything of it may be pinned.</returns>
    public static bool MayBe(int pid, IReadOnlyList<Mapping> mappings) =>
        ProcessStatus.TryRead($"/proc/{pid}/status") is { PinnedKib: > 0 } || mappings.Any(static mapping => IsRing(mapping.Name)) || OpenFiles.Any(pid, MayPin);

    private static bool IsRing(string name) =>
        name.StartsWith("/[aio]", StringComparison.Ordinal) || name.StartsWith("anon_inode:[io_uring]", StringComparison.Ordinal) || name.StartsWith("socket:[", StringComparison.Ordinal);

    private static bool MayPin(string target) => target is "anon_inode:[io_uring]" or "anon_inode:[vfio-device]" or "anon_inode:[vfio]" or "anon_inode:iommufd" ||
        (target.StartsWith("/dev/", StringComparison.Ordinal) && !target.StartsWith("/dev/pts/", StringComparison.Ordinal) &&
         !target.StartsWith("/dev/shm/", StringComparison.Ordinal) && !Harmless.Contains(target));
}
