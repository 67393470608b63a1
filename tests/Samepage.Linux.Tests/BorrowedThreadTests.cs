using System.Diagnostics;
using System.Globalization;
using Samepage.Agent.Tracing;
using Samepage.Agent.X64;
using Samepage.Linux.Interop;
using Samepage.Linux.ProcFs;

namespace Samepage.LinuxTests;

/// <summary>A thread of a foreign program that makes calls of ours.</summary>
public sealed class BorrowedThreadTests
{
    private const ulong Place = 0x6123_4567_0000, Bytes = 1 << 20;

    /// <summary>The kernel lets go of what a dead tracer held, and the tracer is a thread: it ends here, with its call prepared, as a daemon that is killed does.</summary>
    [Theory]
    [InlineData("cat")]
    [InlineData("sh", "-c", "while read line; do echo \"$line\"; done")]
    [InlineData("sed", "-u", "")]
    public async Task WhoseTracerDiesInTheMiddleOfACallComesBackByItself(string program, params string[] arguments)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "needs root: a program is traced");
        // Not a child of ours: of those the runtime itself waits for news, and would take what is meant for the tracer.
        using Process echo = Process.Start(new ProcessStartInfo("sh", ["-c", "\"$@\"; exit $?", "sh", program, .. arguments]) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
        try
        {
            await Says(echo, "before");
            int pid = Threads.Children(echo.Id, echo.Id).Single();
            for (ulong round = 0; round < 20; round++)
            {
                ulong place = Place + 2 * round * Bytes;
                Exception? failed = null;
                Thread tracer = new(() => failed = Record.Exception(() => BorrowedThread.Borrow(pid).Prepare(AgentAssembler.SYS_mmap, place, Bytes, LibC.PROT_READ,
                    LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | LibC.MAP_FIXED_NOREPLACE, ulong.MaxValue)));
                tracer.Start();
                tracer.Join();
                Assert.Null(failed);
                await Says(echo, $"round {round}");
                // It has made the call, too.
                string line = string.Create(CultureInfo.InvariantCulture, $"{place:x}-{place + Bytes:x} r--p");
                Assert.Contains(File.ReadLines($"/proc/{pid}/maps"), mapping => mapping.StartsWith(line, StringComparison.Ordinal));
            }

            echo.StandardInput.Close();
            await echo.WaitForExitAsync(TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromMinutes(1), TestContext.Current.CancellationToken);
            Assert.Equal(0, echo.ExitCode);
        }
        finally
        {
            if (!echo.HasExited)
                echo.Kill(entireProcessTree: true);
        }
    }

    private static async Task Says(Process echo, string line)
    {
        await echo.StandardInput.WriteLineAsync(line);
        await echo.StandardInput.FlushAsync(TestContext.Current.CancellationToken);
        Assert.Equal(line, await echo.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken).AsTask().WaitAsync(TimeSpan.FromMinutes(1), TestContext.Current.CancellationToken));
    }
}
