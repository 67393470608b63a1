using System.Runtime.InteropServices;
using Samepage.Linux.Interop;

namespace Samepage.Linux.Processes;

/// <summary>SCM_RIGHTS, unix(7): gives descriptors to the other end of a socket.</summary>
public static class DescriptorPassing
{
    private const int SolSocket = 1, ScmRights = 1, ShutReadWrite = 2;

    /// <remarks>It does not wait for room, which a hostile peer could keep taken.</remarks>
    /// <exception cref="SyscallException">The system refused; ECONNRESET or EPIPE where the peer is gone, ENOTSOCK where it is no socket.</exception>
    public static unsafe void Send(FileDescriptor socket, ulong word, ReadOnlySpan<int> descriptors)
    {
        int length = 16 + sizeof(int) * descriptors.Length;
        byte* control = stackalloc byte[(length + 7) & ~7];
        *(ulong*)control = (ulong)length;
        ((int*)control)[2] = SolSocket;
        ((int*)control)[3] = ScmRights;
        descriptors.CopyTo(new Span<int>(control + 16, descriptors.Length));
        LibC.iovec payload = new() { iov_base = (nuint)(&word), iov_len = 8 };
        LibC.msghdr message = new()
        {
            msg_iov = &payload,
            msg_iovlen = 1,
            msg_control = control,
            msg_controllen = (nuint)((length + 7) & ~7),
        };
        if (LibC.sendmsg(socket.Number, &message, LibC.MSG_NOSIGNAL | LibC.MSG_DONTWAIT) != 8)
            throw new SyscallException("sendmsg", "descriptors to the agent", (Errno)Marshal.GetLastPInvokeError());
    }

    /// <summary>Ends a connection for both sides, whoever else holds its descriptors: shutdown(2).</summary>
    public static void End(FileDescriptor socket) => _ = LibC.shutdown(socket.Number, ShutReadWrite);
}
