using System.Globalization;
using Samepage.Agent.Tracing;
using Samepage.Agent.X64;
using Samepage.Linux.Interop;
using Samepage.Linux.Processes;

namespace Samepage.LinuxTests;

/// <summary>A thread of a foreign program that makes calls of ours.</summary>
public sealed class BorrowedThreadTests
{
    private const ulong Place = 0x6123_4567_0000, Bytes = 1 << 20;

    /// <summary>The kernel lets go of what a dead tracer held, and the tracer is a thread: it ends here, with its call prepared, as a daemon that is killed does.</summary>
    [Theory]
    [InlineData("cat")]
    [InlineData("sh", "-c", "while read line; do echo \"$line\"; done")]
    [InlineData("sed", "-u", "")]
    public async Task WhoseTracerDiesInTheMiddleOfACallComesBackByItself(string program, params string[] arguments)
    {
        await using ForeignProgram echo = ForeignProgram.Start(program, arguments);
        await echo.Says("before");
        int pid = echo.Pid;
        for (ulong round = 0; round < 20; round++)
        {
            ulong place = Place + 2 * round * Bytes;
            ForeignProgram.Trace(() => BorrowedThread.Borrow(pid).Prepare(AgentAssembler.SYS_mmap, place, Bytes, LibC.PROT_READ,
                LibC.MAP_PRIVATE | LibC.MAP_ANONYMOUS | LibC.MAP_FIXED_NOREPLACE, ulong.MaxValue));
            await echo.Says($"round {round}");
            // It has made the call, too.
            string line = string.Create(CultureInfo.InvariantCulture, $"{place:x}-{place + Bytes:x} r--p");
            Assert.Contains(echo.Maps, mapping => mapping.StartsWith(line, StringComparison.Ordinal));
        }

        Assert.Equal(0, await echo.Ends());
    }

    /// <summary>It maps the code of its C library and of its loader once more, before those that it uses, and writes over all of that, or writes what is looked for where it is not: other programs have a way back all the same, and so has it.</summary>
    [Theory]
    [InlineData("b'\\0' * length")]
    [InlineData("(b'\\x0f\\x05\\xc3\\xb8\\x0f\\0\\0\\0\\x0f\\x05').ljust(length, b'\\0')")]
    public async Task WhatAProgramWritesOverItsCodeTakesNobodysWayBack(string content)
    {
        await using ForeignProgram hostile = await ForeignProgram.Python($"""
            import ctypes, os
            libc = ctypes.CDLL(None)
            libc.mmap.restype = ctypes.c_void_p
            libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
            at = 0x100000
            for line in [line.split() for line in open('/proc/self/maps') if ('/libc.so' in line or '/ld-' in line) and ' r-xp ' in line]:
                start, end = (int(word, 16) for word in line[0].split('-'))
                length = end - start
                assert libc.mmap(at, length, 7, 0x100002, os.open(line[5], os.O_RDONLY), int(line[2], 16)) == at
                ctypes.memmove(at, {content}, length)
                at += length
            print('ready', flush=True)
            input()
            """);
        await using ForeignProgram other = ForeignProgram.Start("cat");
        await other.Says("there");
        for (int round = 0; round < 2; round++)
        {
            HasWayBack(hostile.Pid);
            HasWayBack(other.Pid);
        }
    }

    /// <summary>The first thread of a program, which waits, is given a way back.</summary>
    private static void HasWayBack(int pid)
    {
        string[] call = [];
        while (call.Length < 3)
            call = File.ReadAllText($"/proc/{pid}/syscall").Split(' '); // "running" until it waits
        WayBack? way = WayBack.TryLay(pid, Convert.ToUInt64(call[^2], 16), static (_, _) => true);
        Assert.True(way is not null, $"no way back for {pid}");
        byte[] code = new byte[3];
        Assert.Equal(3, new RemoteMemory(pid).Read(way.Instruction, code));
        Assert.Equal([0x0f, 0x05, 0xc3], code);
    }
}
