using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Samepage.Agent;
using Samepage.Daemon;
using Samepage.Linux;
using Samepage.Linux.Frames;
using Samepage.Linux.Fuse;
using Samepage.Rules;

namespace Samepage.LinuxTests;

/// <summary>There may be as many threads as there may be: nobody ends for it, and nobody waits for one that never runs.</summary>
public sealed class OwnThreadTests : IDisposable
{
    private static readonly TimeSpan Long = TimeSpan.FromMinutes(1);
    private readonly string _folder = Directory.CreateTempSubdirectory("samepage-thread-").FullName;
    private int _refusals;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void AViewOfAMountIsRefused()
    {
        _refusals = 1;
        using FileDescriptor mount = FileDescriptor.Open("/");
        Assert.Equal(Errno.EAGAIN, Assert.Throws<SyscallException>(() => MountView.ReadOnly(mount, Start)).Errno);
    }

    [Fact]
    public async Task AScannerThatDoesNotRunIsNotWaitedFor()
    {
        _refusals = 1;
        using ScannerService scanner = new(NullLogger<ScannerService>.Instance, null!, null!, null!, RuleSet.None, null!);
        Assert.Equal(Errno.EAGAIN, (await Assert.ThrowsAsync<SyscallException>(() => scanner.Start(Start))).Errno);
        Assert.True(await scanner.StopAsync().WaitAsync(Long, TestContext.Current.CancellationToken));
    }

    [Fact]
    public void EntriesOfTheLogWait()
    {
        _refusals = 2;
        using StringWriter written = new();
        using (LogLines log = new(journal: true, written, Start))
        {
            ILogger logger = log.CreateLogger("X");
            for (int i = 1; i <= 3; i++)
                logger.LogInformation("entry {Number}", i);
        }

        Assert.Equal("<6>X[0] entry 1\n<6>X[0] entry 2\n<6>X[0] entry 3\n", written.ToString());
    }

    [Fact]
    public void ALogThatNeverHadOneEnds()
    {
        _refusals = int.MaxValue;
        using StringWriter written = new();
        using (LogLines log = new(journal: true, written, Start))
            log.CreateLogger("X").LogInformation("entry");
        Assert.Equal("", written.ToString());
    }

    [Fact]
    public void ControlFilesAreRefusedAndNothingStaysMounted()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess && File.Exists("/dev/fuse"), "needs root and /dev/fuse: a file system is mounted");
        _refusals = 1;
        using FuseSession session = new();
        Assert.Equal(Errno.EAGAIN, Assert.Throws<SyscallException>(() => session.Serve(_folder, null!, Start)).Errno);
        Assert.DoesNotContain(FuseMount.Lines(), line => line.Contains(_folder, StringComparison.Ordinal));
    }

    /// <summary>Those of whom there are no threads yet are recovered when there are.</summary>
    [Fact]
    public async Task ARecoveryGoesOnWhenThereAreThreadsAgain()
    {
        // Of each for the process, and of each for who watches its children.
        _refusals = 8;
        AgentRecords records = new(_folder);
        for (int i = 1; i <= 3; i++)
            records.Write(new AgentRecord(new AgentPlace(int.MaxValue - i, 1, 0x7f12_3456_7000, 1), 7, 42, "uid:1000"));
        Recovery recovery = new(_folder, NullLogger.Instance, start: Start);
        Assert.All(recovery.Left, left => Assert.NotEqual("", left.Why));
        Assert.Contains(recovery.Left, left => left.Why.StartsWith("EAGAIN", StringComparison.Ordinal));
        Assert.Empty(await recovery.WaitAsync(Long, finish: true, TestContext.Current.CancellationToken));
        Assert.Empty(records.ReadAll());
    }

    private void Start(Thread thread)
    {
        if (Interlocked.Decrement(ref _refusals) >= 0)
            throw new InsufficientMemoryException();
        thread.Start();
    }
}
