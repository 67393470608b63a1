using System.Buffers;
using Microsoft.Win32.SafeHandles;

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
/// <param name="Name">The path, as far as its first 256 bytes, a name in brackets, or nothing.</param>
/// <param name="Flags">The two-letter VmFlags with a blank after each; empty where only maps was read.</param>
/// <param name="AnonymousHugeBytes">Bytes held in transparent huge pages; 0 where only maps was read.</param>
public readonly record struct Mapping(
    ulong Start, ulong End, bool Readable, bool Writable, bool Executable, bool Shared, ulong Offset, ulong Device, ulong Inode,
    string Name, string Flags, ulong AnonymousHugeBytes)
{
    /// <summary>More than the longest line, which ends with a path of 4,096 bytes, each of them four where it is escaped.</summary>
    private const int BufferBytes = 65536;

    /// <summary>The protection key of the memory, pkeys(7); 0 for none, and where the processor has no such keys or only maps was read.</summary>
    public int ProtectionKey { get; init; }

    /// <summary>Bytes of it in memory or in swap, but for the zero page; 0 where only maps was read.</summary>
    public ulong HeldBytes { get; init; }

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
        MappingParser parser = new(mappings);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(BufferBytes);
        try
        {
            using SafeFileHandle file = File.OpenHandle(path);
            int kept = 0, read;
            for (long at = 0; (read = RandomAccess.Read(file, buffer.AsSpan(kept), at)) > 0; at += read)
            {
                ReadOnlySpan<byte> text = buffer.AsSpan(0, kept + read);
                ReadOnlySpan<byte> rest = parser.Take(text);
                rest.CopyTo(buffer);
                kept = rest.Length;
            }

            return parser.End();
        }
        catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
        {
            return false;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }
}
