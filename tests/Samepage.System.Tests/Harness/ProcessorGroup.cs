using System.Globalization;

namespace Samepage.SystemTests.Harness;

/// <summary>A control group of a test's own whose processes get little processor time, of the first kind or the second, cgroups(7).</summary>
internal sealed class ProcessorGroup : IDisposable
{
    private const int PeriodMicroseconds = 100_000;
    private readonly string _folder;
    private readonly bool _second;

    private ProcessorGroup(string parent, bool second)
    {
        (_folder, _second) = (Path.Combine(parent, $"samepage-test-{Environment.ProcessId}-{Guid.NewGuid():N}"), second);
        Directory.CreateDirectory(_folder);
    }

    /// <summary>Makes one at the top; without such groups the test is skipped.</summary>
    public static ProcessorGroup Make()
    {
        Needs.Root();
        if (File.Exists("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
            return new ProcessorGroup("/sys/fs/cgroup/cpu", second: false);
        Assert.SkipUnless(File.Exists("/sys/fs/cgroup/cgroup.subtree_control") && File.ReadAllText("/sys/fs/cgroup/cgroup.subtree_control").Contains("cpu", StringComparison.Ordinal),
            "needs control groups with the cpu controller");
        return new ProcessorGroup("/sys/fs/cgroup", second: true);
    }

    /// <summary>How much of one processor all of them have together; null for no limit.</summary>
    public void Limit(int? percent)
    {
        int quota = percent * PeriodMicroseconds / 100 ?? -1;
        string text = !_second ? quota.ToString(CultureInfo.InvariantCulture) : quota < 0 ? "max" : string.Create(CultureInfo.InvariantCulture, $"{quota} {PeriodMicroseconds}");
        File.WriteAllText(Path.Combine(_folder, _second ? "cpu.max" : "cpu.cfs_quota_us"), text);
    }

    /// <summary>Moves a process into it.</summary>
    public void Take(int pid) => File.WriteAllText(Path.Combine(_folder, "cgroup.procs"), $"{pid}");

    /// <summary>Its processes go back to the top, and it goes.</summary>
    public void Dispose()
    {
        Limit(null);
        foreach (string pid in File.ReadAllLines(Path.Combine(_folder, "cgroup.procs")))
        {
            try
            {
                File.WriteAllText(Path.Combine(_folder, "..", "cgroup.procs"), pid);
            }
            catch (IOException)
            {
                // It ended just now.
            }
        }

        for (int attempt = 0; attempt < 100; attempt++, Thread.Sleep(20))
        {
            try
            {
                Directory.Delete(_folder);
                return;
            }
            catch (IOException)
            {
                // Somebody in it has not ended quite yet.
            }
        }
    }
}
