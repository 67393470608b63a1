using System.Net;
using System.Net.Sockets;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>The daemon's own end, at any moment, and state that cannot be written.</summary>
public sealed class OwnEndTests
{
    private const int Tries = 16, LateMilliseconds = 2500;

    /// <summary>Told to end at any moment after its start, it ends, and whoever was taken in until then is as he was.</summary>
    [Fact]
    public async Task TerminatedAtAnyMomentItEndsAndGivesBack()
    {
        Needs.Root();
        // Of its own, so that the rules are about nobody else's.
        using OpenFolder own = new("common");
        await using LiveProgram program = LiveProgram.Start(own.Target, "4");
        await program.Ready();
        string folder = Directory.CreateTempSubdirectory("samepage-test-").FullName, rules = Path.Combine(folder, "rules.toml");
        await File.WriteAllTextAsync(rules, $"settle_seconds = 0\nadvised = false\n[[include]]\nexecutable = \"{own.Target}\"\n");
        try
        {
            for (int i = 0; i < Tries; i++)
            {
                await using DaemonUnderTest daemon = DaemonUnderTest.Launch(rules: rules);
                int wait = LateMilliseconds * i / Tries;
                await Task.Delay(wait + Random.Shared.Next(LateMilliseconds / Tries));
                int exit = await daemon.Terminate(120);
                // Before the runtime has its own handlers the signal ends the process itself.
                Assert.True(exit is 0 or 143, $"told to end after {wait} ms: {exit}\n{daemon.Tail}");
                Assert.Equal(1, ProcessView.Of(program.Pid).Threads);
                await program.Does("verify");
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Anybody on this machine can connect to the port of the metrics.</summary>
    [Fact]
    public async Task AClientThatDoesNotSayWhatItWantsKeepsNoDaemonFromEnding()
    {
        Needs.Root();
        int port = Outside.FreePort();
        await using LiveProgram program = await LiveProgram.Target("common", "4");
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(arguments: ["--metrics-port", $"{port}"]);
        await daemon.TakeIn(program);
        using var silent = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await silent.ConnectAsync(new IPEndPoint(IPAddress.Loopback, port), TestContext.Current.CancellationToken);
        _ = await silent.SendAsync("GET /metrics HTTP/1.1\r\nHost: "u8.ToArray(), TestContext.Current.CancellationToken);
        // Another's answer shows that the server has seen the first.
        _ = await Outside.Get($"http://127.0.0.1:{port}/metrics");
        Assert.Equal(0, await daemon.Terminate(120));
        Assert.Equal(1, ProcessView.Of(program.Pid).Threads);
        await program.Does("verify");
    }

    /// <summary>Records of agents that can be neither written nor removed: nobody is taken in, and says why; who is in is given back; the daemon lives.</summary>
    [Theory]
    [InlineData("read-only")]
    [InlineData("full")]
    public async Task StateThatCannotBeWrittenKeepsNobody(string trouble)
    {
        Needs.Root();
        string run = Directory.CreateTempSubdirectory("samepage-test-").FullName;
        string agents = Path.Combine(run, "agents");
        await Outside.Must(10, "mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "none", run);
        try
        {
            LiveProgram[] two = await LiveProgram.Targets(2, "common", "4");
            await using var together = new Together(two);
            await using LiveProgram late = await LiveProgram.Target("common", "4");
            await using DaemonUnderTest daemon = await DaemonUnderTest.Start(runFolder: run, keep: true);
            await daemon.TakeInAndWait(two);
            if (trouble == "full")
                await Outside.Run(10, "sh", "-c", $"cat /dev/zero > {run}/filler");
            else
                await Outside.Must(10, "sh", "-c", $"mount --bind {agents} {agents} && mount -o remount,bind,ro {agents}");
            Called refused = await daemon.Cli("attach", $"{late.Pid}");
            Assert.True(refused.ExitCode == 1 && refused.Errors.Contains("cannot be written down", StringComparison.Ordinal), $"{refused}");
            Assert.Equal(1, ProcessView.Of(late.Pid).Threads);
            await late.Does("verify");
            Called back = await daemon.Cli("detach", $"{two[0].Pid}");
            Assert.True(back.ExitCode == 0, $"{back}\n{daemon.Tail}");
            Assert.Equal(1, ProcessView.Of(two[0].Pid).Threads);
            Assert.Equal(1, (await daemon.Status()).Run);

            if (trouble == "full")
                File.Delete(Path.Combine(run, "filler"));
            else
                await Outside.Must(10, "umount", "-l", agents);
            string record = Path.Combine(run, "agents", $"{two[0].Pid}");
            await Until.True(() => !File.Exists(record), 60, () => "what could not be removed is removed later");
            await daemon.TakeIn(late);
            Assert.Equal(0, await daemon.Terminate(120));
            foreach (LiveProgram program in (LiveProgram[])[.. two, late])
            {
                Assert.Equal(1, ProcessView.Of(program.Pid).Threads);
                await program.Does("verify");
            }
        }
        finally
        {
            await Outside.Run(10, "umount", "-l", agents);
            await Outside.Run(10, "umount", "-l", Path.Combine(run, "control"));
            await Outside.Must(10, "umount", "-l", run);
            Directory.Delete(run);
        }
    }
}
