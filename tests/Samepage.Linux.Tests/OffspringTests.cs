using Microsoft.Extensions.Logging.Abstractions;
using Samepage.Api;
using Samepage.Daemon;

namespace Samepage.LinuxTests;

/// <summary>Children of a program that was taken in.</summary>
public sealed class OffspringTests
{
    /// <summary>Forks a child, which puts memory of its own in the place of all mappings of frames that it has, or becomes another user, where it is told so, and answers whether its memory is right.</summary>
    private const string Parent = """
        import ctypes, mmap, os, socket, sys
        memory = mmap.mmap(-1, 256 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for i in range(256): memory[i * 4096:(i + 1) * 4096] = (i % 8 + 1).to_bytes(4, 'little') * 1024
        def right(): return all(memory[i * 4096:(i + 1) * 4096] == (i % 8 + 1).to_bytes(4, 'little') * 1024 for i in range(256))
        libc = ctypes.CDLL(None)
        libc.mremap.restype = libc.memcpy.restype = ctypes.c_void_p
        libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
        libc.memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        def strip():
            for line in [line for line in open('/proc/self/maps') if 'samepage-frames' in line]:
                start, end = (int(word, 16) for word in line.split()[0].split('-'))
                fresh = mmap.mmap(-1, end - start, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                kept.append(fresh)
                at = ctypes.addressof(ctypes.c_char.from_buffer(fresh))
                libc.memcpy(at, start, end - start)
                assert libc.mremap(at, end - start, end - start, 3, start) == start
        kept = []
        ours, childs = socket.socketpair()
        def child():
            while word := childs.recv(100):
                if word == b'strip': strip()
                if word == b'leave': os.setuid(65534)
                childs.send(b'right' if right() else b'wrong')
            os._exit(0)
        print('ready', flush=True)
        for line in sys.stdin:
            if line.strip() == 'fork':
                pid = os.fork()
                if not pid: ours.close(); child()
                childs.close()
            elif line.strip():
                ours.send(line.strip().encode())
                print(ours.recv(100).decode(), flush=True)
                continue
            print('right' if right() else 'wrong', flush=True)
        """;

    /// <summary>Such a child is watched over a descriptor of which nobody can tell whose it is. It may live long.</summary>
    [Fact]
    public async Task AChildThatHasUnmappedAllFramesDoesNotKeepItsParent()
    {
        await using ForeignProgram parent = await ForeignProgram.Python(Parent), other = await ForeignProgram.Python(Parent);
        GiveBackWithChild(parent, other, "strip", back => Assert.True(back.Done, $"{back}"));
        Assert.DoesNotContain(parent.Maps, line => line.Contains("samepage", StringComparison.Ordinal));
        await parent.Says("", "right");
        await parent.Says("check", "right");
    }

    /// <summary>One that has frames, and cannot be taken in, does: its parent's warden answers for it.</summary>
    [Fact]
    public async Task AChildThatHasFramesKeepsItsParent()
    {
        await using ForeignProgram parent = await ForeignProgram.Python(Parent), other = await ForeignProgram.Python(Parent);
        GiveBackWithChild(parent, other, "leave", back => Assert.True(!back.Done && back.Reason.Contains("share frames", StringComparison.Ordinal), $"{back}"));
        await parent.Says("check", "right");
    }

    /// <summary>Both are taken in, and merged; the one forks a child that does something, and is given back, and then the other.</summary>
    private static void GiveBackWithChild(ForeignProgram parent, ForeignProgram other, string does, Action<ProcessOutcome> check)
    {
        int pid = parent.Pid, second = other.Pid;
        string folder = Directory.CreateTempSubdirectory("samepage-offspring-").FullName;
        ForeignProgram.Trace(() =>
        {
            using Coordinator coordinator = new(NullLogger.Instance, new AgentRecords(folder));
            StepByStep steps = StepByStep.Here();
            Assert.True(steps.Run(coordinator.Attach(pid)).Done && steps.Run(coordinator.Attach(second)).Done);
            for (int pass = 0; pass < 20; pass++)
                StepByStep.Pass(coordinator, pass % 2 == 0 ? pid : second);
            Assert.True(coordinator.Engine.Figures.PagesSharing > 400, "both are merged");
            Assert.Equal("right", Task.Run(() => parent.Answers("fork")).GetAwaiter().GetResult());
            Assert.Equal("right", Task.Run(() => parent.Answers(does)).GetAwaiter().GetResult());
            ProcessOutcome back = steps.Run(coordinator.Detach(pid));
            check(back);
            Assert.True(steps.Run(coordinator.Detach(second)).Done);
            Assert.True(!back.Done || SpinWait.SpinUntil(() => coordinator.HasGivenAllBack, TimeSpan.FromMinutes(1)), "nobody waits for it");
        });
        Directory.Delete(folder, recursive: true);
    }
}
