using System.Globalization;

namespace Samepage.Linux.ProcFs;

/// <summary>How many mappings a process may have, <c>vm.max_map_count</c>, and how many of them merging takes.</summary>
public static class MappingLimit
{
    /// <summary>The kernel's limit as it stands now.</summary>
    public static int Read() => int.Parse(File.ReadAllText("/proc/sys/vm/max_map_count"), CultureInfo.InvariantCulture);

    /// <summary>What merging keeps within: a tenth of the limit, and at least a thousand mappings, stay the program's: its own mmap must never fail because of us.</summary>
    public static int ForMerging(int limit) => limit - Math.Max(1000, limit / 10);
}
