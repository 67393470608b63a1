using System.Runtime.InteropServices;
using Samepage.Linux;
using Samepage.Linux.Interop;

namespace Samepage.Agent;

/// <summary>A connection to a thread of an agent: socketpair(2), by messages.</summary>
/// <remarks>We make it, and hand the agent's end over: whoever has a copy of our end could read from it into memory that is waited for, and keep us waiting for the lock that he
/// holds meanwhile. Nothing here ever waits: whether a descriptor waits is said call by call, for a flag is the program's to change.</remarks>
internal static unsafe class SocketPair
{
    /// <summary>Makes one.</summary>
    /// <exception cref="SyscallException">The system refused.</exception>
    public static (FileDescriptor Ours, FileDescriptor Theirs) Create()
    {
        int* ends = stackalloc int[2];
        return LibC.socketpair(LibC.AF_UNIX, LibC.SOCK_SEQPACKET | LibC.O_CLOEXEC, 0, ends) == 0
            ? (new FileDescriptor(ends[0]), new FileDescriptor(ends[1]))
            : throw new SyscallException("socketpair", "for an agent", (Errno)Marshal.GetLastPInvokeError());
    }

    /// <summary>Sends a word.</summary>
    /// <returns>EAGAIN where the other end has not read many before, EPIPE or ECONNRESET where it is gone.</returns>
    public static Errno Send(FileDescriptor socket, ulong word) =>
        LibC.send(socket.Number, &word, sizeof(ulong), LibC.MSG_DONTWAIT | LibC.MSG_NOSIGNAL) == sizeof(ulong) ? Errno.None : (Errno)Marshal.GetLastPInvokeError();

    /// <summary>Receives a word.</summary>
    /// <returns>False where none has come, or the other end is gone.</returns>
    public static bool TryReceive(FileDescriptor socket, out ulong word)
    {
        fixed (ulong* place = &word)
            return LibC.recv(socket.Number, place, sizeof(ulong), LibC.MSG_DONTWAIT) == sizeof(ulong);
    }
}
