using System.Runtime.InteropServices;
using Samepage.Linux.Interop;

namespace Samepage.Linux.Processes;

/// <summary>SCM_RIGHTS, unix(7): gives descriptors to the other end of a socket.</summary>
public static class DescriptorPassing
{
    private const int SolSocket = 1, ScmRights = 1, ShutReadWrite = 2, Header = 16;

    /// <remarks>It does not wait for room, which a hostile peer could keep taken.</remarks>
    /// <exception cref="SyscallException">The system refused; ECONNRESET or EPIPE where the peer is gone, ENOTSOCK where it is no socket.</exception>
    public static void Send(FileDescriptor socket, ulong word, ReadOnlySpan<int> descriptors)
    {
        Errno errno = TrySend(socket, [word], descriptors);
        if (errno != Errno.None)
            throw new SyscallException("sendmsg", "descriptors to the agent", errno);
    }

    /// <summary>Ends a connection for both sides, whoever else holds its descriptors: shutdown(2).</summary>
    public static void End(FileDescriptor socket) => _ = LibC.shutdown(socket.Number, ShutReadWrite);

    /// <summary>Sends a message, and does not wait for room.</summary>
    /// <param name="socket">A socket of messages.</param>
    /// <param name="words">What it says; one at least.</param>
    /// <param name="descriptors">Numbers of descriptors to go with it; none where there is nothing to give.</param>
    internal static unsafe Errno TrySend(FileDescriptor socket, ReadOnlySpan<ulong> words, ReadOnlySpan<int> descriptors)
    {
        int length = Header + sizeof(int) * descriptors.Length, aligned = (length + 7) & ~7;
        byte* control = stackalloc byte[aligned];
        *(ulong*)control = (ulong)length;
        ((int*)control)[2] = SolSocket;
        ((int*)control)[3] = ScmRights;
        descriptors.CopyTo(new Span<int>(control + Header, descriptors.Length));
        fixed (ulong* said = words)
        {
            LibC.iovec payload = new() { iov_base = (nuint)said, iov_len = (nuint)(sizeof(ulong) * words.Length) };
            LibC.msghdr message = new()
            {
                msg_iov = &payload,
                msg_iovlen = 1,
                msg_control = descriptors.IsEmpty ? null : control,
                msg_controllen = descriptors.IsEmpty ? 0 : (nuint)aligned,
            };
            return LibC.sendmsg(socket.Number, &message, LibC.MSG_NOSIGNAL | LibC.MSG_DONTWAIT) == (nint)payload.iov_len ? Errno.None : (Errno)Marshal.GetLastPInvokeError();
        }
    }

    /// <summary>Receives the message at the head of a queue, or looks at it; does not wait for one.</summary>
    /// <param name="socket">A socket of messages.</param>
    /// <param name="peek">It stays at the head, and what came with it is received as a copy.</param>
    /// <param name="most">Words and descriptors that it can have.</param>
    /// <param name="words">Receives what it says.</param>
    /// <param name="descriptors">Receives what came with it, close-on-exec; fewer than were sent where there is no room for more in our table. Null for none of it.</param>
    /// <returns>False where there is none.</returns>
    internal static unsafe bool TryReceive(FileDescriptor socket, bool peek, int most, List<ulong> words, List<FileDescriptor>? descriptors)
    {
        int room = (Header + sizeof(int) * most + 7) & ~7;
        byte* control = stackalloc byte[room];
        ulong* said = stackalloc ulong[most];
        LibC.iovec payload = new() { iov_base = (nuint)said, iov_len = (nuint)(sizeof(ulong) * most) };
        LibC.msghdr message = new() { msg_iov = &payload, msg_iovlen = 1, msg_control = descriptors is null ? null : control, msg_controllen = descriptors is null ? 0 : (nuint)room };
        nint read = LibC.recvmsg(socket.Number, &message, LibC.MSG_DONTWAIT | LibC.MSG_CMSG_CLOEXEC | (peek ? LibC.MSG_PEEK : 0));
        if (read <= 0)
            return false;
        for (int word = 0; word < read / sizeof(ulong); word++)
            words.Add(said[word]);
        if (descriptors is null || message.msg_controllen < Header || ((int*)control)[2] != SolSocket || ((int*)control)[3] != ScmRights)
            return true;
        int count = ((int)*(ulong*)control - Header) / sizeof(int);
        for (int one = 0; one < count; one++)
            descriptors.Add(new FileDescriptor(((int*)(control + Header))[one]));
        return true;
    }
}
