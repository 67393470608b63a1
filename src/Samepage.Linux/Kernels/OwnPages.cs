using System.Runtime.InteropServices;
using Samepage.Linux.Interop;
using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Kernels;

/// <summary>Some pages of this process, to which references are taken on purpose: what a count must show is known beforehand.</summary>
/// <remarks>Private anonymous pages, none of a large folio, and last a page of shared memory that is mapped twice. One caller at a time.</remarks>
internal sealed unsafe class OwnPages : IDisposable
{
    /// <summary>The private ones, and all.</summary>
    public const int Private = 4, Count = Private + 1;

    private const int Page = 4096;
    private static readonly nint s_failed = -1;
    private readonly byte* _private, _shared, _again;

    /// <exception cref="SyscallException">There is no memory.</exception>
    public OwnPages()
    {
        _private = Map(LibC.MAP_PRIVATE, Private * Page);
        _shared = Map(LibC.MAP_SHARED, Page);
        for (int i = 0; i < Private; i++)
            _private[i * Page] = (byte)(i + 1);
        *_shared = Count;
        // An old size of 0 leaves the first mapping of shared memory where it is, mremap(2).
        void* again = LibC.mremap(_shared, 0, Page, LibC.MREMAP_MAYMOVE);
        if ((nint)again == s_failed)
            throw Failed("mremap");
        _again = (byte*)again;
        *_again = Count;
    }

    /// <summary>Their frames, as <c>/proc/self/pagemap</c> shows them now.</summary>
    /// <returns>False when one is not there, or frames are not shown to us.</returns>
    public bool TryFind(Span<ulong> frames)
    {
        using Pagemap? pagemap = Pagemap.TryOpen(Environment.ProcessId);
        if (pagemap?.ReadWords((ulong)_private, frames[..Private]) != Private || pagemap.ReadWords((ulong)_shared, frames.Slice(Private, 1)) != 1)
            return false;
        foreach (ref ulong frame in frames)
        {
            if ((frame & Pagemap.Present) == 0 || (frame & Pagemap.FrameMask) == 0)
                return false;
            frame &= Pagemap.FrameMask;
        }

        return true;
    }

    /// <summary>Puts private pages into a pipe, which refers to each once for every time it is in it.</summary>
    /// <param name="order">Their numbers.</param>
    /// <returns>Its ends.</returns>
    /// <exception cref="SyscallException">The system refused.</exception>
    public (FileDescriptor Out, FileDescriptor In) Splice(ReadOnlySpan<int> order)
    {
        int* ends = stackalloc int[2];
        if (LibC.pipe2(ends, LibC.O_CLOEXEC | LibC.O_NONBLOCK) != 0)
            throw Failed("pipe2");
        (FileDescriptor Out, FileDescriptor In) pipe = (new FileDescriptor(ends[0]), new FileDescriptor(ends[1]));
        foreach (int number in order)
        {
            LibC.iovec page = PageAt(number);
            if (LibC.vmsplice(pipe.In.Number, &page, 1, LibC.SPLICE_F_NONBLOCK) == Page)
                continue;
            SyscallException failed = Failed("vmsplice");
            pipe.Out.Dispose();
            pipe.In.Dispose();
            throw failed;
        }

        return pipe;
    }

    /// <summary>Registers private pages with a ring of io_uring, which pins each once for every time it is named. The ring must be told to let go of them by <see cref="Unpin"/>.</summary>
    /// <param name="order">Their numbers.</param>
    /// <returns>Null where that is not to be had here.</returns>
    public FileDescriptor? TryPin(ReadOnlySpan<int> order)
    {
        LibC.io_uring_params parameters = default;
        nint made = LibC.syscall(SyscallNumbers.io_uring_setup, 1, (nint)(&parameters), 0, 0, 0);
        if (made < 0)
            return null;
        FileDescriptor ring = new((int)made);
        LibC.iovec* buffers = stackalloc LibC.iovec[order.Length];
        for (int i = 0; i < order.Length; i++)
            buffers[i] = PageAt(order[i]);
        if (LibC.syscall(SyscallNumbers.io_uring_register, ring.Number, LibC.IORING_REGISTER_BUFFERS, (nint)buffers, order.Length, 0) == 0)
            return ring;
        ring.Dispose();
        return null;
    }

    /// <summary>Ends what <see cref="TryPin"/> did, before it returns; the end of the ring does so later.</summary>
    public static void Unpin(FileDescriptor ring) => _ = LibC.syscall(SyscallNumbers.io_uring_register, ring.Number, LibC.IORING_UNREGISTER_BUFFERS, 0, 0, 0);

    /// <inheritdoc/>
    public void Dispose()
    {
        _ = LibC.munmap(_private, Private * Page);
        _ = LibC.munmap(_shared, Page);
        _ = LibC.munmap(_again, Page);
    }

    private LibC.iovec PageAt(int number) => new() { iov_base = (nuint)(_private + number * Page), iov_len = Page };

    private static byte* Map(int kind, int bytes)
    {
        void* place = LibC.mmap(null, (nuint)bytes, LibC.PROT_READ | LibC.PROT_WRITE, kind | LibC.MAP_ANONYMOUS, -1, 0);
        if ((nint)place == s_failed)
            throw Failed("mmap");
        // Refused where the kernel has no huge pages.
        _ = LibC.madvise(place, (nuint)bytes, LibC.MADV_NOHUGEPAGE);
        return (byte*)place;
    }

    private static SyscallException Failed(string call) => new(call, "pages of our own", (Errno)Marshal.GetLastPInvokeError());
}
