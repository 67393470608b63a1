using System.Net.Sockets;
using System.Runtime.InteropServices;
using Samepage.Linux.ProcFs;

namespace Samepage.Linux.Processes;

/// <summary>Who connected a Unix socket, unix(7): as the kernel says, whatever is said over it.</summary>
public static class SocketPeer
{
    private const int SOL_SOCKET = 1, SO_PEERCRED = 17, SO_PEERPIDFD = 77;

    /// <summary>Whether whoever connected it has a capability in our user namespace, now. A root that has given it up, or has it in a container's user namespace alone, has not.</summary>
    /// <param name="socket">Our end, a stream's.</param>
    /// <param name="capability">Its number, linux/capability.h.</param>
    /// <returns>False also where it cannot be told: its process has ended, or is in a pid namespace that we do not see, or the kernel has no SO_PEERPIDFD (Linux 6.5).</returns>
    public static bool Has(Socket socket, int capability)
    {
        Span<int> credentials = stackalloc int[3]; // struct ucred: pid, uid, gid
        Span<int> descriptor = stackalloc int[1];
        try
        {
            if (socket.GetRawSocketOption(SOL_SOCKET, SO_PEERCRED, MemoryMarshal.AsBytes(credentials)) < sizeof(int) ||
                socket.GetRawSocketOption(SOL_SOCKET, SO_PEERPIDFD, MemoryMarshal.AsBytes(descriptor)) != sizeof(int))
            {
                return false;
            }
        }
        catch (SocketException)
        {
            return false;
        }

        // What is read by the number is of that process only if it has not ended when all is read.
        using FileDescriptor pidfd = new(descriptor[0]);
        int pid = credentials[0];
        return pid > 0 && ProcessStatus.TryRead($"/proc/{pid}/status") is { } status && (status.Capabilities >> capability & 1) != 0
            && ProcLinks.TargetOf($"/proc/{pid}/ns/user") is { } space && space == ProcLinks.TargetOf("/proc/self/ns/user") && !PidFd.HasEnded(pidfd);
    }
}
