using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Samepage.Linux.Kernels;
using static Samepage.Linux.Interop.FileCalls;
using static Samepage.Linux.Interop.LibC;

namespace Samepage.Linux;

/// <summary>What one probe of the kernel answered.</summary>
/// <param name="Works">The kernel has it, and this process may use it.</param>
/// <param name="Answer">The call that was tried and the errno it gave, such as <c>openat(/dev/userfaultfd): EACCES</c>; empty when it works.</param>
/// <param name="NotPermitted">The kernel refused for want of privilege: it may well have the feature.</param>
public readonly record struct KernelProbe(bool Works, string Answer, bool NotPermitted)
{
    internal static KernelProbe Ok => new(true, "", false);

    internal static KernelProbe Failed(string call, int errno) => new(false, $"{call}: {KernelFeatures.ErrnoName(errno)}", errno is KernelFeatures.EPERM or KernelFeatures.EACCES);
}

/// <summary>The facts about this kernel on which merging depends, each found by trying and not by the version number.</summary>
/// <remarks>
/// A version number says what the upstream kernel of that number can do; distributions carry features back, containers
/// take them away. So every feature is probed on this very process, and nothing outlives the probe.
/// </remarks>
public sealed unsafe class KernelFeatures
{
    /// <summary>The first kernel that has all that merging needs: UFFDIO_MOVE (6.8), PIDFD_THREAD (6.9), PROCMAP_QUERY (6.11).</summary>
    public static readonly Version OldestVersion = new(6, 11);

    // Feature bits of userfaultfd, by the names of linux/userfaultfd.h without their common prefix.
    private static readonly (string Name, ulong Bit)[] s_needed =
    [
        ("PAGEFAULT_FLAG_WP", 1ul << 0), ("EVENT_FORK", EVENT_FORK), ("EVENT_REMAP", 1ul << 2), ("EVENT_REMOVE", 1ul << 3),
        ("MINOR_SHMEM", 1ul << 10), ("WP_UNPOPULATED", 1ul << 13), ("WP_ASYNC", 1ul << 15), ("MOVE", 1ul << 16),
    ];

    private const ulong EVENT_FORK = 1ul << 1;
    internal const int EPERM = 1;
    internal const int EACCES = 13;
    private const int O_RDONLY = 0;
    private const int O_RDWR = 2;
    private const int O_CLOEXEC = 0x80000;
    private const int O_NONBLOCK = 0x800;
    private const long FSOPEN_CLOEXEC = 1;
    private const uint PIDFD_THREAD = 0x80; // O_EXCL
    private const nuint USERFAULTFD_IOC_NEW = 0xAA00;
    private const nuint UFFDIO_API = 0xC018AA3F;
    private const nuint PAGEMAP_SCAN = 0xC0606610;
    private const nuint PROCMAP_QUERY = 0xC0686611;
    private const ulong PAGE_IS_PRESENT = 1ul << 3;
    private const ulong PROCMAP_QUERY_COVERING_OR_NEXT_VMA = 0x10;

    /// <summary>The release string, as <c>uname -r</c> prints it.</summary>
    public required string Release { get; init; }

    /// <summary>Which upstream kernel it is made of.</summary>
    public required KernelRelease Kernel { get; init; }

    /// <summary>What <see cref="PinCount"/> found.</summary>
    public required bool? PinsAreCounted { get; init; }

    /// <summary>The processor architecture that this process runs on.</summary>
    public required Architecture Architecture { get; init; }

    /// <summary>A userfaultfd that also sees faults from inside the kernel can be made.</summary>
    public required KernelProbe Userfault { get; init; }

    /// <summary>The feature bits that the kernel says its userfaultfd has; 0 when none could be made.</summary>
    public required ulong UserfaultFeatures { get; init; }

    /// <summary><c>UFFDIO_API</c> grants the needed features, among them <c>EVENT_FORK</c>, which asks for CAP_SYS_PTRACE.</summary>
    public required KernelProbe UserfaultGrant { get; init; }

    /// <summary><c>PAGEMAP_SCAN</c> on <c>/proc/self/pagemap</c> answers.</summary>
    public required KernelProbe PagemapScan { get; init; }

    /// <summary><c>PROCMAP_QUERY</c> on <c>/proc/self/maps</c> answers.</summary>
    public required KernelProbe ProcmapQuery { get; init; }

    /// <summary><c>pidfd_open</c> knows <c>PIDFD_THREAD</c>.</summary>
    public required KernelProbe PidfdThread { get; init; }

    /// <summary>A tmpfs whose pages are never swapped out can be made: frame pools lie on one.</summary>
    public required KernelProbe FramePoolMount { get; init; }

    /// <summary>The kernel is at least <see cref="OldestVersion"/>.</summary>
    public bool IsNewEnough => Kernel.Series.CompareTo((OldestVersion.Major, OldestVersion.Minor)) >= 0;

    /// <summary>The names of the needed userfaultfd features that this kernel lacks.</summary>
    public string[] MissingUserfaultFeatures => [.. s_needed.Where(f => (UserfaultFeatures & f.Bit) == 0).Select(f => f.Name)];

    /// <summary>Tries each feature once. Takes well under a millisecond, and leaves nothing behind.</summary>
    public static KernelFeatures Probe()
    {
        string release = ReadRelease();
        (KernelProbe userfault, ulong features, KernelProbe grant) = ProbeUserfault();
        return new KernelFeatures
        {
            Release = release,
            Kernel = KernelRelease.Here,
            PinsAreCounted = PinCount.IsKept,
            Architecture = RuntimeInformation.ProcessArchitecture,
            Userfault = userfault,
            UserfaultFeatures = features,
            UserfaultGrant = grant,
            PagemapScan = ProbePagemapScan(),
            ProcmapQuery = ProbeProcmapQuery(),
            PidfdThread = ProbePidfdThread(),
            FramePoolMount = ProbeFramePoolMount(),
        };
    }

    /// <summary>An errno as errno(3) spells it.</summary>
    internal static string ErrnoName(int errno) => errno switch
    {
        EPERM => "EPERM",
        2 => "ENOENT",
        3 => "ESRCH",
        9 => "EBADF",
        12 => "ENOMEM",
        EACCES => "EACCES",
        14 => "EFAULT",
        16 => "EBUSY",
        19 => "ENODEV",
        22 => "EINVAL",
        23 => "ENFILE",
        24 => "EMFILE",
        25 => "ENOTTY",
        38 => "ENOSYS",
        _ => $"errno {errno}",
    };

    private static string ReadRelease()
    {
        if (Environment.GetEnvironmentVariable(KernelRelease.Variable) is { Length: > 0 } named)
            return named;
        try
        {
            return File.ReadAllText("/proc/sys/kernel/osrelease").Trim();
        }
        catch (IOException)
        {
            return Environment.OSVersion.Version.ToString();
        }
    }

    // The handshake can be done once per descriptor: the first asks what there is, the second asks for what is needed.
    private static (KernelProbe Made, ulong Features, KernelProbe Grant) ProbeUserfault()
    {
        KernelProbe made = MakeUserfault(out SafeFileHandle asking);
        using (asking)
        {
            if (!made.Works)
                return (made, 0, made);
            uffdio_api api = new() { api = 0xAA };
            if (ioctl(asking, UFFDIO_API, &api) < 0)
            {
                KernelProbe refused = KernelProbe.Failed("ioctl(UFFDIO_API)", Marshal.GetLastPInvokeError());
                return (refused, 0, refused);
            }
            ulong wanted = s_needed.Aggregate(0ul, (bits, f) => bits | f.Bit);
            return (made, api.features, (api.features & wanted) == wanted ? AskFor(wanted) : new KernelProbe(false, "ioctl(UFFDIO_API): features are missing", false));
        }
    }

    private static KernelProbe AskFor(ulong features)
    {
        KernelProbe made = MakeUserfault(out SafeFileHandle handle);
        using (handle)
        {
            if (!made.Works)
                return made;
            uffdio_api api = new() { api = 0xAA, features = features };
            return ioctl(handle, UFFDIO_API, &api) < 0
                ? KernelProbe.Failed("ioctl(UFFDIO_API) with EVENT_FORK", Marshal.GetLastPInvokeError())
                : KernelProbe.Ok;
        }
    }

    // The device is asked first, as its permissions can be handed out; userfaultfd(2) is what containers without it have.
    private static KernelProbe MakeUserfault(out SafeFileHandle handle)
    {
        using SafeFileHandle device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
        KernelProbe failed;
        if (device.IsInvalid)
        {
            failed = KernelProbe.Failed("openat(/dev/userfaultfd)", Marshal.GetLastPInvokeError());
        }
        else
        {
            int fd = ioctl(device, USERFAULTFD_IOC_NEW, (void*)(O_CLOEXEC | O_NONBLOCK));
            failed = fd < 0 ? KernelProbe.Failed("ioctl(USERFAULTFD_IOC_NEW)", Marshal.GetLastPInvokeError()) : KernelProbe.Ok;
            handle = new SafeFileHandle(fd, ownsHandle: true);
            if (fd >= 0)
                return KernelProbe.Ok;
        }
        if (RuntimeInformation.ProcessArchitecture == Architecture.X64)
        {
            const long userfaultfd = 323;
            long fd = syscall(userfaultfd, O_CLOEXEC | O_NONBLOCK, 0, 0, 0, 0);
            handle = new SafeFileHandle((nint)fd, ownsHandle: true);
            if (fd >= 0)
                return KernelProbe.Ok;
            int errno = Marshal.GetLastPInvokeError();
            return failed with { Answer = $"{failed.Answer}; userfaultfd(): {ErrnoName(errno)}", NotPermitted = failed.NotPermitted || errno is EPERM };
        }
        handle = new SafeFileHandle(-1, ownsHandle: false);
        return failed;
    }

    private static KernelProbe ProbePagemapScan()
    {
        using SafeFileHandle pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        if (pagemap.IsInvalid)
            return KernelProbe.Failed("openat(/proc/self/pagemap)", Marshal.GetLastPInvokeError());
        page_region region;
        ulong page = (ulong)&region & ~4095ul;
        pm_scan_arg arg = new()
        {
            size = (ulong)sizeof(pm_scan_arg),
            start = page,
            end = page + 4096,
            vec = (ulong)&region,
            vec_len = 1,
            category_mask = PAGE_IS_PRESENT,
            return_mask = PAGE_IS_PRESENT,
        };
        return ioctl(pagemap, PAGEMAP_SCAN, &arg) < 0 ? KernelProbe.Failed("ioctl(PAGEMAP_SCAN)", Marshal.GetLastPInvokeError()) : KernelProbe.Ok;
    }

    private static KernelProbe ProbeProcmapQuery()
    {
        using SafeFileHandle maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
        if (maps.IsInvalid)
            return KernelProbe.Failed("openat(/proc/self/maps)", Marshal.GetLastPInvokeError());
        procmap_query query = new() { size = (ulong)sizeof(procmap_query), query_flags = PROCMAP_QUERY_COVERING_OR_NEXT_VMA };
        return ioctl(maps, PROCMAP_QUERY, &query) < 0 ? KernelProbe.Failed("ioctl(PROCMAP_QUERY)", Marshal.GetLastPInvokeError()) : KernelProbe.Ok;
    }

    private static KernelProbe ProbePidfdThread()
    {
        using SafeFileHandle pidfd = new(pidfd_open(Environment.ProcessId, PIDFD_THREAD), ownsHandle: true);
        return pidfd.IsInvalid ? KernelProbe.Failed("pidfd_open(PIDFD_THREAD)", Marshal.GetLastPInvokeError()) : KernelProbe.Ok;
    }

    // The file system is configured and never mounted; it goes with its descriptor.
    private static KernelProbe ProbeFramePoolMount()
    {
        const long fsopen = 430, fsconfig = 431;
        const long FSCONFIG_SET_FLAG = 0, FSCONFIG_CMD_CREATE = 6;
        fixed (byte* tmpfs = "tmpfs\0"u8, noswap = "noswap\0"u8)
        {
            using SafeFileHandle context = new((nint)syscall(fsopen, (long)tmpfs, FSOPEN_CLOEXEC, 0, 0, 0), ownsHandle: true);
            if (context.IsInvalid)
                return KernelProbe.Failed("fsopen(tmpfs)", Marshal.GetLastPInvokeError());
            long fd = context.DangerousGetHandle();
            if (syscall(fsconfig, fd, FSCONFIG_SET_FLAG, (long)noswap, 0, 0) < 0)
                return KernelProbe.Failed("fsconfig(tmpfs, noswap)", Marshal.GetLastPInvokeError());
            return syscall(fsconfig, fd, FSCONFIG_CMD_CREATE, 0, 0, 0) < 0
                ? KernelProbe.Failed("fsconfig(tmpfs, create)", Marshal.GetLastPInvokeError())
                : KernelProbe.Ok;
        }
    }

    private static int pidfd_open(int pid, uint flags) => (int)syscall(434, pid, flags, 0, 0, 0);
}
