using System.Diagnostics;
using Samepage.Linux.Interop;

namespace Samepage.Linux.Processes;

/// <summary>What it costs on this machine to have the processor forget the translations of a few pages.</summary>
/// <remarks>The kernel flushes page by page up to <see cref="OneByOneMax"/> pages, and everything at once beyond that (<c>tlb_single_page_flush_ceiling</c>). On bare metal and under most
/// hypervisors a page takes a tenth of a microsecond; under some, twenty and more.</remarks>
public static unsafe class TranslationFlush
{
    /// <summary>The most pages that are flushed one by one.</summary>
    public const int OneByOneMax = 33;

    private const int Pages = 32, Tries = 24;
    private const double DearFrom = 2000;
    private static readonly Lazy<bool> Found = new(() => NanosecondsPerPage() > DearFrom);

    /// <summary>It costs so much that it is better to have everything flushed: more than two microseconds a page, the change of its entry included. Measured at the first call, in less than ten
    /// milliseconds; no where there is no memory to try it on. Any thread's.</summary>
    public static bool IsDear => Found.Value;

    /// <summary>The least of some tries.</summary>
    private static double NanosecondsPerPage()
    {
        const nuint Bytes = Pages * 4096;
        byte* memory = (byte*)LibC.mmap(null, Bytes, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS, -1, 0);
        if ((nint)memory == -1)
            return 0;
        try
        {
            double least = double.MaxValue;
            for (int i = 0; i < Tries; i++)
            {
                for (nuint at = 0; at < Bytes; at += 4096)
                    memory[at]++;
                long start = Stopwatch.GetTimestamp();
                bool isProtected = LibC.mprotect(memory, Bytes, LibC.PROT_READ) == 0;
                least = Math.Min(least, Stopwatch.GetElapsedTime(start).TotalNanoseconds / Pages);
                if (!isProtected || LibC.mprotect(memory, Bytes, LibC.PROT_READ | LibC.PROT_WRITE) != 0)
                    return 0;
            }

            return least;
        }
        finally
        {
            _ = LibC.munmap(memory, Bytes);
        }
    }
}
