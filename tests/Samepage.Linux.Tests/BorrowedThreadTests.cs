using System.Globalization;
using Samepage.Agent.Tracing;
using Samepage.Agent.X64;
using Samepage.Linux.Interop;

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
}
