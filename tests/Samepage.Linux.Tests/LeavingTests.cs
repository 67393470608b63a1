using Microsoft.Extensions.Logging.Abstractions;
using Samepage.Agent.Tracing;
using Samepage.Api;
using Samepage.Daemon;
using Samepage.Linux;
using Samepage.Linux.Interop;

namespace Samepage.LinuxTests;

/// <summary>While a program is given back the scanner goes on with others, who have pages in common with it. From the moment at which it was found to have no frames, and its warden was sent away, none may come.</summary>
public sealed class LeavingTests
{
    /// <summary>More than giving back one program has.</summary>
    private const int Steps = 12;

    /// <summary>Contents that both have in common, and that nobody has merged before one of them is given back. A page that was discarded must read as zeros: one that is a frame still, with nobody to hear of that, would not.</summary>
    private const string Alike = """
        import mmap, sys
        memory = mmap.mmap(-1, 256 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for i in range(256): memory[i * 4096:(i + 1) * 4096] = (i + 1).to_bytes(4, 'little') * 1024
        print('ready', flush=True)
        for line in sys.stdin:
            right = all(memory[i * 4096:(i + 1) * 4096] == (i + 1).to_bytes(4, 'little') * 1024 for i in range(256))
            memory.madvise(mmap.MADV_DONTNEED)
            print('right' if right and memory[:] == bytes(len(memory)) else 'wrong', flush=True)
        """;

    [Fact]
    public async Task NothingIsMergedIntoAProgramThatIsGivenBackWhateverTheMoment()
    {
        for (int step = -1; step < Steps; step++)
        {
            await using ForeignProgram leaves = await ForeignProgram.Python(Alike), stays = await ForeignProgram.Python(Alike);
            int first = leaves.Pid, second = stays.Pid, begin = step;
            ForeignProgram.Trace(() => GiveBackBesideTheScanner(first, second, begin));
            Assert.DoesNotContain(leaves.Maps, line => line.Contains("samepage", StringComparison.Ordinal));
            await leaves.Says("", "right");
            Assert.DoesNotContain(stays.Maps, line => line.Contains("samepage", StringComparison.Ordinal));
            await stays.Says("", "right");
        }
    }

    /// <summary>A seccomp filter may end the agent's thread alone (SECCOMP_RET_KILL_THREAD), or the program itself. What is merged then cannot be given back any more: it stays as it is, and watched, and that is said.</summary>
    [Fact]
    public async Task WhoseAgentIsEndedInItStaysMergedAndIsNotForgotten()
    {
        await using ForeignProgram ended = await ForeignProgram.Python(Alike), other = await ForeignProgram.Python(Alike);
        int first = ended.Pid, second = other.Pid;
        string folder = Directory.CreateTempSubdirectory("samepage-leaving-").FullName;
        ForeignProgram.Trace(() =>
        {
            using Coordinator coordinator = new(NullLogger.Instance, new AgentRecords(folder));
            StepByStep steps = StepByStep.Here();
            Assert.True(steps.Run(coordinator.Attach(first)).Done && steps.Run(coordinator.Attach(second)).Done);
            for (int pass = 0; pass < 10; pass++)
                StepByStep.Pass(coordinator, pass % 2 == 0 ? first : second);
            Assert.InRange(coordinator.Engine.Figures.PagesSharing, 200, 300);
            EndExecutor(ended);
            for (int pass = 0; pass < 10; pass++)
                StepByStep.Pass(coordinator, first);
            ProcessOutcome left = steps.Run(coordinator.Detach(first));
            Assert.True(!left.Done && left.Reason.Contains("ended by somebody", StringComparison.Ordinal), $"{left}");
            Assert.True(steps.Run(coordinator.Detach(second)).Done && !coordinator.HasGivenAllBack);
        });
        Assert.Equal([$"{first}"], Directory.GetFiles(Path.Combine(folder, "agents")).Select(Path.GetFileName));
        // Its warden answers for what it discards.
        await ended.Says("", "right");
        await other.Says("", "right");
        Directory.Delete(folder, recursive: true);
    }

    /// <summary>Where nothing was merged yet what is left of the agent is taken out.</summary>
    [Fact]
    public async Task WhoseAgentIsEndedBeforeAnythingWasMergedIsLeftWhole()
    {
        await using ForeignProgram ended = await ForeignProgram.Python(Alike);
        int pid = ended.Pid;
        string folder = Directory.CreateTempSubdirectory("samepage-leaving-").FullName;
        ForeignProgram.Trace(() =>
        {
            using Coordinator coordinator = new(NullLogger.Instance, new AgentRecords(folder));
            StepByStep steps = StepByStep.Here();
            Assert.True(steps.Run(coordinator.Attach(pid)).Done);
            EndExecutor(ended);
            StepByStep.Pass(coordinator, pid);
            ProcessOutcome left = steps.Run(coordinator.Detach(pid));
            Assert.True(left.Done, $"{left}");
            Assert.True(SpinWait.SpinUntil(() => coordinator.HasGivenAllBack, TimeSpan.FromMinutes(1)));
        });
        Assert.DoesNotContain(ended.Maps, line => line.Contains("samepage", StringComparison.Ordinal));
        Assert.Empty(Directory.GetFiles(Path.Combine(folder, "agents")));
        await ended.Says("", "right");
        Directory.Delete(folder, recursive: true);
    }

    /// <summary>Has the first of the agent's threads, which are the last ones, make exit(2).</summary>
    private static void EndExecutor(ForeignProgram program)
    {
        const ulong SYS_exit = 60;
        int tid = program.Threads[1];
        Tracee executor = new(program.Pid, tid);
        Assert.Equal(Errno.None, executor.Seize());
        Assert.Equal(Errno.None, executor.Interrupt());
        Assert.True(SpinWait.SpinUntil(() => executor.Poll() == StopKind.Held, TimeSpan.FromMinutes(1)));
        Assert.True(executor.TryRegisters(out LibC.user_regs_struct registers));
        // It stands behind the instruction of its call.
        executor.SetRegisters(BorrowedThread.ForOurs(registers, registers.rip - (registers.orig_rax == ulong.MaxValue ? 0UL : 2)) with { rax = SYS_exit });
        executor.Release();
        Assert.True(SpinWait.SpinUntil(() => !Directory.Exists($"/proc/{program.Pid}/task/{tid}"), TimeSpan.FromMinutes(1)));
    }

    /// <summary>Gives one back, and has the scanner visit the other at one step of that; at -1 before it begins, so that it is seen that it would merge them.</summary>
    private static void GiveBackBesideTheScanner(int first, int second, int begin)
    {
        string folder = Directory.CreateTempSubdirectory("samepage-leaving-").FullName;
        using Coordinator coordinator = new(NullLogger.Instance, new AgentRecords(folder));
        StepByStep steps = StepByStep.Here();
        Assert.True(steps.Run(coordinator.Attach(first)).Done);
        for (int pass = 0; pass < 100 && (pass < 5 || coordinator.IsBusy); pass++)
            StepByStep.Pass(coordinator, first);
        Assert.True(steps.Run(coordinator.Attach(second)).Done);
        int step = 0;
        if (begin < 0)
        {
            VisitSecond();
            Assert.InRange(coordinator.Engine.Figures.PagesSharing, 200, 300);
        }

        ProcessOutcome back = steps.Run(coordinator.Detach(first), () =>
        {
            if (step++ == begin)
                VisitSecond();
        });
        Assert.True(back.Done && back.Different.Length == 0, $"{back}");
        Assert.True(steps.Run(coordinator.Detach(second)).Done);
        Directory.Delete(folder, recursive: true);

        void VisitSecond()
        {
            for (int pass = 0; pass < 5; pass++)
                StepByStep.Pass(coordinator, second);
        }
    }
}
