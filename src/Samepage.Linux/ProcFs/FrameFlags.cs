using System.Runtime.InteropServices;
using Samepage.Linux.Interop;

namespace Samepage.Linux.ProcFs;

/// <summary>What the kernel says of physical pages, by their number: <c>/proc/kpageflags</c>, Documentation/admin-guide/mm/pagemap.rst.</summary>
/// <remarks>Any thread, any number at a time. Opening it takes root; page numbers are in <see cref="Pagemap"/>'s words, for who has CAP_SYS_ADMIN.</remarks>
public sealed unsafe class FrameFlags : IDisposable
{
    /// <summary>The page is a part of a large folio: the first page of one, or any of them.</summary>
    public const ulong FirstOfLarge = 1UL << LibC.KPF_COMPOUND_HEAD, InLarge = FirstOfLarge | (1UL << LibC.KPF_COMPOUND_TAIL);

    /// <summary>It is in the swap cache.</summary>
    public const ulong InSwapCache = 1UL << LibC.KPF_SWAPCACHE;

    /// <summary>It is the kernel's page of zeros, or a part of its huge one.</summary>
    public const ulong ZeroPage = 1UL << LibC.KPF_ZERO_PAGE;

    private static readonly Lazy<FrameFlags?> s_here = new(static () => TryOpen(out _));
    private readonly FileDescriptor _descriptor;

    private FrameFlags(FileDescriptor descriptor) => _descriptor = descriptor;

    /// <summary>One for all, opened when it is first asked for and never closed; null where it cannot be opened.</summary>
    public static FrameFlags? Here => s_here.Value;

    /// <summary>Opens the file.</summary>
    /// <returns>Null where it cannot be: EACCES for who is not root, ENOENT on a kernel without CONFIG_PROC_PAGE_MONITOR.</returns>
    public static FrameFlags? TryOpen(out Errno errno) =>
        FileDescriptor.TryOpen("/proc/kpageflags", writable: false, out FileDescriptor? descriptor, out errno) ? new FrameFlags(descriptor!) : null;

    /// <summary>Reads the flags of one physical page.</summary>
    /// <param name="frame">Its number.</param>
    /// <returns>0 where it cannot be read.</returns>
    public ulong Of(ulong frame)
    {
        ulong flags = 0;
        return Read(frame, new Span<ulong>(ref flags)) == 1 ? flags : 0;
    }

    /// <summary>Reads the flags of neighbouring physical pages.</summary>
    /// <param name="first">The number of the first.</param>
    /// <param name="flags">Receives them.</param>
    /// <returns>How many were read: fewer at the end of the machine's memory, none when the kernel refuses.</returns>
    public int Read(ulong first, Span<ulong> flags)
    {
        fixed (ulong* buffer = flags)
        {
            nint bytes;
            do
            {
                bytes = LibC.pread(_descriptor.Number, buffer, (nuint)flags.Length * 8, (long)(first * 8));
            }
            while (bytes < 0 && (Errno)Marshal.GetLastPInvokeError() == Errno.EINTR);
            return bytes < 0 ? 0 : (int)(bytes / 8);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _descriptor.Dispose();
}
