using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Samepage.Linux.Interop;

namespace Samepage.Linux;

/// <summary>An owned descriptor: closed once, by whoever disposes it.</summary>
public sealed class FileDescriptor : SafeHandleZeroOrMinusOneIsInvalid
{
    /// <param name="number">The descriptor to own; 0 is never ours.</param>
    public FileDescriptor(int number)
        : base(ownsHandle: true) => SetHandle(number);

    /// <summary>The number, for as long as this is not disposed; -1 (EBADF) behind that, for the number may be another's.</summary>
    public int Number => IsClosed ? -1 : (int)handle;

    /// <summary>Keeps it open, whoever disposes it meanwhile, until <see cref="SafeHandle.DangerousRelease"/> is called as often as this has returned true. Any thread.</summary>
    /// <returns>False where it has been closed.</returns>
    public bool TryKeep()
    {
        bool kept = false;
        try
        {
            DangerousAddRef(ref kept);
        }
        catch (ObjectDisposedException)
        {
            // That is the answer.
        }

        return kept;
    }

    /// <summary>Opens a path read-only, close-on-exec.</summary>
    /// <returns>False with the errno when the system refuses; for <c>/proc</c> paths that is how a process says that it is gone.</returns>
    public static bool TryOpen(string path, bool writable, out FileDescriptor? descriptor, out Errno errno)
    {
        int number = LibC.open(path, (writable ? LibC.O_RDWR : LibC.O_RDONLY) | LibC.O_CLOEXEC, 0);
        errno = number < 0 ? (Errno)Marshal.GetLastPInvokeError() : Errno.None;
        descriptor = number < 0 ? null : new FileDescriptor(number);
        return number >= 0;
    }

    /// <inheritdoc cref="TryOpen(string, bool, out FileDescriptor?, out Errno)"/>
    /// <exception cref="SyscallException">The system refused.</exception>
    public static FileDescriptor Open(string path, bool writable = false) =>
        TryOpen(path, writable, out FileDescriptor? descriptor, out Errno errno) ? descriptor! : throw new SyscallException("open", path, errno);

    /// <summary>Opens a directory as a place only, which waits for nobody and does nothing.</summary>
    /// <exception cref="SyscallException">There is no such directory, or it may not be passed.</exception>
    internal static FileDescriptor OpenPlace(string directory)
    {
        int number = LibC.open(directory, LibC.O_PATH | LibC.O_DIRECTORY | LibC.O_CLOEXEC, 0);
        return number >= 0 ? new FileDescriptor(number) : throw new SyscallException("open", directory, (Errno)Marshal.GetLastPInvokeError());
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle() => LibC.close((int)handle) == 0;
}
