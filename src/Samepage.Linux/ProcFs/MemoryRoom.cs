using System.Globalization;

namespace Samepage.Linux.ProcFs;

/// <summary>How much more memory a process may take before somebody is killed for it: what the machine has, and what the limits of its control groups leave.</summary>
/// <remarks>An estimate: others take memory, too. What the kernel can take back from files counts as free, and so does free swap.</remarks>
public static class MemoryRoom
{
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
                    long here = LeftIn(root + path, unified);
                    if (here == long.MaxValue || here + swap >= left)
                        continue;
                    (left, where) = (here + swap, $"the limit of its memory control group {path}");
                }
            }
        }

        return left;
    }

    private static long LeftIn(string folder, bool unified)
    {
        if (!ProcFile.TryRead($"{folder}/{(unified ? "memory.max" : "memory.limit_in_bytes")}", out string limit) ||
            !long.TryParse(limit.AsSpan().Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out long most) || // "max"
            !ProcFile.TryRead($"{folder}/{(unified ? "memory.current" : "memory.usage_in_bytes")}", out string used) ||
            !ProcFile.TryRead($"{folder}/memory.stat", out string statistics))
        {
            return long.MaxValue;
        }

        string prefix = unified ? "" : "total_";
        long files = Field(statistics, prefix + "inactive_file ") + Field(statistics, prefix + "active_file ");
        return most - long.Parse(used.AsSpan().Trim(), CultureInfo.InvariantCulture) + files;
    }

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
