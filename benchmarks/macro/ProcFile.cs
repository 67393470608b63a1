using System.Globalization;

namespace Samepage.Bench;

/// <summary>Single figures out of files under <c>/proc</c>.</summary>
internal static class ProcFile
{
    /// <summary>The figure behind <paramref name="field"/> in a file of <c>Name:   123 kB</c> lines.</summary>
    public static long KibField(string path, string field)
    {
        foreach (string line in File.ReadLines(path))
            if (line.StartsWith(field, StringComparison.Ordinal))
                return long.Parse(line.AsSpan(field.Length).Trim().TrimEnd("kB").TrimEnd(), NumberStyles.None, CultureInfo.InvariantCulture);
        throw new BenchException($"{path} has no line '{field}'");
    }

    /// <summary>The kernel thread of this name, or 0.</summary>
    public static int KernelThread(string name)
    {
        foreach (string folder in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(folder), NumberStyles.None, CultureInfo.InvariantCulture, out int pid))
                continue;
            try
            {
                // A kernel thread has no command line; a program that merely bears the name has one.
                if (File.ReadAllText($"{folder}/comm").TrimEnd() == name && File.ReadAllText($"{folder}/cmdline").Length == 0)
                    return pid;
            }
            catch (IOException)
            {
                // It ended while we looked.
            }
        }
        return 0;
    }
}
