using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Samepage.Cli;

namespace Samepage.Web;

/// <summary>Ports of the loopback addresses that the daemon serves on besides its socket: whoever runs anything on this machine can connect to them.</summary>
internal static class LoopbackPort
{
    private const int ConnectionsMax = 128;

    /// <summary>Sees to it, before anything is begun, that a port can be had.</summary>
    /// <param name="port">The port.</param>
    /// <param name="what">What is to be served.</param>
    /// <param name="option">Where the port was named.</param>
    /// <exception cref="CommandException">It cannot.</exception>
    public static void Check(int port, string what, string option)
    {
        try
        {
            using Socket probe = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            // As the server does: connections of a server before us that are not quite closed are no hindrance.
            probe.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.ReuseAddress, true);
            probe.Bind(new IPEndPoint(IPAddress.Loopback, port));
            probe.Listen();
        }
        catch (SocketException refused)
        {
            int exit = refused.SocketErrorCode == SocketError.AccessDenied ? ExitCode.NotPermitted : ExitCode.Failed;
            throw new CommandException(exit, $"cannot serve {what} on 127.0.0.1:{port} (bind: {refused.SocketErrorCode}, {refused.Message})", $"choose another {option}");
        }
    }

    /// <summary>Bounds what those who connect can take: connections on each port and on the socket, counted apart; what they may send; and how long they may say nothing.</summary>
    public static void Limit(KestrelServerLimits limits)
    {
        limits.MaxConcurrentConnections = ConnectionsMax;
        limits.MaxRequestBodySize = 1 << 20;
        limits.RequestHeadersTimeout = TimeSpan.FromSeconds(10);
    }
}
