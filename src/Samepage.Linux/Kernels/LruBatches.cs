using System.Runtime.InteropServices;
using Samepage.Linux.Interop;

namespace Samepage.Linux.Kernels;

/// <summary>The kernel's lists of pages that go to the LRU lists soon, some for each CPU. A page has a reference for being in one, until the list is full, or is emptied.</summary>
/// <remarks>
/// <para>No call does nothing but empty them. Both ways here do that first, and then find nothing to do. They were tried with <see cref="PageReferences"/>, on lists of the own CPU and of others. To seal a file in memory
/// against writing (F_ADD_SEALS) is not enough: that empties the own CPU's, and then mostly sees no need for the others.</para>
/// <para>One caller at a time.</para>
/// </remarks>
internal sealed unsafe class LruBatches : IDisposable
{
    private const int Page = 4096, HugePage = 2 << 20, Bytes = 2 * HugePage;
    private static readonly nint s_failed = -1;
    private readonly byte* _memory;

    /// <exception cref="SyscallException">There is no memory.</exception>
    public LruBatches()
    {
        void* place = LibC.mmap(null, Bytes, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | LibC.MAP_NORESERVE, -1, 0);
        if ((nint)place == s_failed)
            throw new SyscallException("mmap", "room for a huge page", (Errno)Marshal.GetLastPInvokeError());
        _memory = (byte*)place;
        // Where nothing was ever written, there can be no huge page, and the call is refused.
        *_memory = 1;
    }

    /// <summary>Moves pages, of which there are none, in place of collapsing. All CPUs are woken for that, whether their lists have any pages or not; it is for kernels without huge pages.</summary>
    public bool ByMoving { get; set; }

    /// <summary>The call that is used, for people.</summary>
    public string Call => ByMoving ? "move_pages" : "madvise(MADV_COLLAPSE)";

    /// <summary>Empties the lists of all CPUs.</summary>
    /// <returns>What the system refused: EINVAL for collapsing without CONFIG_TRANSPARENT_HUGEPAGE, ENOSYS for moving without CONFIG_NUMA or CONFIG_MIGRATION.</returns>
    public Errno Drain() => (ByMoving ? Move() : Collapse()) == 0 ? Errno.None : (Errno)Marshal.GetLastPInvokeError();

    /// <inheritdoc/>
    public void Dispose() => _ = LibC.munmap(_memory, Bytes);

    /// <summary>A range that ends with a huge page's place but does not begin with it: there is no whole one in it to collapse.</summary>
    private int Collapse()
    {
        byte* huge = (byte*)(((nuint)_memory + HugePage - 1) & ~(nuint)(HugePage - 1));
        return LibC.madvise(huge + Page, HugePage - Page, LibC.MADV_COLLAPSE);
    }

    private static nint Move()
    {
        ulong nothing = 0;
        nint none = (nint)(&nothing);
        return LibC.syscall(SyscallNumbers.move_pages, 0, 0, none, none, none, 0);
    }
}
