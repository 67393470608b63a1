using System.Net;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Samepage.Api;
using Samepage.Daemon;

namespace Samepage.Web;

/// <summary>The web page on a port of 127.0.0.1: off unless a port is named, and of use only to who knows the token. It shows, and changes nothing.</summary>
/// <remarks>
/// A request must, in this order: name this server as its host (a name that was bent to 127.0.0.1 is a page of somebody else's in a browser); read (GET);
/// and, for anything but the document itself, which has no figures in it, bear the token in <c>Authorization</c>. Then it gets what has
/// <see cref="Shown"/> in its metadata, and nothing else. The token comes to the browser behind the <c>#</c> of the address, which is never sent, and is no
/// cookie: cookies go to every port of a host, and another user of this machine may listen on one.
/// </remarks>
internal static class WebEndpoint
{
    /// <summary>The metadata of what the page may ask for.</summary>
    public static readonly object Shown = new ShownOnPage();

    /// <summary>Listens.</summary>
    public static void Listen(KestrelServerOptions options, int port) => options.Listen(IPAddress.Loopback, port, listen => listen.Protocols = HttpProtocols.Http1);

    /// <summary>Adds the page, what it asks for, and, on the socket, what <c>samepage web</c> asks for.</summary>
    /// <param name="application">Where to.</param>
    /// <param name="scanner">Whose figures it shows.</param>
    /// <param name="port">The port that is listened on; null where there is no page.</param>
    public static void Map(WebApplication application, ScannerService scanner, int? port)
    {
        WebToken token = new();
        if (port is int listened)
            application.Use((context, next) => context.Connection.LocalIpAddress is not null && context.Connection.LocalPort == listened ? AnswerAsync(context, next, listened, token) : next(context));
        application.MapGet("/v1/web", (HttpContext context) => port is int served
            ? !ObservationApi.MayReadMemory(context) ? ObservationApi.RefuseContents("what the page shows") : DaemonHost.Json(new WebReply($"http://127.0.0.1:{served}/#{token.Text}"), ApiJson.Default.WebReply)
            : DaemonHost.Refused("the daemon serves no web page; start it with: samepage daemon --web-port PORT", 404));
        application.MapGet("/v1/history", (long? since) => scanner.History is { } history
            ? DaemonHost.Json(Tell(history.Since(since ?? -1), (long)ScannerService.Now.TotalSeconds), ApiJson.Default.HistoryReply)
            : DaemonHost.Refused("the daemon keeps no history of savings; it does with: samepage daemon --web-port PORT", 404)).WithMetadata(Shown);
    }

    private static HistoryReply Tell(Savings[] samples, long now) => new(now, [.. samples.Select(sample => sample.At)], [.. samples.Select(sample => sample.ProfitBytes)],
        [.. samples.Select(sample => sample.SharedBytes)], [.. samples.Select(sample => sample.ZeroBytes)]);

    private static Task AnswerAsync(HttpContext context, RequestDelegate next, int port, WebToken token)
    {
        HttpRequest request = context.Request;
        IHeaderDictionary headers = context.Response.Headers;
        headers.ContentSecurityPolicy = WebPage.Policy;
        headers.XContentTypeOptions = "nosniff";
        headers.XFrameOptions = "DENY";
        headers.CacheControl = "no-store";
        headers["Referrer-Policy"] = "no-referrer";
        headers["Cross-Origin-Opener-Policy"] = headers["Cross-Origin-Resource-Policy"] = "same-origin";
        if (request.Host.Host is not ("127.0.0.1" or "localhost") || (request.Host.Port ?? 80) != port)
            return Refuse(context, StatusCodes.Status421MisdirectedRequest, "this is not the host that was asked for");
        if (!HttpMethods.IsGet(request.Method))
        {
            headers.Allow = HttpMethods.Get;
            return Refuse(context, StatusCodes.Status405MethodNotAllowed, "this server shows, and changes nothing: GET only");
        }

        if (request.Path == "/")
        {
            context.Response.ContentType = "text/html; charset=utf-8";
            return context.Response.Body.WriteAsync(WebPage.Document, context.RequestAborted).AsTask();
        }

        if (request.Headers.Authorization is not { Count: 1 } authorization || !token.IsIn(authorization[0]))
        {
            headers.WWWAuthenticate = "Bearer";
            return Refuse(context, StatusCodes.Status401Unauthorized, "the token is missing or wrong; an address with the right one is printed by: samepage web");
        }

        return context.GetEndpoint()?.Metadata.GetMetadata<ShownOnPage>() is not null ? next(context) : Refuse(context, StatusCodes.Status404NotFound, "there is nothing here");
    }

    private static Task Refuse(HttpContext context, int status, string why) => DaemonHost.Refused(why, status).ExecuteAsync(context);

    private sealed class ShownOnPage;
}
