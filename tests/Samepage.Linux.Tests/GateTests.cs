using Samepage.Agent;
using Samepage.Agent.Tracing;
using Samepage.Linux;
using Samepage.Linux.Frames;
using Samepage.Linux.Processes;

namespace Samepage.LinuxTests;

/// <summary>Threads whose holder dies.</summary>
public sealed class GateTests
{
    /// <summary>Sleeps in poll(2), which the kernel would go on with by restart_syscall(2); its handler looks where the signal has found it, and the call must end with EINTR.</summary>
    private const string Sleeper = """
        import ctypes, signal, sys
        libc = ctypes.CDLL(None, use_errno=True)
        found = []
        @ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        def handler(number, info, context):
            rip = ctypes.cast(context + 168, ctypes.POINTER(ctypes.c_uint64))[0]
            for line in open('/proc/self/maps'):
                start, end = (int(part, 16) for part in line.split()[0].split('-'))
                if start <= rip < end: found.append(line.split()[-1])
        class Action(ctypes.Structure):
            _fields_ = [('handler', ctypes.c_void_p), ('mask', ctypes.c_uint64 * 16), ('flags', ctypes.c_int), ('restorer', ctypes.c_void_p)]
        libc.sigaction(signal.SIGUSR1, ctypes.byref(Action(ctypes.cast(handler, ctypes.c_void_p).value, flags=4)), None)
        print('ready', flush=True)
        answer = libc.poll(None, 0, 600000)
        where = found[0].split('/')[-1].split('.')[0] if found else 'nowhere'
        for line in sys.stdin: print(where, answer, ctypes.get_errno(), flush=True)
        """;

    /// <summary>Its handler may run for long, or never come back, and the agent's code be gone by then.</summary>
    [Fact]
    public async Task ASignalThatWaitedFindsASleeperInItsOwnCode()
    {
        const int SIGUSR1 = 10;
        await using ForeignProgram sleeper = await ForeignProgram.Python(Sleeper);
        int pid = sleeper.Pid;
        Assert.True(SpinWait.SpinUntil(() => Samepage.Linux.ProcFs.Threads.Look(pid, pid) is { Blocked: true, Number: 7 }, TimeSpan.FromMinutes(1)));
        AgentSession? session = null;
        using FramePool pool = FramePool.Create();
        ForeignProgram.Trace(() =>
        {
            Assert.True(PidFd.TryOpen(pid, out FileDescriptor? pidfd, out _));
            using (pidfd)
                session = AgentSession.Attach(pid, pidfd!, pool, inheritedM: null, static _ => { }, new Entitlement(false, static _ => { }));
            WorldStop world = new(waiting: null);
            string why = "";
            Assert.True(SpinWait.SpinUntil(() => world.TryHold(session, out why) == HoldOutcome.Held, TimeSpan.FromMinutes(1)), why);
            Assert.Equal(0, Samepage.Linux.Interop.FileCalls.kill(pid, SIGUSR1));
        });

        // The holder is a thread, and has ended.
        await sleeper.Says("", "libc -1 4");
        ForeignProgram.Trace(() => Assert.True(session!.Leave()));
        session!.Dispose();
    }
}
