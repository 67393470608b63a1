using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Samepage.Linux.Interop;

namespace Samepage.Linux;

/// <summary>Opens files that somebody named, without waiting for anybody: a FIFO without its other end would let open(2) wait for ever.</summary>
public static unsafe class PlainFile
{
    /// <summary>Opens a regular file to read it; what else stands there is refused at once.</summary>
    /// <exception cref="SyscallException">It cannot be opened.</exception>
    /// <exception cref="InvalidDataException">It is no regular file.</exception>
    public static FileStream OpenToRead(string path)
    {
        FileDescriptor file = Open(path, LibC.O_RDONLY);
        using (file)
        {
            // What was opened counts, not what stands at the path a moment later.
            Errno errno = FileFacts.TryRead($"/proc/self/fd/{file.Number}", follow: true, out FileFacts facts);
            if (errno != Errno.None || facts.Kind != FileKind.File)
                throw new InvalidDataException($"{path} is {(errno == Errno.None ? facts.Words : $"what cannot be looked at ({errno})")}, and no file");
            SafeFileHandle handle = new(file.Number, ownsHandle: true);
            file.SetHandleAsInvalid();
            return new FileStream(handle, FileAccess.Read, bufferSize: 0);
        }
    }

    /// <summary>Opens a path to write to it, and empties what is there; made if it is not. A FIFO or a device must have its other end, or take what is written.</summary>
    /// <exception cref="SyscallException">It cannot be opened: ENXIO is a FIFO that nobody reads.</exception>
    public static FileStream OpenToWrite(string path)
    {
        FileDescriptor file = Open(path, LibC.O_WRONLY | LibC.O_CREAT | LibC.O_TRUNC);
        // From here on it may wait, as any output does.
        int flags = LibC.fcntl(file.Number, LibC.F_GETFL, 0);
        _ = LibC.fcntl(file.Number, LibC.F_SETFL, flags & ~LibC.O_NONBLOCK);
        SafeFileHandle handle = new(file.Number, ownsHandle: true);
        file.SetHandleAsInvalid();
        return new FileStream(handle, FileAccess.Write);
    }

    private static FileDescriptor Open(string path, int flags)
    {
        int number = LibC.open(path, flags | LibC.O_NONBLOCK | LibC.O_CLOEXEC, 0b110_110_110);
        return number >= 0 ? new FileDescriptor(number) : throw new SyscallException("open", path, (Errno)Marshal.GetLastPInvokeError());
    }
}
