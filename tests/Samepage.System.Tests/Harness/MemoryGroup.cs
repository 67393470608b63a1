using System.Globalization;

namespace Samepage.SystemTests.Harness;

/// <summary>A memory control group of a test's own, of the first kind or the second, cgroups(7).</summary>
internal sealed class MemoryGroup : IDisposable
{
    private readonly string _folder;
    private readonly bool _second;

    private MemoryGroup(string parent, bool second)
    {
        (_folder, _second) = (Path.Combine(parent, $"samepage-test-{Environment.ProcessId}-{Guid.NewGuid():N}"), second);
        Directory.CreateDirectory(_folder);
    }

    /// <summary>Bytes in use.</summary>
    public long Usage => long.Parse(File.ReadAllText(Path.Combine(_folder, _second ? "memory.current" : "memory.usage_in_bytes")), CultureInfo.InvariantCulture);

    /// <summary>Waits until so much less is in use than was: what a program no longer needs is taken off its account some time behind, and a limit set before would leave room for it to come back.</summary>
    /// <param name="bytes">How much less.</param>
    /// <param name="used">Than what.</param>
    public Task Freed(long bytes, long used) => Until.True(() => Usage < used - bytes, 60, () => $"the group's memory goes down by {bytes} bytes from {used}: {Usage}");

    /// <summary>The file that a process becomes a member by.</summary>
    public string Members => Path.Combine(_folder, "cgroup.procs");

    /// <summary>What makes a command a member of the group before it begins.</summary>
    public string[] Launcher => ["sh", "-c", $"echo $$ > {Members} && exec \"$@\"", "sh"];

    /// <summary>Makes one below the group that we are in; without such groups, or the right to make one, the test is skipped.</summary>
    public static MemoryGroup Make()
    {
        Needs.Root();
        foreach (string line in File.ReadLines("/proc/self/cgroup"))
        {
            string[] fields = line.Split(':', 3);
            if (fields[1].Split(',').Contains("memory") && Directory.Exists("/sys/fs/cgroup/memory" + fields[2]))
                return new MemoryGroup("/sys/fs/cgroup/memory" + fields[2], second: false);
            // Only a group without members may hand control on, so a group of the second kind is made at the top.
            if (fields[1].Length == 0 && File.Exists("/sys/fs/cgroup/cgroup.subtree_control") && File.ReadAllText("/sys/fs/cgroup/cgroup.subtree_control").Contains("memory", StringComparison.Ordinal))
                return new MemoryGroup("/sys/fs/cgroup", second: true);
        }

        Assert.Skip("needs memory control groups");
        throw new InvalidOperationException();
    }

    /// <summary>Sets the limit, and lifts the one of swap; null for none.</summary>
    public void Limit(long? bytes)
    {
        if (!_second && File.Exists(MemoryAndSwap))
            File.WriteAllText(MemoryAndSwap, "-1"); // never below the other
        File.WriteAllText(Path.Combine(_folder, _second ? "memory.max" : "memory.limit_in_bytes"), bytes?.ToString(CultureInfo.InvariantCulture) ?? (_second ? "max" : "-1"));
    }

    /// <summary>Sets how much of the machine's swap it may use in addition; a kernel that does not count swap skips the test.</summary>
    public void LimitSwap(long bytes)
    {
        string file = _second ? Path.Combine(_folder, "memory.swap.max") : MemoryAndSwap;
        Assert.SkipUnless(File.Exists(file), "needs control groups that count swap (swapaccount=1)");
        if (!_second)
            bytes += long.Parse(File.ReadAllText(Path.Combine(_folder, "memory.limit_in_bytes")), CultureInfo.InvariantCulture);
        File.WriteAllText(file, bytes.ToString(CultureInfo.InvariantCulture));
    }

    private string MemoryAndSwap => Path.Combine(_folder, "memory.memsw.limit_in_bytes");

    /// <summary>Processes that the kernel has killed in it for its limit.</summary>
    public long Killed => File.ReadLines(Path.Combine(_folder, _second ? "memory.events" : "memory.oom_control"))
        .Where(line => line.StartsWith("oom_kill ", StringComparison.Ordinal)).Select(line => long.Parse(line.Split(' ')[1], CultureInfo.InvariantCulture)).FirstOrDefault();

    public void Dispose()
    {
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
