using System.Diagnostics;
using Samepage.Api;
using Samepage.Cli;
using Samepage.Linux;

namespace Samepage.Demo;

/// <summary>A daemon for the demo alone: this same program, in a run directory of its own, ended and removed when disposed of.</summary>
internal sealed class PrivateDaemon : IAsyncDisposable
{
    private static readonly TimeSpan s_startLimit = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan s_endLimit = TimeSpan.FromSeconds(30);
    private const int LastWordsMax = 12;

    private readonly DirectoryInfo _runDirectory = Directory.CreateTempSubdirectory("samepage-demo-");
    private readonly Process _process;
    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Queue<string> _lastWords = [];
    private readonly Task _listening;
    private bool _toldToEnd;

    private PrivateDaemon()
    {
        string program = Environment.ProcessPath ?? throw new CommandException(ExitCode.Failed, "/proc/self/exe cannot be read, so the demo cannot start a daemon", "see that /proc is mounted");
        ProcessStartInfo start = new(program) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        // Run as "dotnet samepage.dll", the program is the runtime, and we are its first argument.
        if (Path.GetFileNameWithoutExtension(program) == "dotnet")
            start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "samepage.dll"));
        start.ArgumentList.Add("daemon");
        start.ArgumentList.Add("--no-rules");
        start.Environment[RunDirectory.Variable] = _runDirectory.FullName;
        _process = Process.Start(start)!;
        _listening = Task.WhenAll(ListenAsync(_process.StandardOutput), ListenAsync(_process.StandardError));
        Api = new ApiClient(_runDirectory.FullName);
    }

    public int Pid => _process.Id;

    public ApiClient Api { get; }

    /// <summary>Starts it, and waits until it serves.</summary>
    public static async Task<PrivateDaemon> StartAsync(CancellationToken cancellation)
    {
        PrivateDaemon daemon = new();
        try
        {
            await daemon.ReadyAsync(cancellation);
            return daemon;
        }
        catch
        {
            await daemon.DisposeAsync();
            throw;
        }
    }

    /// <summary>Asks it to end, and waits until it has.</summary>
    /// <returns>Its exit code.</returns>
    public async Task<int> StopAsync(CancellationToken cancellation)
    {
        _toldToEnd = true;
        if (!_process.HasExited)
            ProcessSignal.Terminate(_process.Id);
        await _process.WaitForExitAsync(cancellation).WaitAsync(s_endLimit, cancellation);
        return _process.ExitCode;
    }

    // On the way out after an error as well: asked first, so that it gives back what it has taken in.
    public async ValueTask DisposeAsync()
    {
        bool died = !_toldToEnd && _process.HasExited && _process.ExitCode != 0;
        try
        {
            await StopAsync(CancellationToken.None);
        }
        catch (TimeoutException)
        {
            died = true;
            _process.Kill();
            await _process.WaitForExitAsync();
        }
        await _listening;
        if (died)
            Output.Complain($"the demo's daemon ended with {_process.ExitCode}; its last words: {LastWords()}");
        _process.Dispose();
        Api.Dispose();
        if (Directory.Exists(_runDirectory.FullName))
            _runDirectory.Delete(recursive: true);
    }

    private async Task ReadyAsync(CancellationToken cancellation)
    {
        Task ended = _process.WaitForExitAsync(cancellation);
        try
        {
            await Task.WhenAny(_ready.Task, ended).WaitAsync(s_startLimit, cancellation);
        }
        catch (TimeoutException)
        {
            throw new CommandException(ExitCode.Failed, $"the demo's daemon (process {Pid}) was not ready within {s_startLimit.TotalSeconds} s: {LastWords()}");
        }
        if (!_ready.Task.IsCompleted)
            throw new CommandException(ExitCode.Failed, $"the demo's daemon ended with {_process.ExitCode} before it was ready");
    }

    // Read to the end always: a full pipe would stop the daemon.
    private async Task ListenAsync(StreamReader from)
    {
        while (await from.ReadLineAsync() is { } line)
        {
            if (line.Trim() == "ready")
                _ready.TrySetResult();
            lock (_lastWords)
            {
                if (_lastWords.Count == LastWordsMax)
                    _lastWords.Dequeue();
                _lastWords.Enqueue(line);
            }
        }
    }

    private string LastWords()
    {
        lock (_lastWords)
            return _lastWords.Count == 0 ? "none" : string.Join(Environment.NewLine, _lastWords);
    }
}
