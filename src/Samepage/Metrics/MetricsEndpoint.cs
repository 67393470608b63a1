using System.Net;
using System.Net.Sockets;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Samepage.Cli;
using Samepage.Daemon;

namespace Samepage.Metrics;

/// <summary><c>/metrics</c> on the API's socket, and, where a port is named, on the loopback addresses; there is nothing else on that port.</summary>
internal static class MetricsEndpoint
{
    private const string Path = "/metrics";

    /// <summary>Sees to it, before anything is begun, that a port can be had.</summary>
    /// <exception cref="CommandException">It cannot.</exception>
    public static void Check(int port)
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
            throw new CommandException(exit, $"cannot serve metrics on 127.0.0.1:{port} (bind: {refused.SocketErrorCode}, {refused.Message})", "choose another --metrics-port");
        }
    }

    /// <summary>Listens on a port of the loopback addresses besides.</summary>
    public static void Listen(KestrelServerOptions options, int port) => options.ListenLocalhost(port);

    /// <summary>Adds the page.</summary>
    public static void Map(WebApplication application, ScannerService scanner, HoldHistogram holds)
    {
        application.Use((context, next) =>
        {
            // Connections of the Unix socket have no address. A name other than the loopback's is a browser that was led here.
            if (context.Connection.LocalIpAddress is not null && (context.Request.Path != Path || context.Request.Host.Host is not ("localhost" or "127.0.0.1" or "[::1]")))
            {
                context.Response.StatusCode = StatusCodes.Status404NotFound;
                return Task.CompletedTask;
            }

            return next(context);
        });
        application.MapGet(Path, () => scanner.Status is { } status
            ? Results.Text(MetricsPage.Write(status, scanner.Read, holds), MetricsText.MediaType)
            : DaemonHost.Refused("the daemon is starting; try again", 503));
    }
}
