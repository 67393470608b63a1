using System.Buffers;
using Samepage.Linux.Interop;

namespace Samepage.Linux.ProcFs;

/// <summary>Whether a process asks for merging, by madvise(2) <c>MADV_MERGEABLE</c> or prctl(2) <c>PR_SET_MEMORY_MERGE</c>.</summary>
public static unsafe class MergeAdvice
{
    private const string Line = "ksm_mergeable: ";

    /// <summary>More than a line of flags has, by far.</summary>
    private const int BufferBytes = 65536;

    /// <summary>Looks at a process.</summary>
    /// <returns>False also when it is gone.</returns>
    public static bool IsGiven(int pid) => ProcFile.TryRead($"/proc/{LivingThread.Of(pid)}/ksm_stat", out string text) && TryParse(text, out bool given) ? given : HasAdvisedMapping($"/proc/{LivingThread.Of(pid)}/smaps");

    /// <param name="text">What <c>ksm_stat</c> says.</param>
    /// <param name="given">Whether some mapping is advised.</param>
    /// <returns>False where an older kernel does not say it there.</returns>
    internal static bool TryParse(string text, out bool given)
    {
        int at = text.IndexOf(Line, StringComparison.Ordinal);
        given = at >= 0 && text.AsSpan(at + Line.Length).StartsWith("yes");
        return at >= 0;
    }

    /// <summary>Looks for a mapping that is advised, and no further than to the first. How long all is, and each line, is the program's to choose: what is kept of it is not.</summary>
    /// <param name="path">Its <c>smaps</c>.</param>
    internal static bool HasAdvisedMapping(string path)
    {
        if (!FileDescriptor.TryOpen(path, writable: false, out FileDescriptor? file, out _))
            return false;
        byte[] buffer = ArrayPool<byte>.Shared.Rent(BufferBytes);
        try
        {
            int kept = 0;
            bool isInLongLine = false;
            for (; ; )
            {
                nint read;
                fixed (byte* bytes = buffer)
                    read = LibC.read(file!.Number, bytes + kept, (nuint)(buffer.Length - kept));
                if (read <= 0)
                    return false;
                ReadOnlySpan<byte> text = buffer.AsSpan(0, kept + (int)read);
                for (int end; (end = text.IndexOf((byte)'\n')) >= 0; text = text[(end + 1)..])
                {
                    if (!isInLongLine && IsAdvised(text[..end]))
                        return true;
                    isInLongLine = false;
                }

                isInLongLine |= text.Length == buffer.Length;
                kept = isInLongLine ? 0 : text.Length;
                text[..kept].CopyTo(buffer);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
            file!.Dispose();
        }
    }

    private static bool IsAdvised(ReadOnlySpan<byte> line) => line.StartsWith("VmFlags:"u8) && line.IndexOf(" mg"u8) >= 0;
}
