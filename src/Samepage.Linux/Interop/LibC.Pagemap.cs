using System.Runtime.InteropServices;

namespace Samepage.Linux.Interop;

/// <summary>linux/fs.h: <c>PAGEMAP_SCAN</c> and <c>PROCMAP_QUERY</c>; linux/kernel-page-flags.h, by number of the bit.</summary>
internal static partial class LibC
{
    public const ulong PAGEMAP_SCAN = 0xC0606610, PROCMAP_QUERY = 0xC0686611;
    public const ulong PM_SCAN_WP_MATCHING = 1, PM_SCAN_CHECK_WPASYNC = 2;
    public const ulong PAGE_IS_WPALLOWED = 1, PAGE_IS_WRITTEN = 2, PAGE_IS_FILE = 4, PAGE_IS_PRESENT = 8, PAGE_IS_SWAPPED = 16,
        PAGE_IS_PFNZERO = 32, PAGE_IS_HUGE = 64;

    public const int KPF_SWAPCACHE = 13, KPF_COMPOUND_HEAD = 15, KPF_COMPOUND_TAIL = 16, KPF_ZERO_PAGE = 24;

    public const ulong PROCMAP_QUERY_VMA_READABLE = 1, PROCMAP_QUERY_VMA_WRITABLE = 2, PROCMAP_QUERY_VMA_EXECUTABLE = 4,
        PROCMAP_QUERY_VMA_SHARED = 8, PROCMAP_QUERY_COVERING_OR_NEXT_VMA = 16, PROCMAP_QUERY_FILE_BACKED_VMA = 32;

    /// <summary><c>struct page_region</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct page_region
    {
        public ulong start;
        public ulong end;
        public ulong categories;
    }

    /// <summary><c>struct pm_scan_arg</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct pm_scan_arg
    {
        public ulong size;
        public ulong flags;
        public ulong start;
        public ulong end;
        public ulong walk_end;
        public ulong vec;
        public ulong vec_len;
        public ulong max_pages;
        public ulong category_inverted;
        public ulong category_mask;
        public ulong category_anyof_mask;
        public ulong return_mask;
    }

    /// <summary><c>struct procmap_query</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct procmap_query
    {
        public ulong size;
        public ulong query_flags;
        public ulong query_addr;
        public ulong vma_start;
        public ulong vma_end;
        public ulong vma_flags;
        public ulong vma_page_size;
        public ulong vma_offset;
        public ulong inode;
        public uint dev_major;
        public uint dev_minor;
        public uint vma_name_size;
        public uint build_id_size;
        public ulong vma_name_addr;
        public ulong build_id_addr;
    }
}
