using System.Runtime.InteropServices;
using Samepage.Linux.Interop;

namespace Samepage.Linux.ProcFs;

/// <summary>A stretch of pages that <c>PAGEMAP_SCAN</c> found alike.</summary>
/// <param name="Start">First byte.</param>
/// <param name="End">One past the last byte.</param>
/// <param name="Categories">The <c>PAGE_IS_…</c> bits asked for.</param>
public readonly record struct PageRegion(ulong Start, ulong End, ulong Categories);

/// <summary>A process's page tables as <c>/proc/PID/pagemap</c> shows them; a read-only descriptor serves for all of it.</summary>
/// <remarks>One thread at a time, as the buffer of regions is the reader's own; <see cref="ReadWords"/> and <see cref="TryReadWords"/> alone use none, and several threads may call them.</remarks>
public sealed unsafe class Pagemap : IDisposable
{
    /// <summary>The category of the kernel's zero page.</summary>
    public const ulong ZeroPage = LibC.PAGE_IS_PFNZERO;

    /// <summary>The other categories that <see cref="Survey"/> tells apart: a page of a file or of shared memory, one that is swapped out, one held in a huge page.</summary>
    public const ulong OfFile = LibC.PAGE_IS_FILE, SwappedOut = LibC.PAGE_IS_SWAPPED, InHugePage = LibC.PAGE_IS_HUGE;

    /// <summary>Bits of a pagemap word, Documentation/admin-guide/mm/pagemap.rst.</summary>
    public const ulong Present = 1UL << 63, Swapped = 1UL << 62, FilePage = 1UL << 61, WriteProtected = 1UL << 57, Exclusive = 1UL << 56, FrameMask = (1UL << 55) - 1;

    /// <summary>Of a word that says <see cref="Swapped"/>: the type of its entry. Below <see cref="FirstOtherType"/> it is an area of swap; the last marks what is not there at all (protected, or a guard); between lie
    /// pages that are being migrated, poisoned, or a device's. include/linux/swap.h.</summary>
    public const ulong SwapTypeMask = 31, FirstOtherType = 23, Marker = 31;

    private const int Capacity = 8192;
    private readonly FileDescriptor _descriptor;
    private readonly LibC.page_region* _regions = (LibC.page_region*)NativeMemory.Alloc(Capacity, (nuint)sizeof(LibC.page_region));

    private Pagemap(FileDescriptor descriptor) => _descriptor = descriptor;

    /// <returns>Null when the process is gone or may not be read.</returns>
    public static Pagemap? TryOpen(int pid) => TryOpen(pid, out _);

    /// <inheritdoc cref="TryOpen(int)"/>
    /// <param name="pid">The process.</param>
    /// <param name="errno">What the system answered: ENOENT for one that is gone, EACCES or EPERM for one that is not ours to read.</param>
    public static Pagemap? TryOpen(int pid, out Errno errno) =>
        FileDescriptor.TryOpen($"/proc/{LivingThread.Of(pid)}/pagemap", writable: false, out FileDescriptor? descriptor, out errno) ? new Pagemap(descriptor!) : null;

    /// <summary>Collects the present pages written since the last call, and protects them again, atomically page by page.</summary>
    /// <remarks>Mappings without asynchronous tracking are passed over. Pages of huge pages are left out, so that watching never splits one.</remarks>
    /// <param name="start">First byte of the range.</param>
    /// <param name="end">One past the last byte.</param>
    /// <param name="regions">Receives what was found, by rising address; not cleared.</param>
    /// <param name="withHugePages">Include pages of huge pages: their first write splits them.</param>
    /// <returns>None; ESRCH when the address space is gone.</returns>
    public Errno CollectWritten(ulong start, ulong end, List<PageRegion> regions, bool withHugePages = false) =>
        Scan(start, end, LibC.PM_SCAN_WP_MATCHING, LibC.PAGE_IS_WRITTEN | LibC.PAGE_IS_PRESENT | (withHugePages ? 0 : LibC.PAGE_IS_HUGE),
            withHugePages ? 0 : LibC.PAGE_IS_HUGE, LibC.PAGE_IS_PFNZERO, regions);

    /// <summary>Lists the pages that hold something, present or in swap, written or not; those of huge pages are left out.</summary>
    /// <inheritdoc cref="CollectWritten" path="/param|/returns"/>
    public Errno CollectPopulated(ulong start, ulong end, List<PageRegion> regions) =>
        Scan(start, end, 0, LibC.PAGE_IS_HUGE, LibC.PAGE_IS_HUGE, LibC.PAGE_IS_PFNZERO, regions, anyOf: LibC.PAGE_IS_PRESENT | LibC.PAGE_IS_SWAPPED);

    /// <summary>Lists the present pages of huge pages, the zero one left out.</summary>
    /// <inheritdoc cref="CollectWritten" path="/param|/returns"/>
    public Errno CollectHuge(ulong start, ulong end, List<PageRegion> regions) =>
        Scan(start, end, 0, LibC.PAGE_IS_PRESENT | LibC.PAGE_IS_HUGE | LibC.PAGE_IS_PFNZERO | LibC.PAGE_IS_FILE, LibC.PAGE_IS_PFNZERO | LibC.PAGE_IS_FILE, 0, regions);

    /// <summary>Lists the present pages that belong to a file: in a mapping of frames, the pages that no write has broken.</summary>
    /// <inheritdoc cref="CollectWritten" path="/param|/returns"/>
    public Errno CollectFilePages(ulong start, ulong end, List<PageRegion> regions) =>
        Scan(start, end, 0, LibC.PAGE_IS_FILE | LibC.PAGE_IS_PRESENT, 0, 0, regions);

    /// <summary>Lists every page that is present or swapped out, with all categories; protects and changes nothing.</summary>
    /// <inheritdoc cref="CollectWritten" path="/param|/returns"/>
    public Errno Survey(ulong start, ulong end, List<PageRegion> regions) =>
        Scan(start, end, 0, 0, 0, OfFile | SwappedOut | InHugePage | ZeroPage, regions, LibC.PAGE_IS_PRESENT | SwappedOut);

    /// <summary>Reads the pagemap words of neighbouring pages.</summary>
    /// <returns>Words read: fewer at the end of the address space.</returns>
    public int ReadWords(ulong start, Span<ulong> words)
    {
        _ = TryReadWords(start, words, out int known);
        return known;
    }

    /// <inheritdoc cref="ReadWords"/>
    /// <param name="start">The first page.</param>
    /// <param name="words">Receives them.</param>
    /// <param name="known">Words read: none when the address space is gone.</param>
    /// <returns>Why not, where the kernel refuses.</returns>
    public Errno TryReadWords(ulong start, Span<ulong> words, out int known)
    {
        fixed (ulong* buffer = words)
        {
            nint bytes = LibC.pread(_descriptor.Number, buffer, (nuint)words.Length * 8, (long)(start / 4096 * 8));
            known = bytes < 0 ? 0 : (int)(bytes / 8);
            return bytes < 0 ? (Errno)Marshal.GetLastPInvokeError() : Errno.None;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _descriptor.Dispose();
        NativeMemory.Free(_regions);
    }

    private Errno Scan(ulong start, ulong end, ulong flags, ulong mask, ulong inverted, ulong report, List<PageRegion> regions, ulong anyOf = 0)
    {
        LibC.pm_scan_arg scan = new()
        {
            size = (ulong)sizeof(LibC.pm_scan_arg),
            flags = flags,
            end = end,
            vec = (ulong)_regions,
            vec_len = Capacity,
            category_inverted = inverted,
            category_mask = mask,
            category_anyof_mask = anyOf,
            return_mask = report == 0 ? LibC.PAGE_IS_PRESENT : LibC.PAGE_IS_PRESENT | report,
        };
        while (start < end)
        {
            scan.start = start;
            int found = LibC.ioctl(_descriptor.Number, LibC.PAGEMAP_SCAN, &scan);
            if (found < 0)
            {
                Errno errno = (Errno)Marshal.GetLastPInvokeError();
                if (errno == Errno.EINTR)
                    continue;
                return errno;
            }

            for (int i = 0; i < found; i++)
                regions.Add(new PageRegion(_regions[i].start, _regions[i].end, _regions[i].categories));
            // The kernel fills a buffer of 512 regions of its own, and walk_end may stay at where that was last full: a scan that did not fill
            // ours has come to the end, and one that did goes on behind its last region, or it would report the tail twice.
            if (found < Capacity)
                break;
            start = Math.Max(scan.walk_end, _regions[found - 1].end);
        }

        return Errno.None;
    }
}
