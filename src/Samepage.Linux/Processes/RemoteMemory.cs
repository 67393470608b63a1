using System.Runtime.InteropServices;
using Samepage.Linux.Interop;
using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Processes;

/// <summary>Reads and writes another process's memory without stopping it: process_vm_readv(2).</summary>
/// <remarks>Thread-safe: holds nothing but the pid; the id of any thread of the process does as well. A pid may be reused; callers hold a pidfd of what they mean.</remarks>
public readonly record struct RemoteMemory(int Pid)
{
    /// <summary>Pieces that one call reads, at most.</summary>
    public const int MaxPieces = 1024;

    /// <returns>Bytes copied: fewer at an unmapped page, zero when the process is gone. Both are ordinary.</returns>
    public unsafe int Read(ulong from, Span<byte> destination)
    {
        fixed (byte* buffer = destination)
        {
            LibC.iovec local = new() { iov_base = (nuint)buffer, iov_len = (nuint)destination.Length };
            LibC.iovec remote = new() { iov_base = (nuint)from, iov_len = (nuint)destination.Length };
            nint copied = Copy(&local, 1, &remote, 1, write: false);
            return copied < 0 ? 0 : (int)copied;
        }
    }

    /// <summary>Reads pieces into places of a buffer, all by one call.</summary>
    /// <param name="from">The address that the buffer's beginning stands for.</param>
    /// <param name="pieces">Where the pieces begin and how long they are, bytes from there; at most <see cref="MaxPieces"/>.</param>
    /// <param name="destination">The buffer.</param>
    /// <returns>Bytes copied, in the order of the pieces: fewer where one cannot be read.</returns>
    public unsafe int Read(ulong from, ReadOnlySpan<(int Start, int Length)> pieces, Span<byte> destination)
    {
        LibC.iovec* local = stackalloc LibC.iovec[pieces.Length], remote = stackalloc LibC.iovec[pieces.Length];
        fixed (byte* buffer = destination)
        {
            for (int i = 0; i < pieces.Length; i++)
            {
                nuint length = (nuint)destination.Slice(pieces[i].Start, pieces[i].Length).Length;
                local[i] = new LibC.iovec { iov_base = (nuint)(buffer + pieces[i].Start), iov_len = length };
                remote[i] = new LibC.iovec { iov_base = (nuint)(from + (ulong)pieces[i].Start), iov_len = length };
            }

            nint copied = Copy(local, pieces.Length, remote, pieces.Length, write: false);
            return copied < 0 ? 0 : (int)copied;
        }
    }

    /// <summary>Reads ranges that lie apart into a buffer, one behind the other, by one call.</summary>
    /// <param name="ranges">First byte and length of each; at most <see cref="MaxPieces"/>.</param>
    /// <param name="destination">Room for all of them.</param>
    /// <param name="errno">Why nothing at all was read; none where something was.</param>
    /// <returns>Bytes copied: fewer where one cannot be read, and then none behind it.</returns>
    public unsafe int Gather(ReadOnlySpan<(ulong Start, int Length)> ranges, Span<byte> destination, out Errno errno)
    {
        LibC.iovec* remote = stackalloc LibC.iovec[ranges.Length];
        for (int i = 0; i < ranges.Length; i++)
            remote[i] = new LibC.iovec { iov_base = (nuint)ranges[i].Start, iov_len = (nuint)ranges[i].Length };
        fixed (byte* buffer = destination)
        {
            LibC.iovec local = new() { iov_base = (nuint)buffer, iov_len = (nuint)destination.Length };
            nint copied = Copy(&local, 1, remote, ranges.Length, write: false);
            errno = copied < 0 ? (Errno)Marshal.GetLastPInvokeError() : Errno.None;
            return copied < 0 ? 0 : (int)copied;
        }
    }

    /// <summary>Reads one 8-byte word; false when it cannot be read.</summary>
    public bool TryReadWord(ulong from, out ulong word)
    {
        Span<byte> bytes = stackalloc byte[8];
        bool whole = Read(from, bytes) == 8;
        word = whole ? MemoryMarshal.Read<ulong>(bytes) : 0;
        return whole;
    }

    /// <returns>Bytes copied, as <see cref="Read(ulong, Span{byte})"/>. Only mappings writable by the process itself can be written.</returns>
    public unsafe int Write(ulong to, ReadOnlySpan<byte> source)
    {
        fixed (byte* buffer = source)
        {
            LibC.iovec local = new() { iov_base = (nuint)buffer, iov_len = (nuint)source.Length };
            LibC.iovec remote = new() { iov_base = (nuint)to, iov_len = (nuint)source.Length };
            nint copied = Copy(&local, 1, &remote, 1, write: true);
            return copied < 0 ? 0 : (int)copied;
        }
    }

    /// <summary>Reads through <c>/proc/PID/mem</c>, which shows memory that its process itself cannot read (PROT_NONE), where the kernel is not told otherwise (proc_mem.force_override).</summary>
    /// <remarks>A page for which a userfaultfd is asked is an error here, and waits for nobody.</remarks>
    /// <returns>Bytes copied: fewer where one cannot be read, none where the process is gone, or may not be looked into.</returns>
    public unsafe int ForceRead(ulong from, Span<byte> destination)
    {
        if (!FileDescriptor.TryOpen($"/proc/{LivingThread.Of(Pid)}/mem", writable: false, out FileDescriptor? memory, out _))
            return 0;
        using (memory)
        {
            fixed (byte* buffer = destination)
                return Math.Max(0, (int)LibC.pread(memory!.Number, buffer, (nuint)destination.Length, (long)from));
        }
    }

    /// <summary>Writes through <c>/proc/PID/mem</c>, which a tracer may do to read-only mappings too.</summary>
    /// <exception cref="SyscallException">The system refused.</exception>
    public unsafe void ForceWrite(ulong to, ReadOnlySpan<byte> source)
    {
        using FileDescriptor memory = FileDescriptor.Open($"/proc/{LivingThread.Of(Pid)}/mem", writable: true);
        fixed (byte* buffer = source)
        {
            if (LibC.pwrite(memory.Number, buffer, (nuint)source.Length, (long)to) != source.Length)
                throw new SyscallException("pwrite", $"/proc/{Pid}/mem at 0x{to:x}, {source.Length} bytes", (Errno)Marshal.GetLastPInvokeError());
        }
    }

    /// <summary>By a thread that lives: the first one of a process may have ended.</summary>
    private unsafe nint Copy(LibC.iovec* local, int locals, LibC.iovec* remote, int remotes, bool write)
    {
        nint copied = Copy(Pid, local, locals, remote, remotes, write);
        return copied < 0 && (Errno)Marshal.GetLastPInvokeError() == Errno.ESRCH && LivingThread.Of(Pid) is var other && other != Pid
            ? Copy(other, local, locals, remote, remotes, write)
            : copied;
    }

    private static unsafe nint Copy(int thread, LibC.iovec* local, int locals, LibC.iovec* remote, int remotes, bool write) => write
        ? LibC.process_vm_writev(thread, local, (nuint)locals, remote, (nuint)remotes, 0)
        : LibC.process_vm_readv(thread, local, (nuint)locals, remote, (nuint)remotes, 0);
}
