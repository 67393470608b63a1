using System.Buffers;
using System.Text;
using Samepage.Linux.Interop;

namespace Samepage.Linux.ProcFs;

/// <summary>Reads a small file of <c>/proc</c> whole: open, read, close, and nothing else, because every visit to every process does it.</summary>
public static unsafe class ProcFile
{
    /// <summary>More than any such file has: the children of a process, were they all the four million processes that there can be, are half of it. What has a line or more for each mapping has no bound, and is
    /// read as it comes: <see cref="Mapping.TryReadAll"/>, <see cref="MergeAdvice"/>.</summary>
    internal const int LongestBytes = 64 << 20;

    private const int FirstRead = 4096;

    /// <param name="path">Such as <c>/proc/1/stat</c>.</param>
    /// <param name="text">What it says; empty when it cannot be read.</param>
    /// <returns>False when the process is gone, or the file may not be read, or is longer than such files are.</returns>
    public static bool TryRead(string path, out string text)
    {
        text = "";
        if (!FileDescriptor.TryOpen(path, writable: false, out FileDescriptor? file, out _))
            return false;
        byte[] buffer = ArrayPool<byte>.Shared.Rent(FirstRead);
        try
        {
            int length = 0;
            for (; ; )
            {
                nint read;
                fixed (byte* bytes = buffer)
                    read = LibC.read(file!.Number, bytes + length, (nuint)(buffer.Length - length));
                if (read < 0)
                    return false;
                if (read == 0)
                    break;
                length += (int)read;
                if (length > LongestBytes)
                    return false;
                if (length < buffer.Length)
                    continue;
                byte[] larger = ArrayPool<byte>.Shared.Rent(2 * length);
                buffer.AsSpan(0, length).CopyTo(larger);
                ArrayPool<byte>.Shared.Return(buffer);
                buffer = larger;
            }

            text = Encoding.UTF8.GetString(buffer, 0, length);
            return true;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
            file!.Dispose();
        }
    }
}
