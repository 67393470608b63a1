namespace Samepage.SystemTests.Harness;

/// <summary>A control group of the unified hierarchy of a test's own, cgroups(7); it needs no controller.</summary>
internal sealed class UnifiedGroup : IDisposable
{
    private readonly string _folder;

    private UnifiedGroup(string root, string name)
    {
        Path = $"/{name}";
        _folder = root + Path;
        Directory.CreateDirectory(_folder);
    }

    /// <summary>Its path, as <c>/proc/PID/cgroup</c> has it.</summary>
    public string Path { get; }

    /// <summary>Makes one at the top; without such groups the test is skipped.</summary>
    public static UnifiedGroup Make(string? name = null)
    {
        Needs.Root();
        string? root = Array.Find(["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], folder => File.Exists($"{folder}/cgroup.controllers"));
        Assert.SkipWhen(root is null, "needs the unified hierarchy of control groups");
        return new UnifiedGroup(root!, name ?? $"samepage-test-{Environment.ProcessId}-{Guid.NewGuid():N}");
    }

    /// <summary>Moves a process into it.</summary>
    public void Take(int pid) => File.WriteAllText($"{_folder}/cgroup.procs", $"{pid}");

    /// <summary>Stops all that its processes do, or sets them going again.</summary>
    public void Freeze(bool frozen) => File.WriteAllText($"{_folder}/cgroup.freeze", frozen ? "1" : "0");

    /// <summary>Its processes go back to the top, and it goes.</summary>
    public void Dispose()
    {
        Freeze(false);
        foreach (string pid in File.ReadAllLines($"{_folder}/cgroup.procs"))
            File.WriteAllText($"{_folder}/../cgroup.procs", pid);
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
