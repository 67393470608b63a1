using System.Globalization;

namespace Samepage.Linux.ProcFs;

/// <summary>One line of <c>/proc/PID/maps</c>, with the flags that smaps adds to it, proc_pid_smaps(5).</summary>
/// <param name="Start">First byte.</param>
/// <param name="End">One past the last byte.</param>
/// <param name="Readable">r</param>
/// <param name="Writable">w</param>
/// <param name="Executable">x</param>
/// <param name="Shared">s rather than p</param>
/// <param name="Offset">Bytes into the file.</param>
/// <param name="Device">Major and minor as one number: major &lt;&lt; 32 | minor.</param>
/// <param name="Inode">0 for anonymous memory.</param>
/// <param name="Name">The path, a name in brackets, or nothing.</param>
/// <param name="Flags">The two-letter VmFlags with a blank after each; empty where only maps was read.</param>
/// <param name="AnonymousHugeBytes">Bytes held in transparent huge pages; 0 where only maps was read.</param>
public readonly record struct Mapping(
    ulong Start, ulong End, bool Readable, bool Writable, bool Executable, bool Shared, ulong Offset, ulong Device, ulong Inode,
    string Name, string Flags, ulong AnonymousHugeBytes)
{
    /// <summary>The protection key of the memory, pkeys(7); 0 for none, and where the processor has no such keys or only maps was read.</summary>
    public int ProtectionKey { get; init; }

    /// <summary>Bytes from start to end.</summary>
    public ulong Length => End - Start;

    /// <summary>True when VmFlags has the two-letter flag.</summary>
    public bool Has(string flag) => Flags.Contains(flag + " ", StringComparison.Ordinal);

    /// <summary>Reads <c>maps</c> or <c>smaps</c> of a process.</summary>
    /// <param name="path">Such as <c>/proc/1/smaps</c>.</param>
    /// <param name="mappings">Cleared, then filled by rising address.</param>
    /// <returns>False when the process is gone or may not be read.</returns>
    public static bool TryReadAll(string path, List<Mapping> mappings)
    {
        mappings.Clear();
        try
        {
            using StreamReader reader = new(new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 65536));
            return TryParse(reader, mappings);
        }
        catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    internal static bool TryParse(TextReader reader, List<Mapping> mappings)
    {
        while (reader.ReadLine() is { } line)
        {
            if (line.StartsWith("VmFlags:", StringComparison.Ordinal))
            {
                if (mappings.Count > 0)
                    mappings[^1] = mappings[^1] with { Flags = string.Intern(line[8..].TrimStart() + (line.EndsWith(' ') ? "" : " ")) };
            }
            else if (line.StartsWith("AnonHugePages:", StringComparison.Ordinal))
            {
                ReadOnlySpan<char> kilobytes = line.AsSpan(14).Trim();
                if (mappings.Count > 0 && kilobytes.Length > 3 && ulong.TryParse(kilobytes[..^3], CultureInfo.InvariantCulture, out ulong value))
                    mappings[^1] = mappings[^1] with { AnonymousHugeBytes = value * 1024 };
            }
            else if (line.StartsWith("ProtectionKey:", StringComparison.Ordinal))
            {
                if (mappings.Count > 0 && int.TryParse(line.AsSpan(14).Trim(), CultureInfo.InvariantCulture, out int key))
                    mappings[^1] = mappings[^1] with { ProtectionKey = key };
            }
            else if (TryParseLine(line, out Mapping mapping))
            {
                mappings.Add(mapping);
            }
        }

        return mappings.Count > 0;
    }

    private static bool TryParseLine(string line, out Mapping mapping)
    {
        mapping = default;
        ReadOnlySpan<char> rest = line;
        int dash = rest.IndexOf('-'), blank = rest.IndexOf(' ');
        if (dash <= 0 || blank < dash || rest.Length < blank + 6 ||
            !ulong.TryParse(rest[..dash], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong start) ||
            !ulong.TryParse(rest[(dash + 1)..blank], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong end))
        {
            return false;
        }

        ReadOnlySpan<char> modes = rest.Slice(blank + 1, 4);
        rest = rest[(blank + 6)..];
        ulong offset = Field(ref rest, hex: true);
        int colon = rest.IndexOf(':');
        ulong major = ulong.Parse(rest[..colon], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
        rest = rest[(colon + 1)..];
        ulong minor = Field(ref rest, hex: true);
        ulong inode = Field(ref rest, hex: false);
        ReadOnlySpan<char> name = rest.TrimStart();
        mapping = new Mapping(start, end, modes[0] == 'r', modes[1] == 'w', modes[2] == 'x', modes[3] == 's', offset,
            (major << 32) | minor, inode, name.IsEmpty ? "" : name.ToString(), "", 0);
        return true;
    }

    private static ulong Field(ref ReadOnlySpan<char> rest, bool hex)
    {
        int end = rest.IndexOf(' ');
        ReadOnlySpan<char> field = end < 0 ? rest : rest[..end];
        rest = end < 0 ? [] : rest[(end + 1)..];
        return ulong.Parse(field, hex ? NumberStyles.AllowHexSpecifier : NumberStyles.None, CultureInfo.InvariantCulture);
    }
}
