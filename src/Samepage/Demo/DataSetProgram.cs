using System.Diagnostics;
using System.Globalization;
using Samepage.Cli;

namespace Samepage.Demo;

/// <summary>One running Python program with its data set; asked by lines, ended when disposed of.</summary>
internal sealed class DataSetProgram : IAsyncDisposable
{
    // A loaded machine takes its time; a program that hangs must be told from a slow one all the same.
    private static readonly TimeSpan s_answerLimit = TimeSpan.FromSeconds(90);
    private static readonly TimeSpan s_endLimit = TimeSpan.FromSeconds(10);

    private readonly Process _process;
    private readonly Task<string> _errors;

    private DataSetProgram(Process process, int number)
    {
        _process = process;
        _errors = process.StandardError.ReadToEndAsync();
        Number = number;
        Pid = process.Id;
    }

    /// <summary>From 1.</summary>
    public int Number { get; }

    public int Pid { get; }

    /// <summary>Its digest when last asked.</summary>
    public string LastDigest { get; private set; } = "";

    public static DataSetProgram Start(string python, int number, int commonMib, int ownMib)
    {
        ProcessStartInfo start = new(python) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        start.ArgumentList.Add("-c");
        start.ArgumentList.Add(DataSetScript.Text);
        foreach (int argument in (ReadOnlySpan<int>)[number, commonMib, ownMib])
            start.ArgumentList.Add(argument.ToString(CultureInfo.InvariantCulture));
        return new DataSetProgram(Process.Start(start)!, number);
    }

    /// <summary>Waits until its data are loaded.</summary>
    public Task LoadedAsync(CancellationToken cancellation) => AnswerAsync("loading its data", cancellation);

    /// <summary>The digest over all its data.</summary>
    public async Task<string> DigestAsync(CancellationToken cancellation) => LastDigest = await AskAsync("digest", cancellation);

    /// <summary>It compares all its data with what they must be: <c>right</c>, or where they differ.</summary>
    public Task<string> CheckAsync(CancellationToken cancellation) => AskAsync("check", cancellation);

    /// <summary>It changes a byte in every page of the common data, then checks as above.</summary>
    public Task<string> WriteAsync(CancellationToken cancellation) => AskAsync("write", cancellation);

    /// <summary>It ends by itself.</summary>
    /// <returns>Its exit code.</returns>
    public async Task<int> QuitAsync(CancellationToken cancellation)
    {
        await SendAsync("quit", cancellation);
        await _process.WaitForExitAsync(cancellation).WaitAsync(s_endLimit, cancellation);
        return _process.ExitCode;
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
        {
            _process.Kill();
            await _process.WaitForExitAsync();
        }
        _process.Dispose();
    }

    private async Task<string> AskAsync(string command, CancellationToken cancellation)
    {
        await SendAsync(command, cancellation);
        return await AnswerAsync($"the command '{command}'", cancellation);
    }

    private async Task SendAsync(string command, CancellationToken cancellation)
    {
        try
        {
            await _process.StandardInput.WriteLineAsync(command.AsMemory(), cancellation);
            await _process.StandardInput.FlushAsync(cancellation);
        }
        catch (IOException e)
        {
            throw new CommandException(ExitCode.Failed, $"program {Number} (process {Pid}) has ended before the command '{command}' ({e.Message})");
        }
    }

    private async Task<string> AnswerAsync(string question, CancellationToken cancellation)
    {
        try
        {
            return await _process.StandardOutput.ReadLineAsync(cancellation).AsTask().WaitAsync(s_answerLimit, cancellation) ?? throw await EndedAsync(question);
        }
        catch (TimeoutException)
        {
            throw new CommandException(ExitCode.Failed, $"program {Number} (process {Pid}) did not answer {question} within {s_answerLimit.TotalSeconds} s");
        }
    }

    private async Task<CommandException> EndedAsync(string question)
    {
        await _process.WaitForExitAsync();
        string errors = (await _errors).Trim();
        return new CommandException(ExitCode.Failed, $"program {Number} (process {Pid}) ended with {_process.ExitCode} at {question}: {(errors.Length > 0 ? errors : "it printed no reason")}");
    }
}
