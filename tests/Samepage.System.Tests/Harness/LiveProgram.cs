using System.Diagnostics;
using System.Text;
using System.Threading.Channels;

namespace Samepage.SystemTests.Harness;

/// <summary>An ordinary program that runs beside us: it is asked in lines and answers in lines. Ended by pid when disposed.</summary>
internal sealed class LiveProgram : IAsyncDisposable
{
    private readonly Process _process;
    private readonly StringBuilder _errors = new();
    private readonly Channel<string> _lines = Channel.CreateUnbounded<string>();

    /// <summary>What went wrong first: when it cannot even be killed, that is thrown in its place.</summary>
    private string _trouble = "";

    private LiveProgram(ProcessStartInfo start)
    {
        start.RedirectStandardInput = start.RedirectStandardOutput = start.RedirectStandardError = true;
        Name = $"{Path.GetFileName(start.FileName)} {string.Join(' ', start.ArgumentList.Take(3))}";
        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, line) =>
        {
            if (line.Data is not null)
                _lines.Writer.TryWrite(line.Data);
            else
                _lines.Writer.TryComplete();
        };
        _process.ErrorDataReceived += (_, line) =>
        {
            lock (_errors)
                _errors.AppendLine(line.Data);
        };
        _process.Start();
        _process.StandardInput.AutoFlush = true;
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public string Name { get; }

    public int Pid => _process.Id;

    public bool HasExited => _process.HasExited;

    public int ExitCode => _process.ExitCode;

    /// <summary>What it said on its error output.</summary>
    public string Errors
    {
        get
        {
            lock (_errors)
                return _errors.ToString().Trim();
        }
    }

    public static LiveProgram Start(string file, params IEnumerable<string> arguments) => new(new ProcessStartInfo(file, arguments));

    public static LiveProgram StartIn(string folder, IReadOnlyDictionary<string, string> environment, string file, params IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(file, arguments) { WorkingDirectory = folder };
        foreach ((string name, string value) in environment)
            start.Environment[name] = value;
        return new LiveProgram(start);
    }

    /// <summary>Starts one of our targets, and returns when its memory is filled.</summary>
    public static async Task<LiveProgram> Target(string name, params IEnumerable<string> arguments)
    {
        LiveProgram program = Start(Repository.Target(name), arguments);
        await program.Ready();
        return program;
    }

    /// <summary>Starts some that take all the processor time there is.</summary>
    public static LiveProgram[] Spinners(int count) => [.. Enumerable.Range(0, count).Select(_ => Start("/bin/sh", "-c", "while :; do :; done"))];

    /// <summary>Starts several of the same.</summary>
    public static async Task<LiveProgram[]> Targets(int count, string name, params string[] arguments)
    {
        LiveProgram[] programs = [.. Enumerable.Range(0, count).Select(_ => Start(Repository.Target(name), arguments))];
        foreach (LiveProgram program in programs)
            await program.Ready();
        return programs;
    }

    /// <returns>The words after <c>ready</c>.</returns>
    public async Task<string> Ready(int seconds = 60)
    {
        while (true)
        {
            string line = await NextLine(seconds);
            if (line == "ready" || line.StartsWith("ready ", StringComparison.Ordinal))
                return line.Length > 6 ? line[6..] : "";
        }
    }

    public async Task<string> NextLine(int seconds = 60)
    {
        using var bound = new CancellationTokenSource(Until.Patience(seconds));
        string how;
        try
        {
            return await _lines.Reader.ReadAsync(bound.Token);
        }
        catch (ChannelClosedException)
        {
            await Ends(10);
            how = $"ended with {ExitCode}";
        }
        catch (OperationCanceledException)
        {
            how = $"said nothing for {Until.Patience(seconds).TotalSeconds} s, {ProcessView.Of(Pid).Standing}";
        }

        _trouble = $"{Name} ({Pid}) {how}: {Errors}";
        throw new InvalidOperationException(_trouble);
    }

    public async Task<string> Ask(string command, int seconds = 60)
    {
        await Tell(command);
        return await NextLine(seconds);
    }

    public async Task Tell(string command)
    {
        try
        {
            await _process.StandardInput.WriteLineAsync(command);
        }
        catch (IOException)
        {
            throw new InvalidOperationException($"{Name} ({Pid}) is gone{(HasExited ? $", exit {ExitCode}" : "")}: {Errors}");
        }
    }

    /// <summary>Asks for something that must be answered with <c>ok</c>.</summary>
    public async Task Does(string command, int seconds = 60)
    {
        string answer = await Ask(command, seconds);
        Assert.True(answer == "ok", $"{Name} ({Pid}) on {command}: {answer}: {Errors}");
    }

    /// <returns>The exit code, once it has ended by itself.</returns>
    public async Task<int> Ends(int seconds = 60)
    {
        // Not WaitForExitAsync: that waits for the end of the output, too, which a child may hold open.
        await Until.True(() => _process.HasExited, seconds, () => $"{Name} ({Pid}) ends; it stands at {ProcessView.Of(Pid).Standing}: {Errors}\n{_trouble}");
        return _process.ExitCode;
    }

    public void CloseInput() => _process.StandardInput.Close();

    public void Kill() => _process.Kill();

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
            _process.Kill();
        await Ends(20);
        _process.Dispose();
    }
}

/// <summary>Programs that end together.</summary>
internal sealed class Together(params LiveProgram[] programs) : IAsyncDisposable
{
    public async ValueTask DisposeAsync()
    {
        foreach (LiveProgram program in programs)
            await program.DisposeAsync();
    }
}
