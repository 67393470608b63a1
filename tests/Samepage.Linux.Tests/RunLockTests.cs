using System.Diagnostics;
using Samepage.Daemon;
using Samepage.Linux;

namespace Samepage.LinuxTests;

public sealed class RunLockTests
{
    [Fact]
    public void OneHasIt_AndOthersSeeWho()
    {
        using TemporaryFolder folder = new();
        using (RunLock? mine = RunLock.TryTake(folder.Path, RunLockHolder.Recovery, out _))
        {
            Assert.NotNull(mine);
            Assert.Null(RunLock.TryTake(folder.Path, RunLockHolder.Daemon, out RunLockHolder? holder));
            Assert.Equal((RunLockHolder.Recovery, Environment.ProcessId, true, false), (holder!.Kind, holder.Pid, holder.IsThere, holder.IsDying));
        }

        using RunLock? next = RunLock.TryTake(folder.Path, RunLockHolder.Daemon, out _);
        Assert.NotNull(next);
    }

    /// <summary>The lock of a process that was killed, and of which something still hangs in the kernel: here somebody else keeps its lock for it, with its signature.</summary>
    [Fact]
    public async Task OfManyThatFindADyingHolderOneTakesItsPlace()
    {
        using TemporaryFolder folder = new();
        using Process holder = Process.Start("sleep", "1000");
        string stat = File.ReadAllText($"/proc/{holder.Id}/stat"), path = Path.Combine(folder.Path, "lock");
        string start = stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[19];
        using FileStream kept = new(path, FileMode.Create, FileAccess.ReadWrite, FileShare.ReadWrite, 1);
        Assert.True(FileLock.TryTake(kept.SafeFileHandle));
        kept.Write(System.Text.Encoding.ASCII.GetBytes($"daemon {holder.Id} {start}\n"));
        kept.Flush();
        Assert.Null(RunLock.TryTake(folder.Path, RunLockHolder.Daemon, out RunLockHolder? living));
        Assert.False(living!.IsDying);

        // A parent that does not wait for it keeps it a zombie.
        using Process parent = Process.Start(new ProcessStartInfo("sh", ["-c", "sleep 1000 & echo $!; exec sleep 1000"]) { RedirectStandardOutput = true })!;
        int zombie = int.Parse((await parent.StandardOutput.ReadLineAsync())!, System.Globalization.CultureInfo.InvariantCulture);
        stat = File.ReadAllText($"/proc/{zombie}/stat");
        start = stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[19];
        kept.SetLength(0);
        kept.Write(System.Text.Encoding.ASCII.GetBytes($"daemon {zombie} {start}\n"));
        kept.Flush();
        using (Process killed = Process.GetProcessById(zombie))
            killed.Kill();
        while (!File.ReadAllText($"/proc/{zombie}/stat").Contains(") Z ", StringComparison.Ordinal))
            await Task.Delay(5);
        RunLock?[] taken = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(() =>
        {
            RunLock? mine = null;
            for (int i = 0; i < 50 && mine is null; i++)
                mine = RunLock.TryTake(folder.Path, RunLockHolder.Daemon, out RunLockHolder? _);
            return mine;
        })));
        Assert.Single(taken, one => one is not null);
        Assert.Null(RunLock.TryTake(folder.Path, RunLockHolder.Daemon, out RunLockHolder? now));
        Assert.Equal(Environment.ProcessId, now!.Pid);
        holder.Kill();
        parent.Kill();
    }

    [Theory]
    [InlineData("")]
    [InlineData("daemon")]
    [InlineData("daemon 0 1\n")]
    [InlineData("daemon x 1\n")]
    [InlineData("daemon 1 -1\n")]
    public void ASignatureThatIsNoneIsNobodys(string text) => Assert.Null(RunLock.Parse(text));

    private sealed class TemporaryFolder : IDisposable
    {
        public string Path { get; } = Directory.CreateTempSubdirectory("samepage-test-").FullName;

        public void Dispose() => Directory.Delete(Path, recursive: true);
    }
}
