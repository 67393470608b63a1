using System.Globalization;

namespace Samepage.Linux.ProcFs;

/// <summary>How much more memory a process may take before somebody is killed for it: what the machine has, and what the limits of its control groups leave.</summary>
/// <remarks>An estimate: others take memory, too. What the kernel can take back from files counts as free, and so does free swap, as far as a group may use it.</remarks>
public static class MemoryRoom
{
    /// <summary>A limit from which on there is none: an exbibyte.</summary>
    private const long Unlimited = 1L << 60;

    private static readonly string[] s_unified = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

    /// <summary>Reads it.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="where">What bounds it, for people.</param>
    /// <returns>Bytes; <see cref="long.MaxValue"/> where nothing is known to bound it.</returns>
    public static long Left(int pid, out string where)
    {
        where = "this machine has no memory left";
        long left = long.MaxValue, swap = 0;
        if (ProcFile.TryRead("/proc/meminfo", out string machine))
        {
            swap = Field(machine, "SwapFree:") * 1024;
            left = (Field(machine, "MemAvailable:") * 1024) + swap;
        }

        if (!ProcFile.TryRead($"/proc/{pid}/cgroup", out string groups))
            return left;
        foreach (string line in groups.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            string[] fields = line.Split(':', 3);
            bool unified = fields.Length == 3 && fields[1].Length == 0;
            if (fields.Length != 3 || (!unified && !fields[1].Split(',').Contains("memory")))
                continue;
            foreach (string root in unified ? s_unified : ["/sys/fs/cgroup/memory"])
            {
                for (string path = fields[2]; path.Length > 1; path = path[..path.LastIndexOf('/')])
                {
                    long here = unified ? LeftIn(root + path, swap) : LeftInLegacy(root + path, swap);
                    if (here < left)
                        (left, where) = (here, $"the limit of its memory control group {path}");
                }
            }
        }

        return left;
    }

    /// <summary>What a group of control groups version 2 leaves: what is free below its limit, and what of the free swap it may use.</summary>
    private static long LeftIn(string folder, long swapFree)
    {
        long memory = Below($"{folder}/memory.max", $"{folder}/memory.current"), swap = Below($"{folder}/memory.swap.max", $"{folder}/memory.swap.current");
        return memory == long.MaxValue ? memory : memory + Files(folder, "") + Math.Min(swapFree, swap);
    }

    /// <summary>The same of version 1, whose second limit is one of memory and swap together.</summary>
    private static long LeftInLegacy(string folder, long swapFree)
    {
        long memory = Below($"{folder}/memory.limit_in_bytes", $"{folder}/memory.usage_in_bytes"), both = Below($"{folder}/memory.memsw.limit_in_bytes", $"{folder}/memory.memsw.usage_in_bytes");
        if (memory == long.MaxValue && both == long.MaxValue)
            return long.MaxValue;
        long files = Files(folder, "total_");
        return Math.Min(memory == long.MaxValue ? memory : memory + swapFree, both == long.MaxValue ? both - files : both) + files;
    }

    /// <summary>What is left below a limit; <see cref="long.MaxValue"/> without one.</summary>
    /// <remarks>Version 1 says "no limit" by the largest number of whole pages that fits, which is not to be added to.</remarks>
    private static long Below(string limitFile, string usedFile) =>
        ProcFile.TryRead(limitFile, out string limit) && ProcFile.TryRead(usedFile, out string used) &&
        long.TryParse(limit.AsSpan().Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out long most) && most < Unlimited
            ? most - long.Parse(used.AsSpan().Trim(), CultureInfo.InvariantCulture)
            : long.MaxValue;

    /// <summary>What the kernel can take back of a group without swap.</summary>
    private static long Files(string folder, string prefix) =>
        ProcFile.TryRead($"{folder}/memory.stat", out string statistics) ? Field(statistics, prefix + "inactive_file ") + Field(statistics, prefix + "active_file ") : 0;

    private static long Field(string text, string name)
    {
        foreach (ReadOnlySpan<char> line in text.AsSpan().EnumerateLines())
        {
            if (!line.StartsWith(name, StringComparison.Ordinal))
                continue;
            ReadOnlySpan<char> value = line[name.Length..].Trim();
            int end = value.IndexOf(' ');
            return long.Parse(end < 0 ? value : value[..end], CultureInfo.InvariantCulture);
        }

        return 0;
    }
}
