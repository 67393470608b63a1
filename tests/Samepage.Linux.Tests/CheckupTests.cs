using System.Runtime.InteropServices;
using Samepage.Api;
using Samepage.Doctor;
using Samepage.Linux;
using Samepage.Linux.Kernels;

namespace Samepage.LinuxTests;

/// <summary>What the doctor makes of machines that are not this one.</summary>
public sealed class CheckupTests : IDisposable
{
    private const ulong AllUserfaultFeatures = (1UL << 17) - 1, AllCapabilities = (1UL << 41) - 1, Ptrace = 1UL << 19, SysAdmin = 1UL << 21, Chown = 1;
    private static readonly KernelProbe Works = new(true, "", false);
    private readonly DirectoryInfo _root = Directory.CreateTempSubdirectory("samepage-machine-");

    public CheckupTests()
    {
        Write("proc/self/status", $"Name:\tx\nCapEff:\t{AllCapabilities:x16}\n");
        Write("proc/meminfo", "MemTotal: 1 kB\nSwapTotal:       0 kB\n");
        Write("proc/sys/vm/max_map_count", "65530\n");
        Write("proc/kpagecount", "12345678");
        Write("sys/kernel/mm/ksm/run", "0\n");
        Write("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
        Write("dev/fuse", "");
    }

    [Fact]
    public void AMachineWithEverythingCanDoIt()
    {
        DoctorCheck[] checks = Look(Kernel("7.4.1"));
        Assert.DoesNotContain(checks, check => check.Verdict == "failure");
        // What nobody has mended yet.
        Assert.Equal(["uncounted-pins"], checks.Where(check => check.Verdict == "warning").Select(check => check.Name));
        Assert.Equal("warning", Checkup.Report(checks).Verdict);
    }

    [Fact]
    public void WhereReferencesCannotBeCountedItSaysWhatIsNotGivenBack()
    {
        DoctorCheck check = Checkup.References("bpf(BPF_MAP_CREATE): EPERM");
        Assert.Equal("ok", Checkup.References("").Verdict);
        Assert.Equal("warning", check.Verdict);
        Assert.Contains("EPERM", check.Found, StringComparison.Ordinal);
        Assert.Contains("io_uring", check.Found, StringComparison.Ordinal);
    }

    [Fact]
    public void WhereFiltersCannotBeReadItSaysWhoIsNotServed()
    {
        DoctorCheck check = Checkup.Filters("CAP_SYS_ADMIN is missing");
        Assert.Equal("ok", Checkup.Filters(null).Verdict);
        Assert.Equal("warning", check.Verdict);
        Assert.Contains("CAP_SYS_ADMIN", check.Found, StringComparison.Ordinal);
        Assert.Contains("CONFIG_CHECKPOINT_RESTORE", check.Remedy, StringComparison.Ordinal);
    }

    [Fact]
    public void AnOldKernelIsRefusedByWhatItLacksAndTheRemedyNamesAPackageThatHasIt()
    {
        KernelProbe none = new(false, "ioctl(PAGEMAP_SCAN): ENOTTY", false), noTmpfs = new(false, "fsconfig(tmpfs, noswap): EINVAL", false);
        DoctorCheck[] checks = Look(Kernel("6.1.192", scan: none, tmpfs: noTmpfs, features: (1UL << 13) - 1));
        string[] failures = [.. checks.Where(check => check.Verdict == "failure").Select(check => check.Name)];
        Assert.Equal(["kernel", "userfaultfd", "pagemap-scan", "frame-pool"], failures.Take(4));
        DoctorCheck kernel = checks.Single(check => check.Name == "kernel");
        Assert.Contains("linux-image-6.12-amd64", kernel.Remedy, StringComparison.Ordinal);
        Assert.DoesNotContain("backports", kernel.Remedy, StringComparison.Ordinal);
        Assert.All(checks.Where(check => check.Verdict != "ok"), check => Assert.NotEqual("", check.Remedy));
    }

    [Theory]
    [InlineData(Ptrace, "failure", "CAP_SYS_PTRACE")]
    [InlineData(SysAdmin, "failure", "CAP_SYS_ADMIN")]
    [InlineData(Chown, "warning", "CAP_CHOWN")]
    public void WithoutACapabilityItCannotServeOrServesLess(ulong missing, string verdict, string named)
    {
        Write("proc/self/status", $"Name:\tx\nCapEff:\t{AllCapabilities & ~missing:x16}\n");
        DoctorCheck privileges = Look(Kernel("7.4.1")).Single(check => check.Name == "privileges");
        Assert.Equal(verdict, privileges.Verdict);
        Assert.Contains(named, privileges.Found, StringComparison.Ordinal);
    }

    [Fact]
    public void ControlFilesAreNoMustAndADeviceThatIsNotThereIsAWarning()
    {
        File.Delete(Path.Combine(_root.FullName, "dev/fuse"));
        DoctorCheck fuse = Look(Kernel("7.4.1")).Single(check => check.Name == "fuse");
        Assert.Equal("warning", fuse.Verdict);
        Assert.Contains("ENOENT", fuse.Found, StringComparison.Ordinal);
        Assert.Contains("modprobe fuse", fuse.Remedy, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("6.12.19", "move-swap-cache", "warning", "this kernel has it")]
    [InlineData("6.12.117", "move-swap-cache", "ok", "not in 6.12.117")]
    [InlineData("6.12.117", "move-large-folio", "warning", "this kernel has it")]
    [InlineData("6.12.0-55.el10", "move-swap-cache", "warning", "cannot be told")]
    [InlineData("6.8.9", "scan-loses-dirty-bits", "failure", "this kernel has it")]
    [InlineData("6.8.9", "unregister-wakes-early", "ok", "not met by us")]
    public void EveryBugHasALineWithWhatItIsOnThisKernel(string release, string name, string verdict, string said)
    {
        DoctorCheck[] checks = Look(Kernel(release));
        DoctorCheck check = checks.Single(check => check.Name == name);
        Assert.Equal(verdict, check.Verdict);
        Assert.Contains(said, check.Found, StringComparison.Ordinal);
        Assert.Equal(KernelBugs.All.Select(bug => bug.Name), checks[^KernelBugs.All.Count..].Select(row => row.Name));
    }

    [Theory]
    [InlineData("6.12.36", "warning")]
    [InlineData("6.12.37", "ok")]
    public void SwapIsAWarningWhereNothingIsMergedBesideIt(string release, string verdict)
    {
        Write("proc/meminfo", "SwapTotal:       2048 kB\n");
        Assert.Equal(verdict, Look(Kernel(release)).Single(check => check.Name == "swap").Verdict);
    }

    /// <inheritdoc/>
    public void Dispose() => _root.Delete(recursive: true);

    private DoctorCheck[] Look(KernelFeatures kernel) => Checkup.Machine(kernel, new SystemFacts(_root.FullName));

    private void Write(string file, string text)
    {
        string path = Path.Combine(_root.FullName, file);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
    }

    private static KernelFeatures Kernel(string release, KernelProbe? scan = null, KernelProbe? tmpfs = null, ulong features = AllUserfaultFeatures) => new()
    {
        Release = release,
        Kernel = KernelRelease.Of(release, "", ""),
        PinsAreCounted = null,
        Architecture = Architecture.X64,
        Userfault = Works,
        UserfaultFeatures = features,
        UserfaultGrant = Works,
        PagemapScan = scan ?? Works,
        ProcmapQuery = Works,
        PidfdThread = Works,
        FramePoolMount = tmpfs ?? Works,
    };
}
