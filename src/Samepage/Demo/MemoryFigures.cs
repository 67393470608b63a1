using System.Globalization;
using Samepage.Cli;
using Samepage.Linux;

namespace Samepage.Demo;

/// <summary>Memory by the kernel's own figures.</summary>
/// <param name="PssBytes">Proportional set size: each page divided by the number of processes that map it.</param>
/// <param name="ShmemPssBytes">The part of it that is shared memory: here, frames of a pool.</param>
internal readonly record struct ProcessMemory(long PssBytes, long ShmemPssBytes)
{
    /// <summary>What the process has without the pool's frames.</summary>
    public long OwnBytes => PssBytes - ShmemPssBytes;

    /// <summary>Reads <c>/proc/PID/smaps_rollup</c>.</summary>
    public static ProcessMemory Read(int pid)
    {
        string path = $"/proc/{pid}/smaps_rollup";
        try
        {
            string[] lines = File.ReadAllLines(path);
            return new(Field(lines, "Pss:", path), Field(lines, "Pss_Shmem:", path));
        }
        catch (IOException e)
        {
            throw new CommandException(ExitCode.Failed, $"{path} cannot be read: {e.Message}", "the process may have ended");
        }
    }

    private static long Field(string[] lines, string name, string path)
    {
        string? line = lines.FirstOrDefault(l => l.StartsWith(name, StringComparison.Ordinal));
        string[] words = line?.Split(' ', StringSplitOptions.RemoveEmptyEntries) ?? [];
        return words.Length >= 2 && long.TryParse(words[1], NumberStyles.None, CultureInfo.InvariantCulture, out long kib)
            ? kib * 1024
            : throw new CommandException(ExitCode.Failed, $"{path} has no figure {name.TrimEnd(':')}");
    }
}

/// <summary>The memory of the daemon's frame pools, and of the tables that it shares with its agents.</summary>
/// <remarks>Taken from the files and not from <c>Shmem</c> in <c>/proc/meminfo</c>, which is moved by every other program too.</remarks>
internal static class PoolMemory
{
    private const string PoolFile = "/samepage-frames (deleted)";

    /// <returns>Bytes by the kernel's count of blocks, each file once. The runtime's own memfd for compiled code is left out.</returns>
    public static long Read(int pid)
    {
        Dictionary<FileIdentity, long> files = [];
        foreach (string descriptor in Directory.EnumerateFiles($"/proc/{pid}/fd"))
        {
            if (LinkTarget(descriptor) is { } target && IsOurs(target) && FileBlocks.TryRead(descriptor, out FileIdentity file, out long bytes))
                files[file] = bytes;
        }
        return files.Values.Sum();
    }

    private static bool IsOurs(string target) =>
        target.EndsWith(PoolFile, StringComparison.Ordinal)
        || target.StartsWith("/memfd:", StringComparison.Ordinal) && !target.StartsWith("/memfd:doublemapper", StringComparison.Ordinal);

    private static string? LinkTarget(string descriptor)
    {
        try
        {
            return new FileInfo(descriptor).LinkTarget;
        }
        catch (IOException)
        {
            return null; // Closed since it was listed.
        }
    }
}
