using Microsoft.Extensions.Logging.Abstractions;
using Samepage.Agent;
using Samepage.Api;
using Samepage.Daemon;
using Samepage.Linux;
using Samepage.Linux.Frames;
using Samepage.Linux.Processes;

namespace Samepage.LinuxTests;

/// <summary>A program that may open next to no descriptors, RLIMIT_NOFILE, as one sees to that confines itself.</summary>
public sealed class DescriptorRoomTests
{
    /// <summary>Answers what its limit is, and whether its memory is right; a child that it forks may open no more, and answers for itself.</summary>
    private const string Confined = """
        import mmap, os, resource, socket, sys
        memory = mmap.mmap(-1, 256 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for i in range(256): memory[i * 4096:(i + 1) * 4096] = (i % 8 + 1).to_bytes(4, 'little') * 1024
        def right(): return all(memory[i * 4096:(i + 1) * 4096] == (i % 8 + 1).to_bytes(4, 'little') * 1024 for i in range(256))
        ours, childs = socket.socketpair()
        def child():
            resource.setrlimit(resource.RLIMIT_NOFILE, (2, 4096))
            while word := childs.recv(100):
                if word == b'discard': memory.madvise(mmap.MADV_DONTNEED)
                good = memory[:] == bytes(len(memory)) if word == b'discard' else right()
                childs.send(b'right' if good and resource.getrlimit(resource.RLIMIT_NOFILE) == (2, 4096) else b'wrong')
            os._exit(0)
        print('ready', flush=True)
        for line in sys.stdin:
            words = line.split()
            if words[0] == 'limit':
                resource.setrlimit(resource.RLIMIT_NOFILE, (int(words[1]), int(words[2])))
            if words[0] == 'fork':
                pid = os.fork()
                if not pid: ours.close(); child()
                childs.close()
            if words[0] in ('child', 'discard'):
                ours.send(words[0].encode())
                print(ours.recv(100).decode(), flush=True)
            else:
                print('right' if right() else 'wrong', *resource.getrlimit(resource.RLIMIT_NOFILE), flush=True)
        """;

    [Theory]
    [InlineData(0)]
    [InlineData(9)]
    public async Task IsRefusedAndToldWhy(int soft)
    {
        await using ForeignProgram confined = await ForeignProgram.Python(Confined);
        await confined.Says($"limit {soft} 4096", $"right {soft} 4096");
        int pid = confined.Pid;
        string folder = Directory.CreateTempSubdirectory("samepage-room-").FullName;
        With(folder, (coordinator, steps) =>
        {
            ProcessOutcome refused = steps.Run(coordinator.Attach(pid));
            Assert.True(!refused.Done && refused.Reason.Contains("RLIMIT_NOFILE", StringComparison.Ordinal), $"{refused}");
        });
        Directory.Delete(folder, recursive: true);
        Assert.DoesNotContain(confined.Maps, line => line.Contains("samepage", StringComparison.Ordinal));
        await confined.Says("ask", $"right {soft} 4096");
    }

    [Fact]
    public async Task IsTakenInWithNoMoreThanAnAgentNeeds()
    {
        int least = AgentLayout.LeastDescriptors(FrameGuards.PipesNeeded());
        await using ForeignProgram confined = await ForeignProgram.Python(Confined);
        await confined.Says($"limit {least} 4096", $"right {least} 4096");
        int pid = confined.Pid;
        string folder = Directory.CreateTempSubdirectory("samepage-room-").FullName;
        With(folder, (coordinator, steps) =>
        {
            Assert.True(steps.Run(coordinator.Attach(pid)).Done);
            Assert.True(steps.Run(coordinator.Detach(pid)).Done);
        });
        Directory.Delete(folder, recursive: true);
        await confined.Says("ask", $"right {least} 4096");
    }

    /// <summary>Of what is sent to an agent the kernel hands over as many as there is room for. With fewer of them it would guard no frames, or take one for another.</summary>
    [Theory]
    [InlineData(12)]
    [InlineData(20)]
    public async Task WhoMakesRoomForFewerMeanwhileIsNotTakenIn(int limit)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "needs root: a pool of frames is a mount of its own");
        await using ForeignProgram confined = await ForeignProgram.Python(Confined);
        int pid = confined.Pid;
        using FramePool pool = FramePool.Create();
        Assert.SkipUnless(pool.Guards.Count > 16, "one pipe is enough: CAP_SYS_RESOURCE, or little memory");
        ForeignProgram.Trace(() =>
        {
            Assert.True(PidFd.TryOpen(pid, out FileDescriptor? pidfd, out _));
            using (pidfd)
                Assert.Throws<AttachException>(() => AgentSession.Attach(pid, pidfd!, pool, inheritedM: null, static _ => { }, new Entitlement(false, _ => Assert.Equal($"right {limit} 4096", Ask(confined, $"limit {limit} 4096")))));
        });
        Assert.DoesNotContain(confined.Maps, line => line.Contains("samepage", StringComparison.Ordinal));
        await confined.Says("ask", $"right {limit} 4096");
    }

    /// <summary>Its parent could not be given back otherwise.</summary>
    [Fact]
    public async Task AChildIsTakenInAllTheSame()
    {
        await using ForeignProgram parent = await ForeignProgram.Python(Confined);
        int pid = parent.Pid;
        string folder = Directory.CreateTempSubdirectory("samepage-room-").FullName;
        With(folder, (coordinator, steps) =>
        {
            Assert.True(steps.Run(coordinator.Attach(pid)).Done);
            for (int pass = 0; pass < 10; pass++)
                StepByStep.Pass(coordinator, pid);
            Assert.InRange(coordinator.Engine.Figures.PagesSharing, 200, 300);
            Assert.StartsWith("right ", Ask(parent, "fork"), StringComparison.Ordinal);
            Assert.Equal("right", Ask(parent, "child"));
            ProcessOutcome back = steps.Run(coordinator.Detach(pid));
            Assert.True(back.Done, $"{back}");
        });
        Directory.Delete(folder, recursive: true);
        await parent.Says("child", "right");
        await parent.Says("discard", "right");
        Assert.StartsWith("right ", await parent.Answers("ask"), StringComparison.Ordinal);
    }

    /// <summary>A daemon that was killed has raised it for the agent, and whoever takes that over puts it back, but for what the program has set since.</summary>
    [Theory]
    [InlineData("3 4096", "ask", "3 4096")]
    [InlineData("3 16", "ask", "3 16")]
    [InlineData("3 4096", "limit 100 4096", "100 4096")]
    [InlineData("3 4096", "limit 320 1000", "3 1000")]
    public async Task WhatADeadDaemonRaisedIsPutBack(string before, string meanwhile, string after)
    {
        await using ForeignProgram confined = await ForeignProgram.Python(Confined);
        int pid = confined.Pid;
        string folder = Directory.CreateTempSubdirectory("samepage-room-").FullName;
        With(folder, (coordinator, steps) =>
        {
            Assert.True(steps.Run(coordinator.Attach(pid)).Done);
            Assert.Equal($"right {before}", Ask(confined, $"limit {before}"));
            Assert.True(AgentMemory.TryFind(Assert.Single(new AgentRecords(folder).ReadAll()).Place, out AgentMemory? memory, out string why), why);
            _ = new DescriptorRoom(pid, memory!); // never ended: its daemon is killed
            Assert.NotEqual($"right {before}", Ask(confined, "ask"));
            _ = Ask(confined, meanwhile);
        });
        Recovery recovery = new(folder, NullLogger.Instance);
        Assert.Empty(await recovery.WaitAsync(TimeSpan.FromMinutes(1), finish: true, TestContext.Current.CancellationToken));
        Directory.Delete(folder, recursive: true);
        Assert.DoesNotContain(confined.Maps, line => line.Contains("samepage", StringComparison.Ordinal));
        await confined.Says("ask", $"right {after}");
    }

    /// <summary>What stands written is the program's to change: a bound is never put higher for it.</summary>
    [Theory]
    [InlineData(ulong.MaxValue, ulong.MaxValue)]
    [InlineData(101UL, ulong.MaxValue)]
    [InlineData(0UL, 0UL)]
    public async Task WhatIsWrittenNeverRaisesIt(ulong soft, ulong hard)
    {
        await using ForeignProgram confined = await ForeignProgram.Python(Confined);
        await confined.Says("limit 50 60", "right 50 60");
        DescriptorRoom.PutBack(confined.Pid, soft, hard);
        await confined.Says("ask", "right 50 60");
    }

    /// <summary>Beside the steps of this thread.</summary>
    private static string Ask(ForeignProgram program, string line) => Task.Run(() => program.Answers(line)).GetAwaiter().GetResult();

    private static void With(string folder, Action<Coordinator, StepByStep> does) => ForeignProgram.Trace(() =>
    {
        using Coordinator coordinator = new(NullLogger.Instance, new AgentRecords(folder));
        StepByStep steps = StepByStep.Here();
        does(coordinator, steps);
    });
}
