using System.Globalization;
using System.Runtime.InteropServices;
using Samepage.Agent;
using Samepage.Agent.Tracing;
using Samepage.Linux;
using Samepage.Linux.Processes;
using Samepage.Linux.ProcFs;

namespace Samepage.LinuxTests;

/// <summary>Calls that were begun again, and whose time is over.</summary>
public sealed class RestartsTests
{
    private const int SYS_rt_sigtimedwait = 128;
    private static readonly TimeSpan Bound = TimeSpan.FromMinutes(1);

    /// <summary>A thread in sigtimedwait(2). Its time lies in a page that it makes one that nobody brings (userfaultfd) when it is told `lay`.</summary>
    private const string Waits = """
        import ctypes, signal, struct, sys, threading, fcntl
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall.restype = ctypes.c_long
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        page = libc.mmap(None, 4096, 3, 0x22, -1, 0)
        time = (ctypes.c_long * 2).from_address(page)
        time[0] = 100000
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        signals = ctypes.c_ulong(1 << (signal.SIGUSR1 - 1))
        came, ended = [], threading.Event()
        def wait():
            answer = libc.syscall(ctypes.c_long(128), ctypes.byref(signals), ctypes.c_long(0), ctypes.c_void_p(page), ctypes.c_long(8))
            came.append(f'{answer} {ctypes.get_errno()}')
            ended.set()
        waiter = threading.Thread(target=wait, daemon=True)
        waiter.start()
        print('ready', flush=True)
        for line in sys.stdin:
            line = line.strip()
            if line == 'where':
                print(waiter.native_id, page, flush=True)
            elif line == 'lay':
                fault = libc.syscall(ctypes.c_long(323), ctypes.c_long(0))
                fcntl.ioctl(fault, 0xc018aa3f, struct.pack('QQQ', 0xaa, 0, 0))
                fcntl.ioctl(fault, 0xc020aa00, struct.pack('QQQQ', page, 4096, 1, 0))
                print('lay' if libc.madvise(page, 4096, 4) == 0 else 'failed', flush=True)
            elif line == 'ended':
                ended.wait()
                print(came[0], flush=True)
        """;

    /// <summary>Whoever passes by may work for another program. A wait whose time is over is ended all the same, also where its time cannot be read any more: it was.</summary>
    [Fact]
    public async Task WhoPassesByAWaitThatIsOverIsNotKeptByItsProgram()
    {
        await using ForeignProgram hostile = await ForeignProgram.Python(Waits), other = await ForeignProgram.Python(Waits);
        await BeginAnew(hostile);
        await BeginAnew(other);
        await hostile.Says("lay");
        using Attendants attendants = new(AgentSession.LookAfterHeld);
        Task<string> ended = other.Answers("ended"), endedThere = hostile.Answers("ended");
        while (!ended.IsCompleted || !endedThere.IsCompleted)
        {
            for (int program = 1; program <= 3; program++)
                Assert.Equal(Attempt.Done, attendants.Try(program, static () => { }, Bound));
            Thread passer = new(static () => AgentSession.LookAfterHeld()) { IsBackground = true };
            passer.Start();
            Assert.True(passer.Join(Bound), "whoever passes by is kept");
            await Task.WhenAny(Task.WhenAll(ended, endedThere), Task.Delay(10, TestContext.Current.CancellationToken));
        }

        string answer = $"-1 {(int)Errno.EAGAIN}";
        Assert.Equal([answer, answer], [await ended, await endedThere]);
    }

    /// <summary>Has its thread's call begun again, as a hold does. What it waits for at most is a millisecond where that is read, and more than a day in the kernel.</summary>
    private static async Task BeginAnew(ForeignProgram program)
    {
        string[] where = (await program.Answers("where")).Split(' ');
        int pid = program.Pid, tid = int.Parse(where[0], CultureInfo.InvariantCulture);
        ulong page = ulong.Parse(where[1], CultureInfo.InvariantCulture);
        Asleep(pid, tid);
        ForeignProgram.Trace(() =>
        {
            SetTime(pid, page, 0, 1_000_000);
            Tracee thread = new(pid, tid);
            Assert.Equal(Errno.None, thread.Seize());
            Assert.Equal(Errno.None, thread.Interrupt());
            Assert.Equal(StopKind.Held, thread.Await(Bound));
            SetTime(pid, page, 100_000, 0);
            thread.Release();
            Assert.False(WorldStop.HasLingering);
        });
        Asleep(pid, tid);
    }

    private static void Asleep(int pid, int tid) => Assert.True(SpinWait.SpinUntil(() => Threads.Look(pid, tid) is { Blocked: true, Number: SYS_rt_sigtimedwait }, Bound));

    private static void SetTime(int pid, ulong page, long seconds, long nanoseconds)
    {
        using FileStream memory = new($"/proc/{pid}/mem", FileMode.Open, FileAccess.Write, FileShare.ReadWrite, 0);
        memory.Position = (long)page;
        memory.Write(MemoryMarshal.AsBytes<long>([seconds, nanoseconds]));
    }
}
