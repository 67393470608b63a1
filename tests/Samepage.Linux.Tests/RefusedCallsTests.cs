using System.Globalization;
using Microsoft.Extensions.Logging.Abstractions;
using Samepage.Agent.Tracing;
using Samepage.Daemon;
using Samepage.Linux;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;

namespace Samepage.LinuxTests;

/// <summary>The kernel refuses what the agent asks for in the middle of an exchange, as it may where there is no memory left: no page is lost for it, and none is left unwatched.</summary>
/// <remarks>A tracer stands in for the kernel: the call is not made, and is answered with ENOMEM.</remarks>
public sealed class RefusedCallsTests
{
    private const int SYS_mmap = 9, SYS_munmap = 11, SYS_ioctl = 16, SYS_madvise = 28, MADV_POPULATE_READ = 22;
    private const ulong Bytes = 256 * 4096;

    /// <summary>Says whether its memory is what it wrote, and reads as zeros once it is discarded.</summary>
    private const string Alike = """
        import ctypes, mmap, sys
        memory = mmap.mmap(-1, 256 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for i in range(256): memory[i * 4096:(i + 1) * 4096] = (i + 1).to_bytes(4, 'little') * 1024
        print('ready', flush=True)
        print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), flush=True) if input() == 'where' else None
        for line in sys.stdin:
            right = all(memory[i * 4096:(i + 1) * 4096] == (i + 1).to_bytes(4, 'little') * 1024 for i in range(256))
            memory.madvise(mmap.MADV_DONTNEED)
            print('right' if right and memory[:] == bytes(len(memory)) else 'wrong', flush=True)
        """;

    /// <summary>Frames were mapped, and cannot be filled in: fresh memory is to come in their place, and the pages back into it. Or they cannot be mapped, and the range is there as it was, or is not any more.</summary>
    [Theory]
    [InlineData("populate")]
    [InlineData("populate fresh fresh")]
    [InlineData("populate register register")]
    [InlineData("populate fresh register")]
    [InlineData("frames")]
    [InlineData("unmapped")]
    [InlineData("unmapped fresh register")]
    public async Task NothingIsLostAndNothingIsLeftUnwatched(string refused)
    {
        await using ForeignProgram first = await ForeignProgram.Python(Alike), second = await ForeignProgram.Python(Alike);
        int one = first.Pid, other = second.Pid;
        ulong memory = ulong.Parse(await first.Answers("where"), CultureInfo.InvariantCulture);
        _ = await second.Answers("where");
        Queue<string> calls = new(refused.Split(' '));
        string folder = Directory.CreateTempSubdirectory("samepage-refused-").FullName;
        ForeignProgram.Trace(() =>
        {
            using Coordinator coordinator = new(NullLogger.Instance, new AgentRecords(folder));
            StepByStep steps = StepByStep.Here();
            Assert.True(steps.Run(coordinator.Attach(one)).Done && steps.Run(coordinator.Attach(other)).Done);
            using ManualResetEventSlim ended = new();
            int executor = first.Threads[1];
            Task kernel = Task.Factory.StartNew(() => Refuse(one, executor, memory, calls, ended), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
            for (int pass = 0; pass < 10; pass++)
                StepByStep.Pass(coordinator, pass % 2 == 0 ? one : other);
            ended.Set();
            kernel.GetAwaiter().GetResult();
        });
        Assert.Empty(calls);
        await first.Says("", "right");
        await second.Says("", "right");
        Directory.Delete(folder, recursive: true);
    }

    /// <summary>Looks at each call that a thread makes, and refuses those that are named, in their order.</summary>
    private static void Refuse(int pid, int tid, ulong memory, Queue<string> calls, ManualResetEventSlim ended)
    {
        // Stops at calls are told from others for those alone that are filtered.
        Tracee thread = new(pid, tid) { IsFiltered = true };
        Assert.Equal(Errno.None, thread.Seize());
        Assert.Equal(Errno.None, thread.Interrupt());
        Assert.True(SpinWait.SpinUntil(() => thread.Look() != StopKind.Running, TimeSpan.FromMinutes(1)));
        for (bool isIn = false, isRefused = false; ;)
        {
            _ = thread.ContinueToCall();
            for (; thread.Look() == StopKind.Running; Thread.Sleep(0))
            {
                if (ended.IsSet)
                    _ = thread.Interrupt();
            }

            if (!thread.IsAtCall)
            {
                thread.Release();
                return;
            }

            isIn = !isIn;
            LibC.user_regs_struct registers = thread.Registers();
            if (!isIn && isRefused)
                thread.SetRegisters(registers with { rax = unchecked((ulong)-(long)Errno.ENOMEM) });
            isRefused = isIn && calls.TryPeek(out string? next) && Is(next, registers, new RemoteMemory(tid), memory);
            if (isRefused)
            {
                // The same two words say what is to be unmapped.
                bool unmaps = calls.Dequeue() == "unmapped";
                thread.SetRegisters(registers with { orig_rax = unmaps ? SYS_munmap : ulong.MaxValue });
            }
        }
    }

    /// <summary>It is the call of that name, and about that memory.</summary>
    private static bool Is(string name, in LibC.user_regs_struct call, RemoteMemory words, ulong memory)
    {
        bool isFixed = call.orig_rax == SYS_mmap && (call.r10 & LibC.MAP_FIXED) != 0, isFresh = isFixed && (call.r10 & LibC.MAP_ANONYMOUS) != 0;
        ulong start = call.orig_rax == SYS_ioctl && words.TryReadWord(call.rdx, out ulong first) ? first : call.rdi;
        return start >= memory && start < memory + Bytes && name switch
        {
            "populate" => call.orig_rax == SYS_madvise && call.rdx == MADV_POPULATE_READ,
            "fresh" => isFresh,
            "register" => call.orig_rax == SYS_ioctl && (uint)call.rsi == (uint)LibC.UFFDIO_REGISTER,
            _ => isFixed && !isFresh,
        };
    }
}
