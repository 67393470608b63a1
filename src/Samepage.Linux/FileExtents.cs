using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Samepage.Linux.Interop;

namespace Samepage.Linux;

/// <summary>Where a file has data, and where it has holes, which read as zeros: lseek(2), SEEK_DATA.</summary>
public static class FileExtents
{
    /// <summary>The first stretch of data in a range. A file system that does not know has data everywhere.</summary>
    /// <param name="file">The file.</param>
    /// <param name="from">First byte.</param>
    /// <param name="end">One past the last byte.</param>
    /// <returns>Where it begins and ends; both <paramref name="end"/> where there is none.</returns>
    public static (long Start, long End) FirstData(SafeFileHandle file, long from, long end)
    {
        int number = (int)file.DangerousGetHandle();
        long start = LibC.lseek(number, from, LibC.SEEK_DATA);
        if (start < 0)
            return (Errno)Marshal.GetLastPInvokeError() == Errno.ENXIO ? (end, end) : (from, end);
        if (start >= end)
            return (end, end);
        long hole = LibC.lseek(number, start, LibC.SEEK_HOLE);
        return (start, hole <= start ? end : Math.Min(hole, end));
    }
}
