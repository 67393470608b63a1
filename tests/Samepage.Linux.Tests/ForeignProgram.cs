using System.Diagnostics;

namespace Samepage.LinuxTests;

/// <summary>A program that answers a line with a line, and is not a child of ours: of those the runtime itself waits for news, and would take what is meant for the tracer.</summary>
internal sealed class ForeignProgram : IAsyncDisposable
{
    private readonly Process _shell;

    private ForeignProgram(Process shell) => _shell = shell;

    public int Pid => Samepage.Linux.ProcFs.Threads.Children(_shell.Id, _shell.Id).Single();

    /// <summary>Its threads, by rising id.</summary>
    public int[] Threads
    {
        get
        {
            List<int> threads = [];
            Assert.True(Samepage.Linux.ProcFs.Threads.TryListAll(Pid, threads));
            return [.. threads.Order()];
        }
    }

    /// <summary>Where something is mapped in it, and what.</summary>
    public string[] Maps => File.ReadAllLines($"/proc/{Pid}/maps");

    public static ForeignProgram Start(string program, params string[] arguments)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "needs root: a program is traced");
        return new ForeignProgram(Process.Start(new ProcessStartInfo("sh", ["-c", "\"$@\"; exit $?", "sh", program, .. arguments]) { RedirectStandardInput = true, RedirectStandardOutput = true })!);
    }

    /// <summary>Starts a Python script that says <c>ready</c>.</summary>
    public static async Task<ForeignProgram> Python(string script)
    {
        ForeignProgram program = Start("python3", "-c", script);
        Assert.Equal("ready", await program.Line());
        return program;
    }

    /// <summary>Runs something on a thread of its own: tracing belongs to one.</summary>
    public static void Trace(Action does)
    {
        Exception? failed = null;
        Thread tracer = new(() => failed = Record.Exception(does));
        tracer.Start();
        tracer.Join();
        if (failed is not null)
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(failed);
    }

    /// <summary>It answers with what it is told, or with <paramref name="answer"/>.</summary>
    public async Task Says(string line, string? answer = null) => Assert.Equal(answer ?? line, await Answers(line));

    /// <summary>What it answers when it is told something.</summary>
    public async Task<string> Answers(string line)
    {
        await _shell.StandardInput.WriteLineAsync(line);
        await _shell.StandardInput.FlushAsync(TestContext.Current.CancellationToken);
        return await Line() ?? "";
    }

    /// <returns>Its exit status, when there is nothing more to answer.</returns>
    public async Task<int> Ends()
    {
        _shell.StandardInput.Close();
        await _shell.WaitForExitAsync(TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromMinutes(1), TestContext.Current.CancellationToken);
        return _shell.ExitCode;
    }

    /// <summary>Ends it at once.</summary>
    public void Kill() => _shell.Kill(entireProcessTree: true);

    public async ValueTask DisposeAsync()
    {
        if (!_shell.HasExited)
            _shell.Kill(entireProcessTree: true);
        await _shell.WaitForExitAsync();
        _shell.Dispose();
    }

    public Task<string?> Line() => _shell.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken).AsTask().WaitAsync(TimeSpan.FromMinutes(1), TestContext.Current.CancellationToken);
}
