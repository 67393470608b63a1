using System.Globalization;
using Samepage.Linux;

namespace Samepage.Doctor;

/// <summary>Reads the files under <c>/proc</c> and <c>/sys</c> that the doctor looks at.</summary>
/// <param name="root"><c>/</c>, or a directory that stands in for it.</param>
internal sealed class SystemFacts(string root)
{
    /// <summary>The kernel's own samepage merging runs; null where the kernel has none.</summary>
    public bool? KernelKsmRuns => ReadLine("sys/kernel/mm/ksm/run") is { } run ? run == "1" : null;

    /// <summary><c>always</c>, <c>madvise</c> or <c>never</c>; null where the kernel has no transparent huge pages.</summary>
    public string? HugePages
    {
        get
        {
            // The chosen word stands in brackets: "always [madvise] never".
            string? words = ReadLine("sys/kernel/mm/transparent_hugepage/enabled");
            int open = words?.IndexOf('[') ?? -1;
            int close = words?.IndexOf(']') ?? -1;
            return open >= 0 && close > open ? words![(open + 1)..close] : null;
        }
    }

    /// <summary>Mappings that a process may have.</summary>
    public long? MapCountMax => ReadNumber("proc/sys/vm/max_map_count");

    /// <summary>Yama's restriction on ptrace, 0 to 3; null where Yama is not active.</summary>
    public long? PtraceScope => ReadNumber("proc/sys/kernel/yama/ptrace_scope");

    /// <summary>The effective capabilities of this process, a bit each; 0 if they cannot be read.</summary>
    public ulong EffectiveCapabilities
    {
        get
        {
            string? line = ReadLines("proc/self/status").FirstOrDefault(l => l.StartsWith("CapEff:", StringComparison.Ordinal));
            return line is not null && ulong.TryParse(line["CapEff:".Length..].Trim(), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong bits) ? bits : 0;
        }
    }

    /// <summary>Swap space, bytes.</summary>
    public long? SwapBytes
    {
        get
        {
            string? line = ReadLines("proc/meminfo").FirstOrDefault(l => l.StartsWith("SwapTotal:", StringComparison.Ordinal));
            string[] words = line?.Split(' ', StringSplitOptions.RemoveEmptyEntries) ?? [];
            return words.Length >= 2 && long.TryParse(words[1], NumberStyles.None, CultureInfo.InvariantCulture, out long kib) ? kib * 1024 : null;
        }
    }

    /// <summary>Why <c>/proc/kpagecount</c> cannot be read; empty when it can.</summary>
    public string PageCountRefusal
    {
        get
        {
            try
            {
                using FileStream file = new(PathOf("proc/kpagecount"), FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
                return file.Read(new byte[8]) == 8 ? "" : "read: no data";
            }
            catch (UnauthorizedAccessException)
            {
                return "openat: EACCES";
            }
            catch (FileNotFoundException)
            {
                return "openat: ENOENT";
            }
            catch (IOException e)
            {
                return e.Message;
            }
        }
    }

    /// <summary>Why <c>/dev/fuse</c> cannot be opened; empty when it can. A descriptor that mounts nothing does nothing.</summary>
    public string FuseRefusal
    {
        get
        {
            bool opened = FileDescriptor.TryOpen(PathOf("dev/fuse"), writable: true, out FileDescriptor? device, out Errno errno);
            device?.Dispose();
            return opened ? "" : $"openat: {errno}";
        }
    }

    private string PathOf(string file) => Path.Combine(root, file);

    private long? ReadNumber(string file) =>
        ReadLine(file) is { } line && long.TryParse(line, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long number) ? number : null;

    private string? ReadLine(string file) => ReadLines(file).FirstOrDefault()?.Trim();

    private string[] ReadLines(string file)
    {
        try
        {
            return File.ReadAllLines(PathOf(file));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }
}
