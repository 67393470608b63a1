using System.Runtime.InteropServices;
using Samepage.Api;
using Samepage.Cli;
using Samepage.Linux;
using Samepage.Linux.Kernels;

namespace Samepage.Doctor;

/// <summary>Judges what was found: each check is ok, a warning (it works, but less well) or a failure (it cannot work).</summary>
internal static class Checkup
{
    public const string Ok = "ok";
    public const string Warning = "warning";
    public const string Failure = "failure";

    private const long MapCountDefault = 65530;

    // From linux/capability.h; what each is for decides how much its lack matters.
    private static readonly (string Name, int Bit, string Verdict, string Use)[] s_capabilities =
    [
        ("CAP_SYS_PTRACE", 19, Failure, "to put the agent into processes"),
        ("CAP_SYS_ADMIN", 21, Failure, "to make frame pools, and to see which frame a page is"),
        ("CAP_DAC_OVERRIDE", 1, Warning, "to serve processes of other users"),
        ("CAP_CHOWN", 0, Warning, "to keep root without capabilities from reading the pipe that guards frames against huge pages"),
        ("CAP_SYS_RESOURCE", 24, Warning, "to guard the frames of a trust domain with one pipe, and to make room for descriptors in a program that has bounded them; without it there is a pipe for each 512 MiB, up to 64 GiB (more with a larger fs.pipe-max-size), and each agent has a descriptor of each"),
    ];

    /// <summary>Everything that can be said without the daemon.</summary>
    public static DoctorCheck[] Machine(KernelFeatures kernel, SystemFacts facts) =>
    [
        Kernel(kernel),
        Processor(kernel.Architecture),
        Userfault(kernel),
        Probe("pagemap-scan", "PAGEMAP_SCAN answers", kernel.PagemapScan, "a kernel of 6.7 or later has it; a seccomp filter of a container may forbid it"),
        Probe("procmap-query", "PROCMAP_QUERY answers", kernel.ProcmapQuery, "a kernel of 6.11 or later has it; a seccomp filter of a container may forbid it"),
        Probe("pidfd-thread", "pidfd_open takes PIDFD_THREAD", kernel.PidfdThread, "a kernel of 6.9 or later has it; a seccomp filter of a container may forbid it"),
        Probe("frame-pool", "tmpfs takes noswap", kernel.FramePoolMount, "a kernel of 6.4 or later has it; a seccomp filter of a container may forbid it"),
        Privileges(facts.EffectiveCapabilities),
        PtraceScope(facts),
        MapCount(facts.MapCountMax),
        PageCounts(facts.PageCountRefusal),
        KernelKsm(facts.KernelKsmRuns),
        HugePages(facts.HugePages),
        Swap(facts.SwapBytes, KernelBugs.RestraintsOn(kernel.Kernel, kernel.PinsAreCounted)),
        Fuse(facts.FuseRefusal),
        .. KernelBugs.All.Select(bug => Bug(bug, kernel)),
    ];

    /// <summary>Whether references to pages can be counted. Nothing depends on it but how much is given back, and it takes longer than all the rest: so who only wants to serve does not ask.</summary>
    /// <param name="refusal">Why they cannot; empty where they can.</param>
    public static DoctorCheck References(string refusal) => refusal.Length == 0
        ? new("page-references", Ok, "references to pages can be counted: it is seen which pages a device, a registered buffer or a pipe holds", "")
        : new("page-references", Warning, $"references to pages cannot be counted ({refusal}): what was merged and written since is not given back while its process has an io_uring, an AIO context or a device open",
            "a kernel with CONFIG_BPF_SYSCALL and CONFIG_DEBUG_INFO_BTF, not locked down for confidentiality, tells; so does CAP_SYS_ADMIN");

    /// <summary>Whether the seccomp filters of programs can be read. Where they cannot, programs under filters are left alone, and all others are served.</summary>
    /// <param name="refusal">Why not; null where they can.</param>
    public static DoctorCheck Filters(string? refusal) => refusal is null
        ? new("seccomp-filters", Ok, "the seccomp filters of programs can be read: who forbids nothing of what the agent does is served", "")
        : new("seccomp-filters", Warning, $"the seccomp filters of programs cannot be read ({refusal}): programs under filters, most containers and many services among them, are not served",
            "run the daemon as root outside of containers, without a seccomp filter of its own (SystemCallFilter= and its like in a systemd unit), on a kernel with CONFIG_CHECKPOINT_RESTORE");

    /// <summary>What makes it impossible to serve, on this machine and with our privileges; empty when nothing does.</summary>
    public static DoctorCheck[] Failures() => [.. Machine(KernelFeatures.Probe(), new SystemFacts("/")).Where(check => check.Verdict == Failure)];

    /// <summary>Goes on only where it can be served: what stands in the way is said, each with its remedy, as the doctor says it.</summary>
    /// <exception cref="CommandException">It cannot.</exception>
    public static void Demand()
    {
        DoctorCheck[] failures = Failures();
        if (failures.Length == 0)
            return;
        foreach (DoctorCheck failure in failures)
            Output.Complain($"{failure.Name}: {failure.Found}; {failure.Remedy}");
        throw new CommandException(ExitCode.NotPermitted, "this machine cannot merge memory as it is, or we may not; nothing was done", "see: samepage doctor");
    }

    /// <summary>The checks under their worst verdict.</summary>
    public static DoctorReport Report(DoctorCheck[] checks) =>
        new(checks.Any(c => c.Verdict == Failure) ? Failure : checks.Any(c => c.Verdict == Warning) ? Warning : Ok, checks);

    private static DoctorCheck Kernel(KernelFeatures kernel) => kernel.IsNewEnough
        ? new("kernel", Ok, $"Linux {kernel.Release}; {KernelFeatures.OldestVersion} or later is needed", "")
        : new("kernel", Failure, $"Linux {kernel.Release}; needed are UFFDIO_MOVE (6.8), PIDFD_THREAD (6.9) and PROCMAP_QUERY (6.11)",
            $"boot a kernel of {KernelFeatures.OldestVersion} or later; Debian 12 has one among its security updates: apt-get install linux-image-6.12-amd64");

    private static DoctorCheck Processor(Architecture architecture) => architecture == Architecture.X64
        ? new("processor", Ok, "x86-64", "")
        : new("processor", Failure, $"{architecture}; the agent is written for x86-64", "run it on an x86-64 machine, with the x64 build of .NET");

    private static DoctorCheck Userfault(KernelFeatures kernel)
    {
        if (!kernel.Userfault.Works)
        {
            return new("userfaultfd", Failure, kernel.Userfault.Answer, kernel.Userfault.NotPermitted
                ? "run as root, or give this user read and write access to /dev/userfaultfd"
                : "run a kernel that is built with CONFIG_USERFAULTFD; in a container, pass /dev/userfaultfd in");
        }
        string[] missing = kernel.MissingUserfaultFeatures;
        if (missing.Length > 0)
            return new("userfaultfd", Failure, $"this kernel lacks {string.Join(", ", missing)}", $"boot a kernel of {KernelFeatures.OldestVersion} or later");
        return kernel.UserfaultGrant.Works
            ? new("userfaultfd", Ok, "has MOVE, WP_ASYNC, MINOR_SHMEM and the events that are needed", "")
            : new("userfaultfd", Failure, kernel.UserfaultGrant.Answer, "run as root, or with CAP_SYS_PTRACE: without it the kernel reports no forks");
    }

    private static DoctorCheck Probe(string name, string works, KernelProbe probe, string remedy) =>
        probe.Works ? new(name, Ok, works, "") : new(name, Failure, probe.Answer, probe.NotPermitted ? "run as root" : remedy);

    private static DoctorCheck Privileges(ulong effective)
    {
        (string Name, int Bit, string Verdict, string Use)[] missing = [.. s_capabilities.Where(c => (effective >> c.Bit & 1) == 0)];
        return missing.Length == 0
            ? new("privileges", Ok, $"has {string.Join(", ", s_capabilities.Select(c => c.Name))}", "")
            : new("privileges", missing.Any(c => c.Verdict == Failure) ? Failure : Warning,
                $"lacks {string.Join(", ", missing.Select(c => $"{c.Name} ({c.Use})"))}", "run as root, or give the daemon these capabilities (AmbientCapabilities= in a systemd unit)");
    }

    private static DoctorCheck PtraceScope(SystemFacts facts) => facts.PtraceScope switch
    {
        null => new("ptrace-scope", Ok, "Yama is not active", ""),
        >= 3 => new("ptrace-scope", Failure, "kernel.yama.ptrace_scope is 3: no process may attach to another", "remove the setting from /etc/sysctl.d and boot again; 3 cannot be taken back while the kernel runs"),
        long scope => new("ptrace-scope", Ok, $"kernel.yama.ptrace_scope is {scope}; CAP_SYS_PTRACE is enough", ""),
    };

    private static DoctorCheck MapCount(long? max) => max switch
    {
        null => new("max-map-count", Warning, "/proc/sys/vm/max_map_count cannot be read", "see that /proc is mounted"),
        < MapCountDefault => new("max-map-count", Warning, $"vm.max_map_count is {max}, below the kernel's default; it bounds how many runs of pages a process can share", $"sysctl -w vm.max_map_count={MapCountDefault}"),
        _ => new("max-map-count", Ok, $"vm.max_map_count is {max}; raise it if 'samepage status' says that mappings hold merging back", ""),
    };

    private static DoctorCheck PageCounts(string refusal) => refusal.Length == 0
        ? new("kpagecount", Ok, "/proc/kpagecount is readable", "")
        : new("kpagecount", Failure, $"/proc/kpagecount cannot be read ({refusal}), and so not which frames are still in use", "run as root; the kernel needs CONFIG_PROC_PAGE_MONITOR, and a container must not hide the file");

    private static DoctorCheck KernelKsm(bool? runs) => runs switch
    {
        null => new("kernel-ksm", Ok, "this kernel is built without its own merging", ""),
        false => new("kernel-ksm", Ok, "the kernel's own merging is off", ""),
        true => new("kernel-ksm", Warning, "the kernel's own merging runs (/sys/kernel/mm/ksm/run is 1); both would work on the same pages", "echo 2 > /sys/kernel/mm/ksm/run stops it and gives its pages back; also stop ksmtuned, if it is installed"),
    };

    private static DoctorCheck HugePages(string? mode) => mode switch
    {
        null => new("huge-pages", Ok, "this kernel has no transparent huge pages", ""),
        "always" => new("huge-pages", Warning, "transparent huge pages are on for every program; one in which pages are merged is split", "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled leaves them to the programs that ask for them"),
        _ => new("huge-pages", Ok, $"transparent huge pages: {mode}", ""),
    };

    private static DoctorCheck Swap(long? bytes, KernelRestraints restraints) => bytes switch
    {
        null => new("swap", Ok, "unknown: /proc/meminfo has no SwapTotal", ""),
        0 => new("swap", Ok, "none: detaching needs the memory that was saved, so keep it free", ""),
        long some when !restraints.MayMoveWithSwap => new("swap", Warning, $"{Quantity.Bytes(some)}; on this kernel nothing is merged while swap is on (see move-swap-cache)", "swapoff -a, or boot a kernel without that bug"),
        long some => new("swap", Ok, $"{Quantity.Bytes(some)}; pages in swap are left alone", ""),
    };

    private static DoctorCheck Fuse(string refusal) => refusal.Length == 0
        ? new("fuse", Ok, "/dev/fuse can be opened: there will be control files", "")
        : new("fuse", Warning, $"/dev/fuse cannot be opened ({refusal}): there will be no control files (samepage control); all else works", "modprobe fuse; in a container, pass /dev/fuse in");

    /// <summary>A bug of the kernel: a failure where nothing helps, a warning where something is left off for it or it is to be known, ok where it is not there or not met.</summary>
    private static DoctorCheck Bug(KernelBug bug, KernelFeatures kernel)
    {
        BugPresence presence = KernelBugs.Presence(bug, kernel.Kernel, kernel.PinsAreCounted);
        if (presence == BugPresence.Absent)
            return new(bug.Name, Ok, $"not in {kernel.Kernel}: {bug.What}", "");
        if (bug.Answer == BugAnswer.NotMet)
            return new(bug.Name, Ok, $"not met by us: {bug.What} ({bug.Source}); {bug.ForUs}", "");
        string found = presence == BugPresence.Present ? "this kernel has it" : $"it cannot be told whether {kernel.Kernel} has it";
        return new(bug.Name, bug.Answer == BugAnswer.NotServed && presence == BugPresence.Present ? Failure : Warning, $"{found}: {bug.What} ({bug.Source}); {bug.ForUs}", bug.Mended.Length == 0
            ? "no kernel is known that is mended"
            : bug.Answer == BugAnswer.NotServed ? $"boot a kernel of {KernelFeatures.OldestVersion} or later" : $"boot a kernel that is mended: {string.Join(", ", bug.Mended.Split(' '))} or later");
    }
}
