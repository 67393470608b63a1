using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace Samepage.SystemTests.Harness;

/// <summary>Programs of others that do one thing and end.</summary>
internal static class Outside
{
    /// <summary>Runs one to its end.</summary>
    public static Task<Called> Run(int seconds, string program, params IEnumerable<string> arguments) => Run(seconds, new ProcessStartInfo(program, arguments) { WorkingDirectory = "/" });

    /// <summary>Runs one to its end, with nothing to read.</summary>
    public static async Task<Called> Run(int seconds, ProcessStartInfo start)
    {
        (start.RedirectStandardOutput, start.RedirectStandardError, start.RedirectStandardInput) = (true, true, true);
        using Process process = Process.Start(start) ?? throw new InvalidOperationException($"{start.FileName} did not start");
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync(), errors = process.StandardError.ReadToEndAsync();
        using var bound = new CancellationTokenSource(Until.Patience(seconds));
        try
        {
            await process.WaitForExitAsync(bound.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"{start.FileName} {string.Join(' ', start.ArgumentList)} did not end within {Until.Patience(seconds).TotalSeconds} s: {await output}{await errors}");
        }

        return new Called(process.ExitCode, await output, await errors);
    }

    /// <summary>A port of the loopback addresses that nobody listens on.</summary>
    public static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    /// <summary>What somebody who may only be starting answers over HTTP.</summary>
    /// <param name="address">Where; on this machine.</param>
    /// <param name="server">Who is to answer: its errors are shown if it does not.</param>
    public static async Task<string> Get(string address, LiveProgram? server = null)
    {
        using HttpClient http = new();
        string answer = "";
        await Until.True(
            async () =>
            {
                try
                {
                    answer = await http.GetStringAsync(new Uri(address));
                    return true;
                }
                catch (HttpRequestException)
                {
                    return false;
                }
            },
            30,
            () => Task.FromResult($"an answer at {address}: {server?.Errors}"));
        return answer;
    }

    /// <summary>Runs one that must end well.</summary>
    /// <returns>What it printed.</returns>
    public static async Task<string> Must(int seconds, string program, params IEnumerable<string> arguments)
    {
        Called called = await Run(seconds, program, arguments);
        Assert.True(called.ExitCode == 0, $"{program} {string.Join(' ', arguments)}: {called}");
        return called.Output;
    }
}

/// <summary>A setting of the kernel's that is another for the time of a test.</summary>
internal sealed class Setting : IDisposable
{
    private readonly string _path, _before;

    public Setting(string path, string value)
    {
        (_path, _before) = (path, File.ReadAllText(path));
        File.WriteAllText(path, value);
    }

    public void Dispose() => File.WriteAllText(_path, _before);
}
