using Samepage.Agent.Tracing;
using Samepage.Linux;
using Samepage.Linux.Seccomp;

namespace Samepage.LinuxTests;

/// <summary>A program that puts filters over children, or threads, of its own, and tells what the kernel makes of their calls.</summary>
internal static class FilteredProgram
{
    // judge: what comes of calls of getppid(2); a child that is killed is followed by another. hold: a child that waits. more: filters for all threads, of one instruction each.
    private const string Script = """
        import ctypes, os, resource, signal, sys, threading, time
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall.argtypes = [ctypes.c_long] + [ctypes.c_ulong] * 6
        libc.syscall.restype = ctypes.c_long
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        class Program(ctypes.Structure):
            _fields_ = [('length', ctypes.c_ushort), ('code', ctypes.c_void_p)]
        def put(code, flags=0):
            room = ctypes.create_string_buffer(code, len(code))
            program = Program(len(code) // 8, ctypes.cast(room, ctypes.c_void_p))
            if libc.syscall(317, 1, flags, ctypes.addressof(program), 0, 0, 0):
                os.write(2, b'seccomp: errno %d\n' % ctypes.get_errno())
                os._exit(3)
        def judge(filters, calls):
            told = []
            while len(told) < len(calls):
                end, begin = os.pipe()
                parent = os.getpid()
                child = os.fork()
                if child == 0:
                    trapped = []
                    signal.signal(signal.SIGSYS, lambda *_: trapped.append(1))
                    for code in filters:
                        put(code)
                    for call in calls[len(told):]:
                        answer = libc.syscall(110, *call)
                        error = ctypes.get_errno()
                        os.write(begin, b'trap\n' if trapped else b'made\n' if answer == parent else b'errno:%d\n' % (error if answer == -1 else -answer))
                        trapped.clear()
                    os._exit(0)
                os.close(begin)
                with os.fdopen(end) as lines:
                    told += lines.read().split()
                status = os.waitpid(child, 0)[1]
                if os.WIFSIGNALED(status):
                    told.append('killed' if os.WTERMSIG(status) == signal.SIGSYS else 'signal:%d' % os.WTERMSIG(status))
                elif status:
                    told += ['failed:%d' % status] * len(calls)
            return ' '.join(told)
        def hold(filters):
            end, begin = os.pipe()
            child = os.fork()
            if child == 0:
                for code in filters:
                    put(code)
                os.write(begin, b'.')
                while True:
                    signal.pause()
            os.read(end, 1)
            return str(child)
        def more(first, last):
            for i in range(first, last):
                put(bytes([6, 0, 0, 0, i, 0, 255, 127]), 1)
            return 'done'
        def thread():
            known = []
            threading.Thread(target=lambda: (known.append(threading.get_native_id()), time.sleep(1000000)), daemon=True).start()
            while not known:
                time.sleep(0.001)
            return str(known[0])
        print('ready', flush=True)
        for line in sys.stdin:
            does, *rest = line.split()
            if does == 'judge':
                print(judge([bytes.fromhex(f) for f in rest[0].split(',')], [[int(a, 16) for a in c.split(',')] for c in rest[1:]]), flush=True)
            elif does == 'hold':
                print(hold([bytes.fromhex(f) for f in rest]), flush=True)
            elif does == 'thread':
                print(thread(), flush=True)
            else:
                print(more(int(rest[0]), int(rest[1])), flush=True)
        """;

    public static Task<ForeignProgram> Start() => ForeignProgram.Python(Script);

    /// <summary>What the kernel makes of calls of getppid(2) under filters: <c>made</c>, <c>errno:N</c>, <c>trap</c> or <c>killed</c>.</summary>
    public static async Task<string[]> Judges(this ForeignProgram program, BpfInstruction[][] filters, ulong[][] calls) => (await program.Answers(
        $"judge {string.Join(',', filters.Select(Hex))} {string.Join(' ', calls.Select(call => string.Join(',', call.Select(argument => argument.ToString("x")))))}")).Split(' ');

    /// <summary>A process under filters, that waits.</summary>
    public static async Task<int> Holds(this ForeignProgram program, params BpfInstruction[][] filters) => int.Parse(await program.Answers($"hold {string.Join(' ', filters.Select(Hex))}"));

    /// <summary>Reads filters of a thread, which is stopped for it.</summary>
    /// <param name="pid">Its process.</param>
    /// <param name="tid">The thread.</param>
    /// <param name="isSuspended">Its filters are suspended meanwhile.</param>
    /// <param name="reads">What is done while it stands.</param>
    public static void Stopped(int pid, int tid, bool isSuspended, Action reads) => ForeignProgram.Trace(() =>
    {
        Tracee thread = new(pid, tid) { IsFiltered = isSuspended };
        Assert.Equal(Errno.None, thread.Seize());
        Assert.Equal(Errno.None, thread.Interrupt());
        Assert.Equal(StopKind.Held, thread.Await(TimeSpan.FromMinutes(1)));
        try
        {
            reads();
        }
        finally
        {
            thread.Release();
        }
    });

    private static string Hex(BpfInstruction[] filter) => Convert.ToHexString(Bpf.Bytes(filter));
}
