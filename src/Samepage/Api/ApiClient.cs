using System.Net;
using System.Net.Http.Json;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Samepage.Cli;

namespace Samepage.Api;

/// <summary>Asks the daemon over its Unix socket. What goes wrong becomes a <see cref="CommandException"/> that says what to do.</summary>
/// <remarks>
/// Attach and detach have no time limit here: the daemon bounds its own waits, and giving up on a detach half way would
/// leave the caller believing something about processes that is not so. The caller's token still ends the wait.
/// </remarks>
internal sealed class ApiClient : IDisposable
{
    private const string StartIt = "start it with: samepage daemon";

    private static readonly TimeSpan s_readingLimit = TimeSpan.FromSeconds(30);

    private readonly string _socketPath;
    private readonly UnixDomainSocketEndPoint _endPoint;
    private readonly HttpClient _http;

    /// <param name="runDirectory">The daemon's run directory.</param>
    public ApiClient(string runDirectory)
    {
        _ = RunDirectory.Check(runDirectory, parents: false);
        _socketPath = RunDirectory.SocketPath(runDirectory);
        _endPoint = new UnixDomainSocketEndPoint(_socketPath);
        SocketsHttpHandler handler = new() { ConnectCallback = ConnectAsync, UseProxy = false };
        _http = new HttpClient(handler) { BaseAddress = new Uri("http://samepage/"), Timeout = Timeout.InfiniteTimeSpan };
    }

    public Task<StatusReport> StatusAsync(CancellationToken cancellation) => GetAsync("v1/status", ApiJson.Default.StatusReport, cancellation);

    /// <param name="pid">A process that is taken in.</param>
    /// <param name="query">What to show of it; empty for its areas without pictures.</param>
    /// <param name="cancellation">Ends the wait.</param>
    public Task<AreasReply> AreasAsync(int pid, string query, CancellationToken cancellation) => GetAsync($"v1/processes/{pid}/areas{query}", ApiJson.Default.AreasReply, cancellation);

    public Task<FramesReply> FramesAsync(int top, CancellationToken cancellation) => GetAsync($"v1/frames?top={top}", ApiJson.Default.FramesReply, cancellation);

    public Task<WebReply> WebAsync(CancellationToken cancellation) => GetAsync("v1/web", ApiJson.Default.WebReply, cancellation);

    public Task<OutcomeReply> AttachAsync(int[] pids, CancellationToken cancellation) =>
        PostAsync("v1/attach", new AttachRequest(pids), ApiJson.Default.AttachRequest, cancellation);

    public Task<OutcomeReply> DetachAsync(int[] pids, CancellationToken cancellation) =>
        PostAsync("v1/detach", new DetachRequest(pids, All: false), ApiJson.Default.DetachRequest, cancellation);

    public Task<OutcomeReply> DetachAllAsync(CancellationToken cancellation) =>
        PostAsync("v1/detach", new DetachRequest([], All: true), ApiJson.Default.DetachRequest, cancellation);

    public async Task<ReloadReply> ReloadAsync(CancellationToken cancellation)
    {
        using HttpRequestMessage request = new(HttpMethod.Post, "v1/reload");
        return await SendAsync(request, ApiJson.Default.ReloadReply, cancellation);
    }

    public void Dispose() => _http.Dispose();

    /// <summary>Reading is bounded: nothing depends on it.</summary>
    private async Task<TReply> GetAsync<TReply>(string path, JsonTypeInfo<TReply> type, CancellationToken cancellation)
        where TReply : class
    {
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(s_readingLimit);
        try
        {
            using HttpRequestMessage request = new(HttpMethod.Get, path);
            return await SendAsync(request, type, limit.Token);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new CommandException(ExitCode.Failed, $"the daemon at {_socketPath} took the request GET /{path} and did not answer within {s_readingLimit.TotalSeconds} s", "see its log");
        }
    }

    private async Task<OutcomeReply> PostAsync<TBody>(string path, TBody body, JsonTypeInfo<TBody> bodyType, CancellationToken cancellation)
    {
        using HttpRequestMessage request = new(HttpMethod.Post, path) { Content = JsonContent.Create(body, bodyType) };
        return await SendAsync(request, ApiJson.Default.OutcomeReply, cancellation);
    }

    private async Task<TReply> SendAsync<TReply>(HttpRequestMessage request, JsonTypeInfo<TReply> replyType, CancellationToken cancellation)
        where TReply : class
    {
        string what = $"{request.Method} /{request.RequestUri}";
        try
        {
            using HttpResponseMessage response = await _http.SendAsync(request, cancellation);
            if (!response.IsSuccessStatusCode)
                throw await RefusalAsync(what, response, cancellation);
            return await response.Content.ReadFromJsonAsync(replyType, cancellation)
                ?? throw new CommandException(ExitCode.Failed, $"the daemon at {_socketPath} answered {what} with null", "is it of another version than this samepage?");
        }
        catch (HttpRequestException e) when (e.InnerException is SocketException socket)
        {
            throw Unreachable(socket);
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            throw new CommandException(ExitCode.Failed, $"the daemon at {_socketPath} ended the connection during {what} ({e.GetBaseException().Message})", $"see its log, and {StartIt}");
        }
        catch (JsonException e)
        {
            throw new CommandException(ExitCode.Failed, $"the daemon at {_socketPath} answered {what} with something else than expected ({e.Message})", "is it of another version than this samepage?");
        }
    }

    private static async Task<CommandException> RefusalAsync(string what, HttpResponseMessage response, CancellationToken cancellation)
    {
        string text = await response.Content.ReadAsStringAsync(cancellation);
        try
        {
            text = JsonSerializer.Deserialize(text, ApiJson.Default.ErrorReply)?.Error ?? text;
        }
        catch (JsonException)
        {
            // Not the daemon's own words, then: shown as they came.
        }
        int exit = response.StatusCode switch
        {
            HttpStatusCode.Forbidden or HttpStatusCode.NotImplemented => ExitCode.NotPermitted,
            HttpStatusCode.BadRequest => ExitCode.BadUse,
            _ => ExitCode.Failed,
        };
        return new CommandException(exit, text.Trim().Length > 0 ? text.Trim() : $"the daemon answered {what} with {(int)response.StatusCode} and no reason; see its log");
    }

    // .NET folds ENOENT into AddressNotAvailable, an errno that connect(2) never gives on a Unix socket.
    private CommandException Unreachable(SocketException e) => e.SocketErrorCode switch
    {
        SocketError.AccessDenied => new(ExitCode.NotPermitted, $"not permitted to use the daemon's socket {_socketPath} (connect: EACCES)", "run this as the user who runs the daemon, or as root"),
        SocketError.AddressNotAvailable => new(ExitCode.Failed, $"no daemon at {_socketPath} (connect: ENOENT)", StartIt) { NobodyServes = true },
        SocketError.ConnectionRefused => new(ExitCode.Failed, $"nobody serves the socket {_socketPath} (connect: ECONNREFUSED), so the daemon that made it has ended", StartIt) { NobodyServes = true },
        _ => new(ExitCode.Failed, $"the daemon's socket {_socketPath} cannot be reached (connect: {e.SocketErrorCode}, {e.Message})", StartIt),
    };

    private async ValueTask<Stream> ConnectAsync(SocketsHttpConnectionContext context, CancellationToken cancellation)
    {
        Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(_endPoint, cancellation);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }
}
