using System.Diagnostics;
using System.Net.Http.Json;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Samepage.Api;

namespace Samepage.Bench;

/// <summary>A Samepage daemon of our own, with a state folder of its own, and the calls to it.</summary>
internal sealed class Daemon : IAsyncDisposable
{
    private static readonly TimeSpan StartBound = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan StopBound = TimeSpan.FromSeconds(120);
    private const int LogLines = 30;

    private readonly Process _process;
    private readonly DirectoryInfo _folder;
    private readonly HttpClient _http;
    private readonly Queue<string> _log = new();
    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public int Pid { get; }

    private Daemon(string program)
    {
        _folder = Directory.CreateTempSubdirectory("samepage-bench-");
        ProcessStartInfo info = new(Environment.ProcessPath ?? "dotnet", [program, "daemon", "--no-rules"])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
        };
        info.Environment["SAMEPAGE_RUN_DIR"] = _folder.FullName;
        _process = Process.Start(info) ?? throw new BenchException("the daemon did not start");
        Pid = _process.Id;
        _process.OutputDataReceived += (_, line) => Hear(line.Data);
        _process.ErrorDataReceived += (_, line) => Hear(line.Data);
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
        _http = new HttpClient(new SocketsHttpHandler { ConnectCallback = ConnectAsync }, disposeHandler: true)
        {
            BaseAddress = new Uri("http://samepage/"),
            Timeout = StopBound,
        };
    }

    public static async Task<Daemon> StartAsync(CancellationToken cancel)
    {
        string program = Environment.GetEnvironmentVariable("SAMEPAGE_BENCH_DAEMON")
            ?? throw new BenchException("SAMEPAGE_BENCH_DAEMON is not set: start the bench by ./bench, which builds the daemon");
        Daemon daemon = new(program);
        try
        {
            using CancellationTokenSource bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
            bound.CancelAfter(StartBound);
            Task ended = daemon._process.WaitForExitAsync(bound.Token);
            if (await Task.WhenAny(daemon._ready.Task, ended) == daemon._ready.Task)
                return daemon;
            cancel.ThrowIfCancellationRequested();
            throw daemon.Failure(ended.IsCompletedSuccessfully
                ? $"the daemon ended with {daemon._process.ExitCode} before it was ready"
                : $"the daemon was not ready within {StartBound.TotalSeconds:F0} s");
        }
        catch
        {
            await daemon.DisposeAsync();
            throw;
        }
    }

    /// <summary>Takes processes in; returns when the daemon has answered for each.</summary>
    public async Task AttachAsync(int[] pids, CancellationToken cancel)
    {
        OutcomeReply reply = await PostAsync("v1/attach", new AttachRequest(pids), ApiJson.Default.AttachRequest, cancel);
        foreach (ProcessOutcome outcome in reply.Processes)
            if (!outcome.Done)
                throw Failure($"the daemon did not take in process {outcome.Pid}: {outcome.State}, {outcome.Reason}");
    }

    /// <summary>Gives every process back.</summary>
    public async Task DetachAllAsync(CancellationToken cancel)
    {
        OutcomeReply reply = await PostAsync("v1/detach", new DetachRequest([], All: true), ApiJson.Default.DetachRequest, cancel);
        foreach (ProcessOutcome outcome in reply.Processes)
            if (!outcome.Done)
                throw Failure($"the daemon did not give back process {outcome.Pid}: {outcome.State}, {outcome.Reason}");
    }

    public async Task<StatusReport> StatusAsync(CancellationToken cancel)
    {
        try
        {
            return await _http.GetFromJsonAsync("v1/status", ApiJson.Default.StatusReport, cancel)
                ?? throw Failure("the daemon answered 'null' to GET /v1/status");
        }
        catch (Exception failed) when (failed is HttpRequestException or JsonException)
        {
            throw Failure($"asking the daemon for its status: {failed.Message}", failed);
        }
    }

    /// <summary>Asks it to end, by SIGTERM, and waits until it has.</summary>
    /// <exception cref="BenchException">It does not end in time, or not with 0.</exception>
    public async Task StopAsync(CancellationToken cancel)
    {
        _ = LibC.kill(Pid, LibC.SIGTERM);
        using CancellationTokenSource bound = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        bound.CancelAfter(StopBound);
        try
        {
            await _process.WaitForExitAsync(bound.Token);
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw Failure($"the daemon did not end within {StopBound.TotalSeconds:F0} s of SIGTERM");
        }
        if (_process.ExitCode != 0)
            throw Failure($"the daemon ended with {_process.ExitCode} after SIGTERM");
    }

    /// <summary>Ends it whatever happened: by SIGTERM, so that it gives back what it holds, and by SIGKILL if that does not help.</summary>
    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
        {
            try
            {
                await StopAsync(CancellationToken.None);
            }
            catch (BenchException)
            {
                if (!_process.HasExited)
                    _process.Kill();
            }
        }
        _http.Dispose();
        _process.Dispose();
        _folder.Delete(recursive: true);
    }

    private async ValueTask<Stream> ConnectAsync(SocketsHttpConnectionContext context, CancellationToken cancel)
    {
        Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(Path.Combine(_folder.FullName, "samepage.sock")), cancel);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private async Task<OutcomeReply> PostAsync<T>(string path, T body, JsonTypeInfo<T> type, CancellationToken cancel)
    {
        try
        {
            using HttpResponseMessage response = await _http.PostAsJsonAsync(path, body, type, cancel);
            if (!response.IsSuccessStatusCode)
                throw Failure($"POST /{path}: {(int)response.StatusCode}, {await response.Content.ReadAsStringAsync(cancel)}");
            return await response.Content.ReadFromJsonAsync(ApiJson.Default.OutcomeReply, cancel)
                ?? throw Failure($"the daemon answered 'null' to POST /{path}");
        }
        catch (Exception failed) when (failed is HttpRequestException or JsonException)
        {
            throw Failure($"POST /{path}: {failed.Message}", failed);
        }
    }

    private void Hear(string? line)
    {
        if (line is null)
            return;
        if (line == "ready")
            _ready.TrySetResult();
        lock (_log)
        {
            _log.Enqueue(line);
            if (_log.Count > LogLines)
                _log.Dequeue();
        }
    }

    private BenchException Failure(string message, Exception? inner = null)
    {
        lock (_log)
            return new BenchException(_log.Count == 0 ? message : $"{message}\nThe daemon's last words:\n  {string.Join("\n  ", _log)}", inner);
    }
}
