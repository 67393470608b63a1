using System.Net.Sockets;
using Samepage.SystemTests.Harness;

namespace Samepage.SystemTests;

/// <summary>What the daemon reads of its surroundings, and what of them it refuses.</summary>
public sealed class SurroundingsTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("samepage-around-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    /// <summary>Settings for web servers that lie around, in the directory that it was started in and in its environment, open nothing.</summary>
    [Fact]
    public async Task NobodyElsesSettingsOpenASocket()
    {
        int[] ports = [.. Enumerable.Range(0, 6).Select(_ => Outside.FreePort())];
        await File.WriteAllTextAsync(Path.Combine(_folder, "appsettings.json"), $$"""
            { "urls": "http://127.0.0.1:{{ports[0]}}", "Kestrel": { "Endpoints": { "Open": { "Url": "http://127.0.0.1:{{ports[1]}}" } } } }
            """);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(launcher: ["sh", "-c", $"cd {_folder} && exec \"$@\"", "sh"], environment: new()
        {
            ["Kestrel__Endpoints__Other__Url"] = $"http://127.0.0.1:{ports[2]}",
            ["ASPNETCORE_URLS"] = $"http://127.0.0.1:{ports[3]}",
            ["DOTNET_URLS"] = $"http://127.0.0.1:{ports[4]}",
            ["ASPNETCORE_HTTP_PORTS"] = $"{ports[5]}",
            ["ASPNETCORE_Kestrel__Endpoints__Third__Url"] = $"http://127.0.0.1:{ports[5]}",
        });
        Assert.Equal(1, (await daemon.Status()).Run);
        foreach ((int place, int port) in ports.Index())
        {
            using Socket socket = new(SocketType.Stream, ProtocolType.Tcp);
            SocketException refused = await Assert.ThrowsAnyAsync<SocketException>(() => socket.ConnectAsync("127.0.0.1", port));
            Assert.True(refused.SocketErrorCode == SocketError.ConnectionRefused, $"setting {place}: {refused.Message}");
        }
    }

    [Theory]
    [InlineData("relative/path")]
    [InlineData("overlong")]
    [InlineData("link")]
    [InlineData("file")]
    [InlineData("fifo")]
    [InlineData("below a file")]
    [InlineData("open to others")]
    [InlineData("below what is open to others")]
    [InlineData("another user's")]
    [InlineData("over another user's link")]
    [InlineData("dangling")]
    public async Task ARunDirectoryThatIsNotOursAloneIsRefusedAndNothingIsChanged(string defect)
    {
        Needs.Root();
        string place = Path.Combine(_folder, "run");
        switch (defect)
        {
            case "relative/path": place = "samepage-test-relative"; break;
            case "overlong": place = Path.Combine(_folder, new string('x', 100)); break;
            case "link": Directory.CreateDirectory(Path.Combine(_folder, "real")); File.CreateSymbolicLink(place, Path.Combine(_folder, "real")); break;
            case "dangling": File.CreateSymbolicLink(place, Path.Combine(_folder, "nothing")); break;
            case "file": await File.WriteAllTextAsync(place, ""); break;
            case "fifo": await Outside.Must(10, "mkfifo", place); break;
            case "below a file": await File.WriteAllTextAsync(place, ""); place = Path.Combine(place, "run"); break;
            case "open to others": Directory.CreateDirectory(place); File.SetUnixFileMode(place, (UnixFileMode)0b111_111_101); break;
            case "below what is open to others": Directory.CreateDirectory(place); File.SetUnixFileMode(place, (UnixFileMode)0b111_101_111); place = Path.Combine(place, "run"); break;
            case "another user's": Directory.CreateDirectory(place); await Outside.Must(10, "chown", "1234", place); break;
            default:
                File.CreateSymbolicLink(Path.Combine(_folder, "hop"), _folder);
                await Outside.Must(10, "chown", "-h", "1234", Path.Combine(_folder, "hop"));
                place = Path.Combine(_folder, "hop", "run");
                break;
        }

        string[] before = All();
        foreach (string[] arguments in (string[][])[["daemon", "--no-rules"], ["recover"]])
        {
            Called called = await Cli.Run(place, arguments);
            Assert.True(called.ExitCode == 2 && called.Errors.Contains("run directory", StringComparison.Ordinal) && !called.Errors.Contains("   at ", StringComparison.Ordinal), $"{arguments[0]}: {called}");
        }

        Assert.Equal(before, All());
        Assert.False(Directory.Exists("/samepage-test-relative"));

        string[] All() => [.. Directory.EnumerateFileSystemEntries(_folder, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal)];
    }

    /// <summary>In a directory where everybody may write, but not take away what is another's, a directory of ours is ours.</summary>
    [Fact]
    public async Task BelowAStickyDirectoryItServes()
    {
        Needs.Root();
        File.SetUnixFileMode(_folder, (UnixFileMode)0b1_111_111_111);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(runFolder: Path.Combine(_folder, "run"));
        Assert.Equal(1, (await daemon.Status()).Run);
        Assert.Equal((UnixFileMode)0b110_000_000, File.GetUnixFileMode(Path.Combine(daemon.RunFolder, "samepage.sock")));
        Assert.Equal((UnixFileMode)0b111_101_101, File.GetUnixFileMode(daemon.RunFolder));
    }

    [Theory]
    [InlineData("written by its group")]
    [InlineData("written by all")]
    [InlineData("another user's")]
    [InlineData("in a directory that all may write in")]
    [InlineData("a directory")]
    [InlineData("a FIFO")]
    [InlineData("a device")]
    [InlineData("a huge file")]
    public async Task RulesThatOthersCouldWriteAreRefused(string defect)
    {
        Needs.Root();
        string rules = Path.Combine(_folder, "rules.toml");
        if (defect == "a directory")
            Directory.CreateDirectory(rules);
        else if (defect == "a FIFO")
            await Outside.Must(10, "mkfifo", rules);
        else if (defect == "a device")
            rules = "/dev/zero";
        else
            await File.WriteAllTextAsync(rules, "advised = false\n");
        if (defect is "written by its group" or "written by all")
            File.SetUnixFileMode(rules, defect == "written by all" ? (UnixFileMode)0b110_100_110 : (UnixFileMode)0b110_110_100);
        if (defect == "another user's")
            await Outside.Must(10, "chown", "1234", rules);
        if (defect == "in a directory that all may write in")
            File.SetUnixFileMode(_folder, (UnixFileMode)0b111_111_111);
        if (defect == "a huge file")
            await Outside.Must(10, "truncate", "-s", "1T", rules);
        string run = Path.Combine(Directory.CreateTempSubdirectory("samepage-test-").FullName, "run");
        try
        {
            Called called = await Cli.Run(run, "daemon", "--config", rules);
            Assert.True(called.ExitCode == 2 && called.Errors.Contains(rules, StringComparison.Ordinal) && !called.Errors.Contains("   at ", StringComparison.Ordinal), $"{called}");
            Assert.False(Directory.Exists(run));
        }
        finally
        {
            Directory.Delete(Path.GetDirectoryName(run)!, recursive: true);
        }
    }

    /// <summary>Whoever may read a file may lock it, flock(2), for as long as he likes: a user without any privilege those that the daemon reads at every visit. Here they are files of its own, in a namespace of mounts, so that
    /// nobody else meets his locks.</summary>
    [Fact]
    public async Task LocksOnFilesThatEverybodyMayReadKeepNobody()
    {
        string setpriv = Needs.Program("setpriv", "util-linux"), flock = Needs.Program("flock", "util-linux"), nsenter = Needs.Program("nsenter", "util-linux");
        string rules = Path.Combine(_folder, "rules.toml");
        await File.WriteAllTextAsync(rules, "advised = false\n[[exclude]]\nuser = \"daemon\"\n");
        File.SetUnixFileMode(_folder, (UnixFileMode)0b111_101_101);
        string[] copied = [.. new[] { "/etc/passwd", "/sys/kernel/btf/vmlinux" }.Where(File.Exists)];
        string mounts = string.Concat(copied.Select((path, i) => $" && cp {path} {_folder}/{i} && mount --bind {_folder}/{i} {path}"));
        await using LiveProgram place = LiveProgram.Start(Needs.Program("unshare", "util-linux"), "--mount", "sh", "-c", $"mount -t proc proc /proc{mounts} && echo ready && exec cat");
        await place.Ready();
        string[] inside = [nsenter, $"--mount=/proc/{place.Pid}/ns/mnt"];
        await using LiveProgram locker = LiveProgram.Start(inside[0],
            [inside[1], setpriv, "--reuid=1234", "--regid=1234", "--clear-groups", .. copied.Append("/proc/sys/vm/max_map_count").Append(rules).SelectMany(path => new[] { flock, path }), "sh", "-c", "echo ready; exec cat"]);
        await locker.Ready();
        LiveProgram[] two = await LiveProgram.Targets(2, "common", "8");
        await using var together = new Together(two);
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(rules: rules, launcher: inside);
        await daemon.Serves(two, 1000);
        Assert.Equal(0, (await daemon.Cli("reload")).ExitCode);
        Assert.Equal(0, await daemon.Terminate());
        Assert.False(locker.HasExited);
    }

    [Fact]
    public async Task RulesThatBecameWritableAreNotReadAgain()
    {
        Needs.Root();
        string rules = Path.Combine(_folder, "rules.toml");
        await File.WriteAllTextAsync(rules, "advised = false\n");
        await using DaemonUnderTest daemon = await DaemonUnderTest.Start(rules: rules);
        File.SetUnixFileMode(rules, (UnixFileMode)0b110_110_110);
        Called called = await daemon.Cli("reload");
        Assert.True(called.ExitCode == 2 && called.Errors.Contains("the old rules stay in force", StringComparison.Ordinal), $"{called}");
        File.SetUnixFileMode(rules, (UnixFileMode)0b110_100_100);
        Assert.Equal(0, (await daemon.Cli("reload")).ExitCode);
    }
}
