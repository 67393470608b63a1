using System.Diagnostics;
using System.Globalization;
using Samepage.Linux;
using Samepage.Linux.Processes;
using Samepage.Linux.Userfault;

namespace Samepage.LinuxTests;

/// <summary>The events of a program that makes as many as it can.</summary>
[Collection(nameof(Alone))]
public sealed class UserfaultfdTests
{
    private const int Pages = 200;

    private const string Script = """
        import ctypes, fcntl, os, struct, sys, threading
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
        device = os.open('/dev/userfaultfd', os.O_RDWR)
        uffd = fcntl.ioctl(device, 0xAA00, os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.ioctl(uffd, 0xC018AA3F, bytearray(struct.pack('QQQ', 0xAA, 2, 0)))
        area = libc.mmap(None, 4096 * 400, 3, 0x22, -1, 0)
        fcntl.ioctl(uffd, 0xC020AA00, bytearray(struct.pack('QQQQ', area, 4096 * 400, 1, 0)))
        done, page = [], 0
        def touch(at):
            libc.memset(at, 1, 1)
            done.append(at)
        print('ready', flush=True)
        for line in sys.stdin:
            command = line.split()
            if command[0] == 'touch':
                for _ in range(int(command[1])):
                    threading.Thread(target=touch, args=(area + 4096 * page,), daemon=True).start()
                    page += 1
                print('ok', flush=True)
            elif command[0] == 'fork':
                threading.Thread(target=libc.fork, daemon=True).start()
                print('ok', flush=True)
            elif command[0] == 'uffd':
                print(uffd, flush=True)
            else:
                print(len(done), flush=True)
        """;

    [Fact]
    public async Task OneCallReadsSomeEventsAndSaysThatThereAreMore()
    {
        await using ForeignProgram program = await ForeignProgram.Python(Script);
        using FileDescriptor uffd = await Take(program);
        await program.Says($"touch {Pages}", "ok");
        await Task.Delay(2000, TestContext.Current.CancellationToken);
        int calls = 1;
        Assert.Equal(Unread.More, Userfaultfd.AnswerDiscards(uffd, null, _ => Assert.Fail("nobody forked")));
        while (Userfaultfd.AnswerDiscards(uffd, null, _ => Assert.Fail("nobody forked")) == Unread.More)
            calls++;
        Assert.Equal(Pages / 64, calls);
        await Done(program, Pages);
    }

    [Fact]
    public async Task WithoutADescriptorForProgramsForksWaitAndFaultsAreAnswered()
    {
        await using ForeignProgram program = await ForeignProgram.Python(Script);
        using FileDescriptor uffd = await Take(program);
        List<FileDescriptor> born = [];
        await program.Says("touch 10", "ok");
        await Task.Delay(1000, TestContext.Current.CancellationToken);
        using (FewDescriptors.NoneForPrograms())
            Assert.Equal(Unread.Nothing, Userfaultfd.AnswerDiscards(uffd, null, born.Add));
        await Done(program, 10);

        await program.Says("fork", "ok");
        await Task.Delay(1000, TestContext.Current.CancellationToken);
        using (FewDescriptors.NoneForPrograms())
        {
            Assert.Equal(Unread.NoRoom, Userfaultfd.AnswerDiscards(uffd, null, born.Add));
            Assert.Empty(born);
        }

        // It waited for no more than a descriptor.
        Assert.Equal(Unread.Nothing, Userfaultfd.AnswerDiscards(uffd, null, born.Add));
        Assert.Single(born).Dispose();
        await program.Says("touch 1", "ok");
        for (long since = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(since) < TimeSpan.FromSeconds(1); await Task.Delay(20, TestContext.Current.CancellationToken))
            Assert.Equal(Unread.Nothing, Userfaultfd.AnswerDiscards(uffd, null, born.Add));
        await Done(program, 11);
    }

    private static async Task<FileDescriptor> Take(ForeignProgram program)
    {
        int number = int.Parse(await program.Answers("uffd"), CultureInfo.InvariantCulture);
        Assert.True(PidFd.TryOpenThread(program.Pid, program.Pid, out FileDescriptor? thread, out Errno errno), $"{errno}");
        using (thread)
            return Userfaultfd.Take(thread!, number);
    }

    private static async Task Done(ForeignProgram program, int pages)
    {
        string answer = "";
        for (long since = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(since) < TimeSpan.FromSeconds(30); await Task.Delay(50, TestContext.Current.CancellationToken))
        {
            answer = await program.Answers("done");
            if (answer == $"{pages}")
                return;
        }

        Assert.Equal($"{pages}", answer);
    }
}
