using Microsoft.AspNetCore.Server.Kestrel.Core;
using Samepage.Daemon;

namespace Samepage.Metrics;

/// <summary><c>/metrics</c> on the API's socket, and, where a port is named, on the loopback addresses; there is nothing else on that port.</summary>
internal static class MetricsEndpoint
{
    private const string Path = "/metrics";

    /// <summary>Listens on a port of the loopback addresses besides.</summary>
    public static void Listen(KestrelServerOptions options, int port) => options.ListenLocalhost(port);

    /// <summary>Adds the page.</summary>
    /// <param name="application">Where to.</param>
    /// <param name="scanner">Whose figures it shows.</param>
    /// <param name="holds">Holds so far.</param>
    /// <param name="guarded">A port whose requests are another's to judge; null for none. Those of all others are judged here.</param>
    public static void Map(WebApplication application, ScannerService scanner, HoldHistogram holds, int? guarded)
    {
        application.Use((context, next) =>
        {
            // Connections of the Unix socket have no address. A name other than the loopback's is a browser that was led here.
            if (context.Connection.LocalIpAddress is not null && context.Connection.LocalPort != guarded && (context.Request.Path != Path || context.Request.Host.Host is not ("localhost" or "127.0.0.1" or "[::1]")))
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
