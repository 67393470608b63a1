using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Samepage.Linux.Interop;

namespace Samepage.Linux.Processes;

/// <summary>Memory that we and a program that may be hostile both map: a file in memory whose length nobody can change.</summary>
/// <remarks>
/// <para>The program can write anything into it, and punch holes, which read as zeros; nothing else. It cannot make us wait: what a page of it is for the program (not there,
/// discarded, watched by a userfaultfd) is so in the program's mapping alone. We never call read(2) or write(2) on the file, because a writer that waits keeps its lock.</para>
/// <para>It is copied in and out by the kernel, process_vm_readv(2) on ourselves: should there be no memory for a page that the program has punched out, that is an
/// answer, where a load would be a SIGBUS. The seals keep the file from being shortened.</para>
/// <para>Any thread, at any time: once it is disposed, it reads as nothing.</para>
/// </remarks>
public sealed unsafe class SharedMemory : SafeHandleZeroOrMinusOneIsInvalid
{
    private const int Seals = LibC.F_SEAL_SEAL | LibC.F_SEAL_SHRINK | LibC.F_SEAL_GROW;
    private readonly int _bytes;

    private SharedMemory(FileDescriptor file, int bytes)
        : base(ownsHandle: true)
    {
        (File, _bytes) = (file, bytes);
        void* place = LibC.mmap(null, (nuint)bytes, LibC.PROT_READ | LibC.PROT_WRITE, LibC.MAP_SHARED, file.Number, 0);
        if ((nint)place == -1)
            throw new SyscallException("mmap", $"{bytes} bytes of shared memory", (Errno)Marshal.GetLastPInvokeError());
        SetHandle((nint)place);
    }

    /// <summary>What is handed to the program.</summary>
    public FileDescriptor File { get; }

    /// <summary>Makes some, all zero.</summary>
    /// <param name="name">What <c>/proc/PID/maps</c> calls it, behind <c>/memfd:</c>.</param>
    /// <param name="bytes">How long it is.</param>
    /// <exception cref="SyscallException">The system refused.</exception>
    public static SharedMemory Create(string name, int bytes)
    {
        int number = LibC.memfd_create(name, LibC.MFD_CLOEXEC | LibC.MFD_NOEXEC_SEAL);
        if (number < 0)
            throw new SyscallException("memfd_create", name, (Errno)Marshal.GetLastPInvokeError());
        FileDescriptor file = new(number);
        try
        {
            if (LibC.ftruncate(number, bytes) != 0)
                throw new SyscallException("ftruncate", $"{name}, {bytes} bytes", (Errno)Marshal.GetLastPInvokeError());
            if (LibC.fcntl(number, LibC.F_ADD_SEALS, Seals) != 0)
                throw new SyscallException("fcntl", $"F_ADD_SEALS, {name}", (Errno)Marshal.GetLastPInvokeError());
            return new SharedMemory(file, bytes);
        }
        catch (SyscallException)
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Maps some that another process of ours made and a program has had since: what is not such a file is refused, whatever the program put in its place.</summary>
    /// <param name="path">Where it can be opened.</param>
    /// <param name="bytes">How long it must be.</param>
    /// <param name="memory">The memory.</param>
    /// <param name="why">Why there is none.</param>
    /// <remarks>To open a file can wait for as long as its file system likes.</remarks>
    public static bool TryOpen(string path, int bytes, out SharedMemory? memory, out string why)
    {
        (memory, why) = (null, "");
        if (!FileDescriptor.TryOpen(path, writable: true, out FileDescriptor? file, out Errno errno))
        {
            why = $"open({path}): {errno}";
            return false;
        }

        LibC.statfs system;
        int seals = LibC.fcntl(file!.Number, LibC.F_GET_SEALS, 0);
        if (seals < 0 || (seals & Seals) != Seals || (seals & (LibC.F_SEAL_WRITE | LibC.F_SEAL_FUTURE_WRITE)) != 0 ||
            LibC.fstatfs(file.Number, &system) != 0 || system.f_type != LibC.TMPFS_MAGIC ||
            !FileBlocks.TryReadSize($"/proc/self/fd/{file.Number}", out long length) || length != bytes)
        {
            file.Dispose();
            why = $"{path} is not memory of ours: its seals, kind or length differ";
            return false;
        }

        try
        {
            memory = new SharedMemory(file, bytes);
            return true;
        }
        catch (SyscallException refused)
        {
            file.Dispose();
            why = refused.Message;
            return false;
        }
    }

    /// <returns>False when it cannot be read.</returns>
    public bool TryRead(int offset, Span<byte> destination)
    {
        fixed (byte* local = destination)
            return TryCopy(offset, local, destination.Length, write: false);
    }

    /// <returns>False when it cannot be written.</returns>
    public bool TryWrite(int offset, ReadOnlySpan<byte> source)
    {
        fixed (byte* local = source)
            return TryCopy(offset, local, source.Length, write: true);
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        File.Dispose();
        return LibC.munmap((void*)handle, (nuint)_bytes) == 0;
    }

    private bool TryCopy(int offset, byte* local, int length, bool write)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, _bytes - offset);
        bool kept = false;
        try
        {
            DangerousAddRef(ref kept);
            LibC.iovec here = new() { iov_base = (nuint)local, iov_len = (nuint)length }, there = new() { iov_base = (nuint)handle + (nuint)offset, iov_len = (nuint)length };
            int self = Environment.ProcessId;
            return (write ? LibC.process_vm_writev(self, &here, 1, &there, 1, 0) : LibC.process_vm_readv(self, &here, 1, &there, 1, 0)) == length;
        }
        catch (ObjectDisposedException)
        {
            return false;
        }
        finally
        {
            if (kept)
                DangerousRelease();
        }
    }
}
