using Samepage.Linux.Interop;
using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Kernels;

/// <summary>Whether the kernel could be swapping pages of programs out.</summary>
public static unsafe class SwapSpace
{
    /// <summary>Swap is on, is being turned off, or it cannot be told.</summary>
    /// <remarks>Two are asked. sysinfo(2) is the kernel's own word, also in a container whose <c>/proc/swaps</c> somebody has made up; it leaves out what is being turned off, and <c>/proc/swaps</c> lists that until the last page
    /// of it is back.</remarks>
    public static bool IsOn
    {
        get
        {
            LibC.sysinfo info;
            if (LibC.get_sysinfo(&info) != 0 || info.totalswap > 0)
                return true;
            // The first line says what the others are.
            return !ProcFile.TryRead("/proc/swaps", out string text) || text.AsSpan().TrimEnd('\n').Contains('\n');
        }
    }
}
